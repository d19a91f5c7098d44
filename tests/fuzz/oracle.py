"""What must hold when a mutant is read: a result that reads back, or diagnostics and no file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import traceback
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

import dlaconv.backends
import dlaconv.frontends
import dlaconv.ir
from dlaconv import cli
from dlaconv.diagnostics import Diagnostics
from dlaconv.errors import UserError
from dlaconv.plugins import Plugins

_PACKAGES = {
    f"{Path(package.__path__[0])}/": f"{package.__name__.replace('.', '/')}/"
    for package in (dlaconv.backends, dlaconv.frontends, dlaconv.ir, dlaconv)
}
"""Where the program's packages lie, and what they are called."""
_FRAME = re.compile(r'File "([^"]+)", line (\d+)(?:, in| in) (\S+)')
_EXITS = {0, 1, 2, 3}


class BrokenPromiseError(Exception):
    """The program ended in order, but not as it must.

    Attributes:
        detail: more than what failures are grouped by.
    """

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(what)
        self.detail = detail


@cache
def plugins() -> Plugins:
    """The plugins, loaded once per process."""
    return Plugins()


def group_of(error: BaseException) -> str:
    """What an error is grouped by: the type of its cause and the innermost line of our code."""
    if isinstance(error, BrokenPromiseError):
        return str(error)
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {_innermost(lines)}"


def group_of_text(kind: str, text: str, *, newest_first: bool = False) -> str:
    """The same for a traceback in words, as ``faulthandler`` and ``--debug`` print it."""
    lines = [f"{file}:{line}" for file, line, _ in _FRAME.findall(text)]
    return f"{kind} at {_innermost(lines[::-1] if newest_first else lines)}"


def _innermost(lines: list[str]) -> str:
    """The last line that is the program's; else the last one."""
    named = [_named(line) for line in lines]
    ours = [name for line, name in zip(lines, named, strict=True) if name != line]
    return (ours or named or ["nowhere"])[-1]


def _named(line: str) -> str:
    for folder, package in _PACKAGES.items():
        if line.startswith(folder):
            return package + line.removeprefix(folder)
    return line


@contextlib.contextmanager
def silence(*, said: bool = False) -> Iterator[SimpleNamespace]:
    """Lets nothing pass to the standard streams; it must stay silent unless ``said``.

    Warnings that Python shows by default count as noise.
    """
    streams = SimpleNamespace(out=io.StringIO(), err=io.StringIO())
    with (
        contextlib.redirect_stdout(streams.out),
        contextlib.redirect_stderr(streams.err),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        for quiet in (
            DeprecationWarning,
            PendingDeprecationWarning,
            ImportWarning,
            ResourceWarning,
        ):
            warnings.simplefilter("ignore", quiet)
        yield streams
    for item in caught:
        where = _named(f"{item.filename}:{item.lineno}")
        what = f"{item.category.__name__} shown at {where}"
        raise BrokenPromiseError(what, str(item.message))
    noise = streams.err.getvalue()
    if not said and (noise or streams.out.getvalue()):
        raise BrokenPromiseError("the API prints", noise or streams.out.getvalue())
    if "Traceback" in noise:
        raise BrokenPromiseError("a traceback is printed", noise)


def explained(error: UserError) -> str:
    """The rule of the first error of a refusal, which must be one that can be shown."""
    check_diagnostics(error.diagnostics)
    if not error.diagnostics.errors:
        raise BrokenPromiseError("a refusal without an error", str(error))
    return error.diagnostics.errors[0].rule


def check_diagnostics(found: Diagnostics) -> None:
    """Every finding must have its parts, as text and as JSON."""
    for item in found:
        document = json.dumps(item.as_json(), allow_nan=False)
        if not (item.rule and item.name and item.message.strip() and str(item) and document):
            raise BrokenPromiseError(f"{item.rule} says nothing", repr(item))


def command(*args: str, as_json: bool) -> tuple[int, Any, str]:
    """Runs a command line; returns its exit code, its JSON document and its messages.

    Args:
        args: the arguments.
        as_json: whether they ask for one JSON document on standard output.
    """
    with silence(said=True) as streams:
        code = cli.run(args, plugins())
    shown = streams.err.getvalue()
    if code not in _EXITS:
        raise BrokenPromiseError(f"exit code {code}: {_cause_of(args)}", shown)
    if not as_json:
        failed = "error[" in shown or "FAILED" in streams.out.getvalue()
        if code and not failed:
            raise BrokenPromiseError(f"exit code {code} without an error message", shown)
        return code, None, shown
    try:
        document = json.loads(streams.out.getvalue(), parse_constant=_no_json)
    except ValueError as error:
        raise BrokenPromiseError("no JSON document", streams.out.getvalue()[:500]) from error
    return code, document, shown


def _cause_of(args: tuple[str, ...]) -> str:
    """What a command fails by, from the traceback that it prints on demand."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as shown,
    ):
        cli.run([*args, "--debug"], plugins())
    text = shown.getvalue().partition("The above exception was the direct cause")[0]
    kinds = re.findall(r"^([A-Za-z_][\w.]*)(?::|$)", text, re.MULTILINE)
    return group_of_text(kinds[0].rpartition(".")[2] if kinds else "?", text)


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def snapshot(folder: Path) -> dict[str, str]:
    """Everything in a folder and what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "pipe" if path.is_fifo() else "folder"
    return found


def check_report(path: Path) -> dict[str, Any]:
    """A report must be JSON, and as its schema has it."""
    document: dict[str, Any] = json.loads(path.read_text("utf-8"), parse_constant=_no_json)
    if (error := best_match(_report_schema().iter_errors(document))) is not None:
        where = ".".join("N" if isinstance(part, int) else part for part in error.absolute_path)
        raise BrokenPromiseError(f"the report breaks its schema at {where}", error.message)
    return document


@cache
def _report_schema() -> Any:
    schemas = [
        json.loads(path.read_text("utf-8"))
        for path in files("dlaconv.schemas").iterdir()
        if path.name.endswith(".schema.json")
    ]
    registry = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas if "$id" in schema
    )
    report = json.loads(files("dlaconv.schemas").joinpath("report.schema.json").read_text("utf-8"))
    return Draft202012Validator(report, registry=registry)
