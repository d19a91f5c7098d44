"""The command line: builds the application from commands and plugins, and renders every failure.

No conversion logic is here, and nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dlaconv.commands import (
    compare,
    convert,
    dump,
    inspection,
    prove,
    sensitivity,
    show,
    strip,
    validate,
)
from dlaconv.commands.command import (
    CliError,
    Command,
    Debug,
    Quiet,
    Session,
    Verbose,
    merged,
    session_parameters,
)
from dlaconv.commands.formats import Format, asked_format, print_sarif
from dlaconv.commands.options import conflict
from dlaconv.console import Console
from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.errors import (
    EXIT_INTERNAL,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNREADABLE,
    EXIT_USAGE,
    ConversionError,
    DlaconvError,
    InternalError,
    UsageError,
    UserError,
)
from dlaconv.plugins import Plugin, Plugins

EXIT_INTERRUPTED = 130

_TEXT = """Turn a quantised network into the fixed-point ONNX file of the ACCESS DLA, and prove that
the integers are right.

Exit codes: 0 done; 1 read, but it cannot be converted exactly or legally, or a comparison failed;
2 wrong usage; 3 a file cannot be read; 70 a bug in dlaconv; 130 interrupted."""
_EPILOG = """Start with one of these; --help behind a command explains it:

dlaconv from-qonnx net.onnx -o net.dla.onnx

dlaconv from-onnx net.onnx -o net.dla.onnx --calibrate photos/ --preset torchvision"""


_ALLOCATIONS = 500_000
"""Allocations between two collections of garbage: graphs are large, and hardly any is left."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code."""
    gc.set_threshold(_ALLOCATIONS)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts threads that we do not use
    # a stream that the caller closed is None; what would go there is dropped
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    _clean_up_on_termination()
    code = run(sys.argv[1:] if args is None else args)
    gc.freeze()  # no last search for garbage: the system takes the memory back anyway
    sys.exit(code)


