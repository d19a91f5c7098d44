"""Running the rules on a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.backends.access.rules.table import RULES
from dlaconv.diagnostics import Diagnostic, Diagnostics, Severity
from dlaconv.errors import InternalError
from dlaconv.ir.target import Target


@dataclass(frozen=True)
class CheckResult:
    """What the rules found.

    Attributes:
        diagnostics: every finding, rule by rule in the order of the table.
        convention: what a scale means in this file, ``guide`` or ``int-per-real``.
        convention_source: how that is known, in words.
        passed: ids of the rules that found nothing.
        violated: number of errors and warnings by rule id.
        undecided: ids of the rules that found nothing wrong but could not look at everything,
            since a shape is not known; a note in ``diagnostics`` says where.
    """

    diagnostics: Diagnostics
    convention: str
    convention_source: str
    passed: tuple[str, ...]
    violated: dict[str, int]
    undecided: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is an error."""
        return not self.diagnostics.errors


def check_model(
    model: ir.Model,
    target: Target,
    *,
    extra: Sequence[Rule] = (),
    convention: str | None = None,
) -> CheckResult:
    """Checks a file against every rule.

    Args:
        model: the file as read, private attributes on its nodes; never changed.
        target: the limits.
        extra: rules of plugins, which run after ours; one that fails becomes a finding.
        convention: what a scale means; taken from the file's metadata or weights if None.

    Raises:
        ValueError: if ``convention`` is unknown.
        InternalError: if one of our own rules fails, which is a bug.
    """
    return check_view(AccessModel(model, target, convention), extra)


def check_view(view: AccessModel, extra: Sequence[Rule] = ()) -> CheckResult:
    """The same for a file that is looked at already, which is decoded only once then."""
    found = Diagnostics()
    counts: Counter[str] = Counter()
    passed: list[str] = []
    undecided: list[str] = []
    for rule in (*RULES, *extra):
        findings = _run(rule, view, ours=rule in RULES)
        found.extend(findings)
        offences = sum(item.severity is not Severity.NOTE for item in findings)
        if offences:
            counts[rule.id] += offences
        else:
            (undecided if findings else passed).append(rule.id)
    return CheckResult(
        found,
        view.convention,
        view.convention_source,
        tuple(passed),
        dict(counts),
        tuple(undecided),
    )


def _run(rule: Rule, view: AccessModel, *, ours: bool) -> list[Diagnostic]:
    findings: list[Diagnostic] = []
    try:
        findings.extend(rule.check(view))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        if ours:
            raise InternalError(f"rule {rule.id} failed: {reason}") from error
        findings.append(
            Diagnostic(
                rule.id,
                rule.name,
                f"the plugin's rule failed, so nothing is known: {reason}",
                location=view.location(None),
                help="report this to the plugin's author",
            )
        )
    return findings
