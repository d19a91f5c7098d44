"""What the hardware allows: rules, operators, checking a file; and what diagnostics mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.driver.reading import load_target, read_access_model
from dlaconv.explanations import EXPLANATIONS

if TYPE_CHECKING:
    from dlaconv.backends.access.rules import CheckResult
    from dlaconv.plugins import Plugins


def check_file(path: Path, target: Path | None, plugins: Plugins) -> CheckResult:
    """Checks an ACCESS file against every rule.

    Raises:
        UnreadableError: if the file cannot be parsed.
    """
    from dlaconv.backends.access.rules import check_model

    description = load_target(target)
    return check_model(read_access_model(path, description), description, extra=plugins.rules())


def rule_text(rule: str, plugins: Plugins) -> str:
    """The documentation of a rule or another diagnostic by its id, in any letter case.

    Raises:
        KeyError: if there is no such id.
    """
    from dlaconv.backends.access.rules import documentation

    explained = next((item for item in EXPLANATIONS if item.id.lower() == rule.lower()), None)
    return str(explained) if explained else documentation.rule_text(rule, plugins.rules())


def rule_list(plugins: Plugins) -> list[dict[str, str]]:
    """Every rule, then every other diagnostic, as JSON values with one set of keys.

    The keys are id, name, severity, clause (empty for what is no rule of the hardware), summary,
    what, why and remedy.
    """
    from dlaconv.backends.access.rules import documentation

    rules = documentation.rule_list(plugins.rules())
    return [*rules, *(item.as_json() for item in EXPLANATIONS)]


def ops_rows(target: Path | None) -> list[dict[str, Any]]:
    """What the hardware runs, one row per operator."""
    from dlaconv.backends.access.rules.documentation import ops_table

    return ops_table(load_target(target))
