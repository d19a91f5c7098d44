"""Whether the integers of a file can be told: what stands in the way of running it."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules import RULES
from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir.target import Target

_OPSETS = (9, 21)
"""ONNX opsets in which the operators of the hardware mean what they mean today."""
_NUMBERS = ("CV-8", "DW-6", "SC-2", "SC-3", "SC-4", "SC-5")
"""Rules on stored numbers: a compiler rounds what breaks them in a way that nobody documents."""


def obstacles(model: ir.Model, target: Target) -> list[Diagnostic]:
    """The reasons why a file cannot be run bit by bit, none if it can.

    Args:
        model: the file as read, private attributes on its nodes.
        target: the limits.
    """
    view = AccessModel(model, target)
    imports = model.graph.opset_imports
    opset = imports.get("", imports.get("ai.onnx", 0))
    found = []
    if not _OPSETS[0] <= opset <= _OPSETS[1]:
        found.append(
            Diagnostic(
                "GR-1",
                "unexpected-opset",
                f"the file has opset {opset}; files of opset {_OPSETS[0]} to {_OPSETS[1]} are read",
                location=view.location(None),
                help=f"write it with opset {target.opset}",
                notes=("operators change their meaning between opsets",),
            )
        )
    rules = [rule for rule in RULES if rule.id in _NUMBERS]
    found += [
        item for rule in rules for item in rule.check(view) if item.severity is Severity.ERROR
    ]
    return found
