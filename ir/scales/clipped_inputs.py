"""Says how much of the calibration data a graph input clips (SC-11 of the rules)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.pipeline import Context
from dlaconv.ir.scales.cost import hardware_range
from dlaconv.ir.scales.groups import Grouping
from dlaconv.ir.scales.solver import Plan

_WORTH_A_WARNING = 1e-3
"""Share of the values."""


def warn_of_clipped_inputs(
    model: ir.Model, grouping: Grouping, plan: Plan, context: Context
) -> None:
    """Warns of graph inputs whose integers cannot hold the calibration data.

    Args:
        model: a MAPPED model.
        grouping: its maps.
        plan: their steps.
        context: has the data; receives the diagnostics.
    """
    for value in model.graph.inputs:
        data = (context.calibration or {}).get(value.name or "")
        nodes = [use.node for use in value.uses() if dialect.is_quantize(use.node)]
        if data is None or not data.size or not nodes:
            continue
        item = grouping.class_of[nodes[0].outputs[0]]
        low, high = hardware_range(item, context.target)
        step = plan[grouping.group_of[item]].step(item)
        source = dialect.quantisation_of(nodes[0])
        zero = float(source.zero_point.reshape(-1)[0])
        share = _clipped(data, step, low, high)
        before = _clipped(data, source.scalar_step, source.qmin - zero, source.qmax - zero)
        if share <= _WORTH_A_WARNING:
            continue
        context.diagnostics.warning(
            "DLA211",
            "clipped-input",
            f"{share:.2%} of the calibration data of graph input {value.name!r} lie beyond "
            f"{low}..{high} units of {step:.6g}; the source clips {before:.2%}",
            location=provenance.location(nodes[0], model),
            help="check that the data are scaled as in training"
            if before > share / 2
            else "use a scale policy or a source quantiser that covers them",
        )


def _clipped(data: np.ndarray, step: float, low: float, high: float) -> float:
    """Share of the values that are off by more than a rounding."""
    beyond = np.count_nonzero(data > (high + 0.5) * step)
    return (beyond + np.count_nonzero(data < (low - 0.5) * step)) / data.size
