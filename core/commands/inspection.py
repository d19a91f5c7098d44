"""``dlaconv check``, ``rule``, ``ops`` and ``plugins``: looking at files and at dlaconv itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlaconv import api
from dlaconv.commands.command import INSPECT, Command, Json, Session, command
from dlaconv.commands.formats import Format, OutputFormat, chosen_format, print_sarif
from dlaconv.commands.options import Target
from dlaconv.errors import EXIT_OK, EXIT_REFUSED, UsageError
from dlaconv.files import require_file


def check(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A fixed-point ONNX file.")],
    target: Target = None,
    output_format: OutputFormat = None,
    as_json: Json = False,
) -> int:
    """Check a fixed-point ONNX file against the rules of the hardware.

    Names each violation with its rule, its node and what to do. Ends with 1 if there is an error,
    with 0 if there are warnings only.
    """
    from dlaconv.summary import check_json, check_summary

    chosen = chosen_format(output_format, as_json=as_json)
    result = api.check(file, target=target, plugins=session.plugins)
    code = EXIT_REFUSED if result.diagnostics.errors else EXIT_OK
    document = check_json(result, file)
    if chosen is Format.SARIF:
        print_sarif(session.console, session.plugins, result.diagnostics, code, file=file)
    elif chosen is Format.JSON:
        session.console.json(document)
    else:
        session.console.diagnostics(result.diagnostics)
        session.console.result(check_summary(document, verbose=session.console.verbose))
    return code


def rule(
    session: Session,
    *,
    rule_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="An id, such as IO-3 or DLA301; all without it."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Explain a rule of the hardware or another diagnostic by its id, or list them all.

    Says what a rule asks for, why the hardware needs it, and how to change a network that breaks
    it. Ids of all other diagnostics start with DLA.
    """
    from dlaconv.driver.inspection import rule_list, rule_text
    from dlaconv.summary import table, unknown_rule

    console = session.console
    rows = rule_list(session.plugins)
    if rule_id is None:
        if as_json:
            console.json(rows)
        else:
            shown = [{key: row[key] for key in ("id", "name", "severity")} for row in rows]
            for line, row in zip(shown, rows, strict=True):
                line["clause or meaning"] = row["clause"] or row["summary"]
            console.result(table(shown))
        return EXIT_OK
    found = next((row for row in rows if row["id"].lower() == rule_id.lower()), None)
    if found is None:
        raise UsageError(unknown_rule(rule_id, [row["id"] for row in rows]))
    if as_json:
        console.json(found)
    else:
        console.result(rule_text(found["id"], session.plugins))
    return EXIT_OK


def ops(session: Session, *, target: Target = None, as_json: Json = False) -> int:
    """List the operators that the hardware runs, with their limits."""
    from dlaconv.driver.inspection import ops_rows
    from dlaconv.summary import table

    rows = ops_rows(None if target is None else require_file(target))
    session.console.document(rows, table, as_json=as_json)
    return EXIT_OK


def plugins(session: Session, *, as_json: Json = False) -> int:
    """List the plugins: where they come from, what they add, and what is wrong with them.

    Plugins are Python packages with an entry point in the group dlaconv. The environment variable
    DLACONV_PLUGINS names the ones to load, comma-separated; empty, it turns all of them off.
    """
    from dlaconv.summary import table

    found = session.plugins.all
    if as_json:
        session.console.json([plugin.as_json() for plugin in found])
        return EXIT_OK
    rows = [
        {
            "plugin": plugin.name,
            "from": "built in" if plugin.built_in else plugin.distribution,
            "state": "BROKEN" if plugin.problems else "ok",
            "adds": ", ".join(
                [f"from-{name}" for name in plugin.frontends]
                or [hook.removeprefix("register_") for hook in plugin.hooks]
            ),
        }
        for plugin in found
    ]
    session.console.result(table(rows))
    for plugin in session.plugins.broken:
        for problem in plugin.problems:
            session.console.result(f"{plugin.name}: {problem}")
    return EXIT_OK


def commands() -> list[Command]:
    """The commands of this module."""
    return [
        command(
            "check",
            check,
            panel=INSPECT,
            examples=(
                "dlaconv check net.dla.onnx",
                "dlaconv check net.dla.onnx --format sarif > net.sarif",
            ),
        ),
        command("rule", rule, panel=INSPECT, examples=("dlaconv rule IO-3", "dlaconv rule DLA301")),
        command("ops", ops, panel=INSPECT, examples=("dlaconv ops --json",)),
        command("plugins", plugins, panel=INSPECT),
    ]
