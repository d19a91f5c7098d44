"""FC-1: fully connected layers with many outputs, in parts."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import bias_of, weights_of
from dlaconv.ir.pipeline import Context


@legalisation("Gemm", rules=("FC-1",))
def wide_fc_outputs(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A fully connected layer of many outputs becomes several, joined by Concat.

    Identity: Outputs are rows of the weights, each on its own; any split of the rows computes the
    same.

    Conditions: The weights are constants. The parts are whole groups of channels, but for the last.

    Cost: None.
    """
    weights = weights_of(node)
    most = context.target.fc_channels[1]
    if weights is None or weights.channels <= most:
        return None
    bias = bias_of(node, weights.channels)
    if bias is None:
        return Blocked("the bias is no constant")
    if (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    builder = Builder(node)
    parts = []
    for rows in runs(weights.channels, most, context.target.channel_multiple):
        steps = None if weights.steps is None else weights.steps[rows]
        part = replace(weights, array=weights.array[rows], steps=steps)
        offset = bias[rows] if bias.any() else None
        parts.append(builder.gemm(builder.x, part, offset))
    builder.concat(parts)
    sizes = ", ".join(str((shape_of(part) or (0, 0))[1]) for part in parts)
    return builder.plan(f"{weights.channels} outputs in parts of {sizes}")


def runs(count: int, most: int, multiple: int) -> list[slice]:
    """Runs of about equal length, at most ``most``, all but the last one multiples.

    Args:
        count: how many there are of what is split.
        most: the longest run.
        multiple: what each run but the last should be a multiple of.
    """
    parts = -(-count // most)
    each = -(-count // (parts * multiple)) * multiple
    if each > most:
        each = max(most // multiple * multiple, 1)
    return [slice(start, min(start + each, count)) for start in range(0, count, each)]
