"""What a frontend takes: further files, and options as text, ``NAME=VALUE``, wherever it is used.

The options are those of its command ``dlaconv from-<name>``, without dashes. Typer reads them, so
they mean the same everywhere.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterable, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from dlaconv.commands.command import CliError, info_of, is_argument, parameters_of
from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError

if TYPE_CHECKING:
    from dlaconv.frontends import Frontend

NONE = "none"
"""In place of options: the frontend's defaults, whatever a converted file was made with."""


def own_parameters(frontend: Frontend) -> list[Parameter]:
    """The parameters of a frontend that the user gives; the first is the file.

    Raises:
        TypeError: if one cannot become an argument or option.
        NameError: if an annotation cannot be resolved.
    """
    from dlaconv.frontends import GIVEN

    return [item for item in parameters_of(frontend.load) if item.name not in GIVEN]


def file_parameters(frontend: Frontend) -> list[Parameter]:
    """The parameters of a frontend that are the files of a network; the first is the network."""
    own = own_parameters(frontend)
    return [own[0], *(item for item in own[1:] if is_argument(item) and _is_path(item))]


def option_parameters(frontend: Frontend) -> list[Parameter]:
    """The parameters of a frontend that are options of its command and say how it reads."""
    try:
        others = {item.name for item in file_parameters(frontend)} | written_parameters(frontend)
    except (TypeError, NameError):  # a plugin whose load makes no command
        return []
    return [item for item in own_parameters(frontend) if item.name not in others]


def written_parameters(frontend: Frontend) -> set[str]:
    """The names of the parameters of a frontend that name files to write: ``writable`` ones."""
    try:
        own = own_parameters(frontend)
    except (TypeError, NameError):
        return set()
    return {item.name for item in own if getattr(info_of(item), "writable", False)}


def file_names(parameters: Iterable[Parameter]) -> list[str]:
    """What the help calls files, such as PROTOTXT."""
    return [
        getattr(info_of(item), "metavar", None) or item.name.upper().replace("_", "-")
        for item in parameters
    ]


def read_words(frontend: Frontend, words: Sequence[str]) -> dict[str, Any]:
    """Reads options.

    Args:
        frontend: what they are for.
        words: ``NAME=VALUE`` each, or ``NAME`` for what is on or off; `NONE` alone for none.

    Returns:
        Those that are given, by the name of the frontend's parameter.

    Raises:
        UsageError: if there is no such option, or a value cannot be read.
    """
    if list(words) == [NONE]:
        return {}
    own = option_parameters(frontend)
    found: dict[str, Any] = {}

    def keep(**values: Any) -> None:
        found.update(values)

    defaults = {item.name: item.default for item in own}
    keep.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    keep.__annotations__ = {item.name: item.annotation for item in own}
    reader = typer.Typer(add_completion=False)
    reader.command(add_help_option=False)(keep)
    try:
        command = typer.main.get_command(reader)
        command.main(_arguments(words), "source", standalone_mode=False)
    except CliError as error:
        text = getattr(error, "format_message", error.__str__)()
        raise UsageError(
            Diagnostic(
                "DLA414",
                "frontend-arguments",
                f"--source-option {' '.join(words)}: {text}",
                help=f"write NAME=VALUE with an option of `dlaconv from-{frontend.name} --help`, "
                "without its dashes",
            )
        ) from None
    return {name: value for name, value in found.items() if value != defaults[name]}


def _arguments(words: Iterable[str]) -> list[str]:
    bare = [word.lstrip("-") for word in words]
    if not all(bare):
        raise typer.BadParameter("an option has a name")
    return [f"--{word}" for word in bare]


def words_of(frontend: Frontend, options: Mapping[str, Any], *, places: bool = True) -> list[str]:
    """Options as `read_words` reads them; those that have their default are left out.

    Args:
        frontend: what they are for.
        options: values by the name of the frontend's parameter.
        places: gives files with their folders.
    """
    found: list[str] = []
    for parameter in option_parameters(frontend):
        value = options.get(parameter.name, parameter.default)
        if value is None or value == parameter.default:
            continue
        if not places and _is_path(parameter):
            value = Path(value).name
        on, off = _spelling(parameter)
        if isinstance(value, bool):
            found += [word for word in (on if value else off,) if word]
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        found += [f"{on}={item.value if isinstance(item, enum.Enum) else item}" for item in values]
    return found


def paths_in(frontend: Frontend, options: Mapping[str, Any]) -> list[Path]:
    """The files to read that options name."""
    names = [item.name for item in option_parameters(frontend) if _is_path(item)]
    return [Path(options[name]) for name in names if options.get(name) is not None]


def _is_path(parameter: Parameter) -> bool:
    def holds(annotation: Any) -> bool:
        return annotation is Path or any(map(holds, get_args(annotation)))

    return holds(parameter.annotation)


def _spelling(parameter: Parameter) -> tuple[str, str]:
    """How an option is called when it is on, or has a value, and when it is off."""
    declared = [*(getattr(info_of(parameter), "param_decls", None) or ())]
    default = getattr(info_of(parameter), "default", None)
    if isinstance(default, str):
        declared.insert(0, default)
    for text in declared:
        on, _, off = text.partition("/")
        if on.strip().startswith("--"):
            return on.strip()[2:], off.strip()[2:]
    name = parameter.name.replace("_", "-")
    return name, f"no-{name}"
