"""What a rule must accept and refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from dlaconv.diagnostics import Severity
from dlaconv.ir.target import Target
from tests.backends.access.rules.rule_nets import TARGET

WARNING = Severity.WARNING


@dataclass(frozen=True)
class Case:
    """What a rule must accept and refuse.

    Attributes:
        rule: its id.
        good: makes a file without an offence.
        bad: makes a file with exactly one.
        says: what the message must contain.
        severity: of that finding.
        target: the hardware.
    """

    rule: str
    good: Callable[[], ir.Model]
    bad: Callable[[], ir.Model]
    says: str
    severity: Severity = Severity.ERROR
    target: Target = TARGET
