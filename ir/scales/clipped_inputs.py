"""Says how much of the calibration data a graph input clips (SC-11 of the rules)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.layout_names import plain_name
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
    if context.calibration is None:
        return
    ends = {}
    for value in model.graph.inputs:
        nodes = [use.node for use in value.uses() if dialect.is_quantize(use.node)]
        if nodes and value.name in context.calibration.names:
            item = grouping.class_of[nodes[0].outputs[0]]
            step = plan[grouping.group_of[item]].step(item)
            source = dialect.quantisation_of(nodes[0])
            zero = float(source.zero_point.reshape(-1)[0])
            ends[value.name or ""] = (
                nodes[0],
                _Range(step, *hardware_range(item, context.target)),
                _Range(source.scalar_step, source.qmin - zero, source.qmax - zero),
            )
    if not ends:
        return
    for feeds in context.calibration:
        for name, (_, ours, source_s) in ends.items():
            ours.count(feeds[name])
            source_s.count(feeds[name])
    for name, (node, ours, source_s) in ends.items():
        if ours.share <= _WORTH_A_WARNING:
            continue
        derived = (node.outputs[0].name or "") in context.derived
        place = provenance.location(node, model)
        if derived:  # the quantiser is ours, the input the user's
            place = replace(place, layer=plain_name(name), op="")
        clipped = "" if derived else f"; the source clips {source_s.share:.2%}"
        context.diagnostics.warning(
            "DLA211",
            "clipped-input",
            f"{ours.share:.2%} of the calibration data of graph input {plain_name(name)!r} lie "
            f"beyond {ours.low}..{ours.high} units of {ours.step:.6g}{clipped}",
            location=place,
            help="check that the data are scaled as in training"
            if not derived and source_s.share > ours.share / 2
            else "--scale-policy ceil covers them"
            + ("" if derived else ", or a quantiser of the source that does"),
        )


@dataclass
class _Range:
    """Counts values that are off by more than a rounding."""

    step: float
    low: float
    high: float
    beyond: int = 0
    total: int = 0

    def count(self, values: np.ndarray) -> None:
        self.beyond += int(np.count_nonzero(values > (self.high + 0.5) * self.step))
        self.beyond += int(np.count_nonzero(values < (self.low - 0.5) * self.step))
        self.total += values.size

    @property
    def share(self) -> float:
        return self.beyond / max(self.total, 1)
