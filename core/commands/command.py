"""What a command is: a function whose annotated parameters are its arguments and options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter
from types import SimpleNamespace
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, ParameterInfo

from dlaconv.console import Console
from dlaconv.diagnostics import Diagnostics
from dlaconv.errors import UsageError
from dlaconv.plugins import Plugins

T = TypeVar("T")

CliError: type[Exception] = typer.BadParameter.__mro__[2]
"""The base of every usage error of typer, which keeps the class itself private."""

CONVERT, INSPECT, PROVE = "Convert", "Inspect", "Prove"
"""The groups of commands, in the order of ``--help``."""


@dataclass
class Session:
    """What every command of one run shares.

    Attributes:
        plugins: the loaded plugins.
        console: where results and messages go.
        debug: shows tracebacks.
    """

    plugins: Plugins
    console: Console
    debug: bool = False


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Attributes:
        name: what the user types.
        run: called with the session and the parsed parameters; returns the exit code.
        text: the manual; its first line is the summary.
        panel: the group it is listed in.
        examples: command lines that work, for the end of the help.
        parameters: arguments and options, each annotated for typer.
    """

    name: str
    run: Callable[..., int]
    text: str
    panel: str
    examples: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = field(default=())

    @property
    def summary(self) -> str:
        """The first line of the manual."""
        return self.text.partition("\n")[0]


MESSAGES = "Messages"
"""The group of options about what is printed; last in every help."""

Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=MESSAGES),
]
QuietInFull = Annotated[
    bool, typer.Option("--quiet", help="Print errors only.", rich_help_panel=MESSAGES)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also print notes, timings and what is wrong with plugins.",
        rich_help_panel=MESSAGES,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show the Python traceback of an error.", rich_help_panel=MESSAGES
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document on standard output.", rich_help_panel=MESSAGES
    ),
]


@dataclass(frozen=True)
class Made:
    """Annotates a parameter whose value is made of several options, which commands share.

    Attributes:
        make: called with a `Diagnostics`, for what is wrong with the options, and with the
            options, its keyword parameters; some of these may be made of options, too.
    """

    make: Callable[..., Any]

    @property
    def parameters(self) -> list[Parameter]:
        """The keyword parameters."""
        return parameters_of(self.make)[1:]


def command(
    name: str, function: Callable[..., int], *, panel: str, examples: Iterable[str] = ()
) -> Command:
    """Makes a command of ``function(session, ...)``; its docstring becomes the manual.

    Args:
        name: what the user types.
        function: the command.
        panel: the group it is listed in.
        examples: command lines for the end of the help.
    """
    _, *own = parameters_of(function)

    def run(session: Session, **values: Any) -> int:
        return function(session, **made(own, values))

    text = inspect.cleandoc(function.__doc__ or "")
    return Command(name, run, text, panel, tuple(examples), options_of(own))


def options_of(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """The options that parameters are, or are made of; those about messages come last.

    Raises:
        ValueError: if two have one name.
    """
    found: list[Parameter] = []
    for parameter in parameters:
        group = _annotation(parameter, Made)
        found += [parameter] if group is None else options_of(group.parameters)
    return merged(found)


def made(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of parameters, from those of the options that they are made of.

    Raises:
        UsageError: if options cannot be read or contradict each other; all of them are named.
    """
    problems = Diagnostics()

    def value(parameter: Parameter) -> Any:
        group = _annotation(parameter, Made)
        if group is None:
            return values[parameter.name]
        return group.make(problems, **{item.name: value(item) for item in group.parameters})

    found = {parameter.name: value(parameter) for parameter in parameters}
    if problems.errors:
        raise UsageError(problems)
    return found


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a function with resolved annotations, as keyword parameters.

    ``**options`` is left out.

    Raises:
        TypeError: if one takes a variable number of positional values.
        NameError: if an annotation cannot be resolved.
    """
    # The result's type is left out: it need not be importable here.
    inputs = {k: v for k, v in getattr(function, "__annotations__", {}).items() if k != "return"}
    known = SimpleNamespace(
        __annotations__=inputs, __globals__=getattr(inspect.unwrap(function), "__globals__", {})
    )
    hints = get_type_hints(known, include_extras=True)
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is Parameter.VAR_KEYWORD:
            continue
        if parameter.kind is Parameter.VAR_POSITIONAL:
            raise TypeError(f"parameter *{parameter.name} cannot become an option")
        annotation = hints.get(parameter.name, parameter.annotation)
        found.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=annotation))
    return found


def info_of(parameter: Parameter) -> ParameterInfo | None:
    """The typer annotation of a parameter, None without one."""
    return _annotation(parameter, ParameterInfo)


def _annotation(parameter: Parameter, kind: type[T]) -> T | None:
    if get_origin(parameter.annotation) is Annotated:
        for extra in get_args(parameter.annotation)[1:]:
            if isinstance(extra, kind):
                return extra
    return None


def is_argument(parameter: Parameter) -> bool:
    """True for a positional argument of the command line, False for an option."""
    info = info_of(parameter)
    return isinstance(info, ArgumentInfo) if info else parameter.default is Parameter.empty


def merged(*groups: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Joins parameters of several functions; those about messages come last, as in every help.

    Raises:
        ValueError: if two have one name.
    """
    found: dict[str, Parameter] = {}
    for parameter in (item for group in groups for item in group):
        if parameter.name in found:
            raise ValueError(f"parameter {parameter.name!r} collides with a shared option")
        found[parameter.name] = parameter
    return tuple(sorted(found.values(), key=_is_about_messages))


def _is_about_messages(parameter: Parameter) -> bool:
    info = info_of(parameter)
    return info is not None and info.rich_help_panel == MESSAGES


def session_parameters(own: Iterable[Parameter] = ()) -> tuple[Parameter, ...]:
    """The options that every command has.

    Args:
        own: the parameters of the command; if one is spelled ``-q``, only ``--quiet`` is quiet.
    """

    def shared(*, quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False) -> None: ...

    def longer(
        *, quiet: QuietInFull = False, verbose: Verbose = False, debug: Debug = False
    ) -> None: ...

    taken = any("-q" in (getattr(info_of(item), "param_decls", None) or ()) for item in own)
    return tuple(parameters_of(longer if taken else shared))