def _clean_up_on_termination() -> None:
    """Lets a polite request to end run the clean-up of what is half written, as Ctrl-C does."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # there is no SIGHUP on Windows
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def run(args: Sequence[str], plugins: Plugins | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        args: the arguments without the program's name.
        plugins: the plugins to use; loads the installed ones if None.
    """
    console = Console()
    session: Session | None = None
    try:
        session = Session(plugins or Plugins(), console)
        group = application(session)
        code = group.main(list(args) or ["--help"], "dlaconv", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        console.message("interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        debug = session.debug if session else "--debug" in args
        known = session.plugins if session else None
        return _report_failure(error, console, asked_format(args), known, debug=debug)
    return code if isinstance(code, int) else EXIT_OK


def application(session: Session) -> TyperGroup:
    """The whole command line, with a command for each frontend and those of plugins."""
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

    @app.callback(help=_escaped(_TEXT), epilog=_EPILOG)
    def _global_options(
        *,
        version: Annotated[
            bool,
            typer.Option(
                "--version", help="Print the version and stop.", callback=_version, is_eager=True
            ),
        ] = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
        debug: Debug = False,
    ) -> None:
        assert not version  # its callback has ended the run
        _apply(session, quiet=quiet, verbose=verbose, debug=debug)

    for command in built_in_commands(session.plugins):
        app.command(
            command.name,
            help=_escaped(command.text),
            epilog=_examples(command),
            rich_help_panel=command.panel,
        )(_typer_function(command, session))
    group = typer.main.get_group(app)
    for plugin, extra in session.plugins.commands():
        _add_plugin_commands(group, plugin, extra)
    return group


def built_in_commands(plugins: Plugins) -> list[Command]:
    """One command for each usable frontend, then the fixed ones."""
    found = []
    for name, frontend in plugins.frontends.items():
        owner = plugins.owner(name)
        try:
            command = convert.from_command(frontend)
            _check_buildable(command)
        except Exception as error:
            if owner.built_in:
                raise
            owner.note(f"frontend {name!r}: {error}")
            continue
        found.append(command)
    fixed = (convert, strip, show, inspection, prove, compare, dump, validate, sensitivity)
    return [*found, *(command for module in fixed for command in module.commands())]


def _typer_function(command: Command, session: Session | None) -> Callable[..., int]:
    parameters = merged(command.parameters, session_parameters(command.parameters))

    def call(**values: Any) -> int:
        assert session is not None
        _apply(session, **{name: values.pop(name) for name in ("quiet", "verbose", "debug")})
        _warn_of_plugins(session)
        return command.run(session, **values)

    call.__name__ = command.name
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _check_buildable(command: Command) -> None:
    """Lets typer look at a command on its own, so that a bad one harms no other."""
    scratch = typer.Typer(add_completion=False)
    scratch.command(command.name)(_typer_function(command, None))
    typer.main.get_command(scratch)


def _add_plugin_commands(group: TyperGroup, plugin: Plugin, app: typer.Typer) -> None:
    try:
        extra = typer.main.get_group(app).commands
    except Exception as error:  # an annotation that typer cannot turn into an option, say
        plugin.note(f"register_commands: {type(error).__name__}: {error}")
        return
    for name, command in extra.items():
        if name in group.commands:
            plugin.note(f"there is a command {name!r} already")
        else:
            command.rich_help_panel = "Plugins"  # type: ignore[attr-defined]
            group.add_command(command, name)


def _apply(session: Session, *, quiet: bool, verbose: bool, debug: bool) -> None:
    console = session.console
    console.quiet |= quiet
    console.verbose |= verbose
    session.debug |= debug
    if console.quiet and console.verbose:
        raise UsageError(conflict("--quiet and --verbose", "one says less, the other more"))


def _warn_of_plugins(session: Session) -> None:
    if session.console.verbose:
        for plugin in session.plugins.broken:
            session.console.message(f"warning: plugin {plugin}: {plugin.problems[0]}")


def _version(*, value: bool) -> None:
    if value:
        from dlaconv import __version__

        typer.echo(f"dlaconv {__version__}")
        raise typer.Exit


def _report_failure(
    error: Exception, console: Console, asked: Format, plugins: Plugins | None, *, debug: bool
) -> int:
    if debug:
        traceback.print_exception(error)
    diagnostics, code = _explained(error)
    with contextlib.suppress(OSError):  # it may be standard output that failed
        if asked is Format.SARIF:
            # a refused network has been looked at: these are findings
            failed = not isinstance(error, ConversionError)
            print_sarif(console, plugins, diagnostics, code, failed=failed)
        elif asked is Format.JSON:
            from dlaconv import __version__

            found = [item.as_json() for item in diagnostics]
            console.json({"dlaconv": __version__, "exit_code": code, "diagnostics": found})
    console.diagnostics(diagnostics)
    if isinstance(error, UserError) and error.advice:
        console.message(error.advice)
    return code


def _explained(error: Exception) -> tuple[Diagnostics, int]:
    if isinstance(error, UserError):
        return error.diagnostics, error.exit_code
    if isinstance(error, CliError):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "dlaconv"
        text = getattr(error, "format_message", error.__str__)()
        usage = Diagnostic("DLA425", "usage", text, help=f"`{path} --help` explains the usage")
        return Diagnostics([usage]), EXIT_USAGE
    if isinstance(error, MemoryError):
        text = "there is not enough memory for this network and these samples"
        return Diagnostics([Diagnostic("DLA442", "out-of-memory", text)]), EXIT_REFUSED
    if isinstance(error, OSError):
        place = Location(file=str(error.filename or ""))
        text = error.strerror or str(error)
        access = Diagnostic("DLA441", "file-access", text, location=place)
        return Diagnostics([access]), EXIT_UNREADABLE
    if not isinstance(error, DlaconvError):
        error = InternalError(f"{type(error).__name__}: {error}")
    bug = Diagnostic(
        "DLA490",
        "internal-error",
        str(error),
        help="run it again with --debug and send the traceback with your report",
    )
    return Diagnostics([bug]), EXIT_INTERNAL


def _examples(command: Command) -> str | None:
    if not command.examples:
        return None
    return _escaped("\n\n".join(["Examples:", *command.examples]))


def _escaped(text: str) -> str:
    """Text for typer: a line per paragraph, and no markup."""
    paragraphs = (" ".join(block.split()) for block in text.split("\n\n"))
    return "\n\n".join(paragraphs).replace("[", r"\[")
