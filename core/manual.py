"""The manual of the command line as Markdown: ``docs/cli.md``, made from the commands themselves.

``python -m dlaconv.manual > docs/cli.md`` writes it anew; a test compares the two.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator
from inspect import Parameter
from itertools import groupby
from typing import Any

from typer.models import OptionInfo

from dlaconv.cli import built_in_commands
from dlaconv.commands.command import Command, info_of, is_argument, session_parameters
from dlaconv.plugins import Plugins

_HEAD = """# The command line

Made from the commands themselves with `python -m dlaconv.manual > docs/cli.md`; do not edit.

Results go to standard output, messages to standard error. Every command takes the options of
[the last section](#options-of-every-command), before or after its name.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | read, but it cannot be converted exactly or legally, or a comparison failed |
| 2 | wrong usage: unknown options, or options that do not fit each other or the file |
| 3 | a file cannot be read |
| 70 | a bug in dlaconv |
| 130 | interrupted |
"""


def manual() -> str:
    """The manual of all built-in commands."""
    commands = built_in_commands(Plugins(third_parties=False))
    parts = [_HEAD]
    for panel, group in groupby(commands, key=lambda command: command.panel):
        parts.append(f"## {panel}\n")
        parts += [_page(command) for command in group]
    parts.append("## Options of every command\n")
    parts.append(_table(list(session_parameters())))
    return "\n".join(parts)


def _page(command: Command) -> str:
    arguments = [item for item in command.parameters if is_argument(item)]
    options = [item for item in command.parameters if not is_argument(item)]
    usage = " ".join([f"dlaconv {command.name}", *map(_argument, arguments), "[OPTIONS]"])
    lines = [f"### dlaconv {command.name}\n", f"    {usage}\n", f"{command.text}\n"]
    for argument in arguments:
        info = info_of(argument)
        if info is not None and info.help:
            lines.append(f"`{_argument(argument)}`: {info.help}\n")
    lines.append(_table(options))
    lines += [f"    {example}\n" for example in command.examples]
    return "\n".join(lines)


def _argument(parameter: Parameter) -> str:
    info = info_of(parameter)
    name = (info.metavar if info else None) or parameter.name.upper()
    name = str(name)
    if "list[" in str(parameter.annotation):
        name += "..."
    return name if parameter.default is Parameter.empty else f"[{name}]"


def _table(options: list[Parameter]) -> str:
    rows = ["| option | meaning |", "|---|---|"]
    for option in options:
        info = info_of(option)
        text = (info.help if info else None) or ""
        spelled = " ".join(_spellings(option)).replace("|", "\\|")  # no end of a cell
        rows.append(f"| {spelled} | {text}{_default(option)} |")
    return "\n".join(rows) + "\n"


def _spellings(option: Parameter) -> Iterator[str]:
    info = info_of(option)
    names = list(info.param_decls or ()) if isinstance(info, OptionInfo) else []
    # As an annotation, typer keeps the first spelling where a default would be.
    if isinstance(info, OptionInfo) and isinstance(info.default, str):
        names.insert(0, info.default)
    names = names or [f"--{option.name.replace('_', '-')}"]
    value = _value(option)
    yield f"`{', '.join(names)}{' ' + value if value else ''}`"


def _value(option: Parameter) -> str:
    info = info_of(option)
    if info is not None and info.metavar:
        return str(info.metavar)
    kinds = getattr(option.annotation, "__args__", (option.annotation,))
    kind: Any = kinds[0]
    for part in (kind, *getattr(kind, "__args__", ())):
        if isinstance(part, type) and issubclass(part, enum.Enum):
            return "/".join(str(item.value) for item in part)
        if part is int:
            return "N"
        if part is bool:
            return ""
    return "TEXT"


def _default(option: Parameter) -> str:
    if option.default is Parameter.empty:
        return " Required."
    if option.default is None or isinstance(option.default, bool):
        return ""
    return f" Default: `{option.default}`."


if __name__ == "__main__":
    sys.stdout.write(manual())
