"""In which form results are printed: ``--format`` and ``--json``."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from dlaconv.commands.command import MESSAGES
from dlaconv.commands.options import conflict
from dlaconv.console import Console
from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError
from dlaconv.plugins import Plugins


class Format(enum.StrEnum):
    """``--format``."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


OutputFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="How to print results: text unless given; sarif is SARIF 2.1.0, which code-scanning "
        "services take.",
        rich_help_panel=MESSAGES,
    ),
]


def chosen_format(output_format: Format | None, *, as_json: bool) -> Format:
    """The format that ``--format`` and ``--json`` ask for.

    Raises:
        UsageError: if they ask for two.
    """
    if as_json and output_format not in {None, Format.JSON}:
        options = f"--json and --format {output_format}"
        raise UsageError(conflict(options, "they ask for two formats"))
    return Format.JSON if as_json else output_format or Format.TEXT


def asked_format(args: Sequence[str]) -> Format:
    """The format that a command line asks for, even one that cannot be understood."""
    for name in (Format.JSON, Format.SARIF):
        if f"--format={name}" in args or ("--format", name.value) in pairwise(args):
            return name
    return Format.JSON if "--json" in args else Format.TEXT


def print_sarif(
    console: Console,
    plugins: Plugins | None,
    found: Iterable[Diagnostic],
    exit_code: int,
    *,
    file: Path | None = None,
    failed: bool = False,
) -> None:
    """Prints diagnostics as one SARIF log on standard output.

    Args:
        console: where to.
        plugins: whose rules are described too; None if loading them has failed.
        found: the diagnostics.
        exit_code: how the run ends.
        file: the file that was looked at.
        failed: True if the diagnostics are no findings but say why there are none.
    """
    from dlaconv.driver.inspection import rule_list
    from dlaconv.sarif import sarif_log

    rules = [] if plugins is None else rule_list(plugins)
    log = sarif_log(found, rules, file=str(file or ""), exit_code=exit_code, failed=failed)
    console.json(log)
