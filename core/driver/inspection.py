"""What the hardware allows: the rules, the operators, and checking a file against them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.driver.reading import load_target, read_access_model

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
    """The documentation of a rule.

    Raises:
        UsageError: if there is no such rule.
    """
    from dlaconv.backends.access.rules import documentation

    return documentation.rule_text(rule, plugins.rules())


def rule_list(plugins: Plugins) -> list[dict[str, str]]:
    """Every rule: id, name, severity, clause and its first sentence."""
    from dlaconv.backends.access.rules import documentation

    return documentation.rule_list(plugins.rules())


def ops_rows(target: Path | None) -> list[dict[str, Any]]:
    """What the hardware runs, one row per operator."""
    from dlaconv.backends.access.rules.documentation import ops_table

    return ops_table(load_target(target))
