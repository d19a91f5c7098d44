"""Turns Add and average pooling into convolutions where that keeps the source's integers.

Operands and result of Add share gamma, so an Add of maps with unrelated steps cannot keep them
all. As a convolution it can:

    q_o = round((s_u q_u + s_v q_v) / s_o) = round(t (w_u q_u + w_v q_v)),   w_u : w_v = s_u : s_v

is Concat(u, v) followed by a 1x1 convolution with weights [w_u I | w_v I]: each operand has its own
gamma, and t goes into the weight scale. With w up to 127 ratio and t are met to about 4e-4 (median
of random ones; at most 2e-3), so one or two integers in a hundred differ from the source's, by one
unit. Concat wants one hardware step of its operands, which a shift of gamma gives
(`dlaconv.ir.scales.solver.align`). The maths is in ``docs/scales.md``.

Likewise an average over a k x k window is a depth-wise convolution with equal weights; its bias
also takes the half unit by which a source's floor differs from the nearest integer. (Windows beyond
7 x 7 break a rule of the hardware either way.)

The price is multiplications: 2 C^2 H W for an Add. So it is done only where steps are unrelated,
and for Adds only within a share of the network's own multiplications, cheapest first.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.calibration.effort import multiplications
from dlaconv.ir.graph import (
    attribute,
    insert_before,
    ints_attribute,
    is_op,
    replace_node,
    shape_of,
    sole_consumer,
)
from dlaconv.ir.passes.legal.grouped_conv import block_diagonal
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass
from dlaconv.ir.scales.cost import SAME, Samples
from dlaconv.ir.scales.groups import Constraints, Group, Grouping, group_maps, stored_result
from dlaconv.ir.scales.policy import policy_of
from dlaconv.ir.scales.solver import Plan, solve

_SHARE = 0.25
"""Multiplications that the sums may add, as a share of the network's own."""
_POOLS = ("AveragePool", "GlobalAveragePool")


def constraints_of(context: Context) -> Constraints:
    """The constraints that a context asks for."""
    return Constraints(
        pin_io=context.io == "pin",
        signed_maps=context.target.signed_maps,
        derived=context.derived,
        bounded=context.bounded,
        positive=context.positive,
        calibrated=context.calibration is not None,
        sums=context.sums,
        signs=context.signs,
        clips=context.clips,
        held={name: bool(wanted.step) for name, wanted in context.overrides.ranges.items()},
        fixed_point=context.fixed_point,
    )


@ir_pass(tolerance=1e-5)
def linearise(model: ir.Model, context: Context) -> None:
    """Replaces Add by a weighted 1x1 convolution, and average pools by depth-wise ones.

    Only where the maps around have steps that no common gamma reaches, and with a policy that
    keeps the source's integers.
    """
    if not policy_of(context).keeps_integers:
        return
    nodes = [node for node in model.graph if is_op(node, "Add", *_POOLS)]
    if not nodes:
        return
    free = constraints_of(context)
    cut = {node for node in nodes if _convertible(node, context)}
    grouping = group_maps(model, Constraints(**{**vars(free), "cut": cut}))
    plan = solve(grouping, context.target, Samples())
    wanted = [
        node
        for node in nodes
        if node in cut and (_unrelated(node, grouping, plan) or _directed(node, context))
    ]
    for node in wanted:
        if is_op(node, *_POOLS):
            _pool_to_convolution(node, context)
    budget = _SHARE * multiplications(model)
    trees = _Trees()
    for node in sorted((n for n in wanted if is_op(n, "Add")), key=_cost):
        one, other = (grouping.group_of[grouping.class_of[v]] for v in node.inputs if v)
        if _cost(node) > budget:
            break
        if trees.join(one, other):
            budget -= _cost(node)
            _sum_to_convolution(node, context)


def _convertible(node: ir.Node, context: Context) -> bool:
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None or len(shape) not in {2, 4}:
        return False
    if is_op(node, "Add"):
        same = node.inputs[1] is not None and shape_of(node.inputs[1]) == shape
        return same and 2 * shape[1] <= context.target.map_channels[1]
    if len(_kernel(node)) != 2:
        return False
    padded = any(ints_attribute(node, "pads"))
    return not attribute(node, "ceil_mode", 0) and (
        not padded or attribute(node, "count_include_pad", 0) == 1
    )


def _kernel(node: ir.Node) -> tuple[int, ...]:
    if is_op(node, "GlobalAveragePool"):
        shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
        return tuple((shape or ())[2:])
    return ints_attribute(node, "kernel_shape")


def _unrelated(node: ir.Node, grouping: Grouping, plan: Plan) -> bool:
    """True if the maps around a node have bases that differ."""
    target = stored_result(node)
    values = [value for value in (*node.inputs, target) if value in grouping.class_of]
    groups = {grouping.group_of[grouping.class_of[value]] for value in values if value is not None}
    bases = [plan[group].base for group in groups if not _flexible(group)]
    return any(abs(base / bases[0] - 1) > SAME for base in bases)


def _directed(node: ir.Node, context: Context) -> bool:
    """True for an average that the source rounds up or down: a convolution's bias can, too."""
    following = sole_consumer(node.outputs[0])
    if not is_op(node, *_POOLS) or following is None or not dialect.is_quantize(following):
        return False
    rounding = dialect.quantisation_of(following).rounding
    return rounding.nearest != context.rounding.nearest


def _flexible(group: Group) -> bool:
    return not group.pinned and all(v.derived and not v.exact for v in group.maps)


def _cost(node: ir.Node) -> int:
    shape = shape_of(node.outputs[0]) or ()
    return 2 * shape[1] * math.prod(shape)


class _Trees:
    """Groups tied so far; a tie is refused if it closes a cycle or joins two pinned groups."""

    def __init__(self) -> None:
        self._parent: dict[Group, Group] = {}
        self._pinned: dict[Group, bool] = {}

    def _find(self, group: Group) -> Group:
        while (parent := self._parent.get(group, group)) is not group:
            group = parent
        return group

    def join(self, one: Group, other: Group) -> bool:
        a, b = self._find(one), self._find(other)
        pinned_a, pinned_b = (self._pinned.get(root, root.pinned) for root in (a, b))
        if a is b or (pinned_a and pinned_b):
            return False
        self._parent[b] = a
        self._pinned[a] = pinned_a or pinned_b
        return True


def _sum_to_convolution(node: ir.Node, context: Context) -> None:
    shape = shape_of(node.outputs[0]) or ()
    channels, spatial = shape[1], len(shape) - 2
    name = node.name or ""
    joined = ir.node("Concat", list(node.inputs), {"axis": 1}, name=f"{name}/concat")
    wide = (shape[0], 2 * channels, *shape[2:])
    _describe(joined, f"{name}/concat/out", wide)
    identity = np.eye(channels, dtype=np.int8)
    weights = np.concatenate([identity, identity], axis=1)
    if spatial:
        weights = weights.reshape(*weights.shape, *(1,) * spatial)
    insert_before(node, joined)
    _replace_by_linear(node, context, joined.outputs[0], weights, 1.0, group=1)
    context.sums.add(f"{name}/concat/out")
    detail = "Add as a weighted 1x1 convolution, since its maps have unrelated steps"
    _report(node, context, f"{detail} ({2 * channels * math.prod(shape):,} multiplications)")


def _pool_to_convolution(node: ir.Node, context: Context) -> None:
    source = node.inputs[0]
    assert source is not None
    kernel = _kernel(node)
    shape = shape_of(source) or ()
    channels, rank = shape[1], len(kernel)
    limits, group = context.target, channels
    weights = np.ones((channels, 1, *kernel), np.int8)
    if min(shape[2:]) < limits.depthwise.map_size[0] and channels <= limits.conv.channels[1]:
        weights, group = block_diagonal(weights, channels), 1
    pads = ints_attribute(node, "pads", (0,) * (2 * rank))
    strides = ints_attribute(node, "strides", (1,) * rank)
    if set((shape_of(node.outputs[0]) or ())[2:]) == {1}:
        # one window never moves: the least stride that passes what it leaves uncovered
        padded = (n + a + b for n, a, b in zip(shape[2:], pads[:rank], pads[rank:], strict=True))
        strides = (1 + max(n - k for n, k in zip(padded, kernel, strict=True)),) * rank
    window = {"strides": strides, "pads": pads}
    gain = 1 / math.prod(kernel)
    _replace_by_linear(node, context, source, weights, gain, group=group, **window)
    size = "x".join(map(str, kernel))
    words = "a dense" if group == 1 < channels else "a depth-wise"
    _report(node, context, f"average as {words} {size} convolution: its steps are unrelated")


def _replace_by_linear(
    node: ir.Node,
    context: Context,
    source: ir.Value,
    weights: np.ndarray,
    gain: float,
    group: int,
    strides: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
) -> None:
    name = node.name or ""
    spatial = weights.ndim - 2
    holder = dialect.dequantize(
        dialect.constant(f"{name}/gains", weights),
        np.full((len(weights),) + (1,) * (weights.ndim - 1), gain, np.float32),
        name=f"{name}/gain",
        output=f"{name}/W",
    )
    attributes: dict[str, int | tuple[int, ...]] = {"transB": 1}
    if spatial:
        attributes = {
            "kernel_shape": weights.shape[2:],
            "strides": strides or (1,) * spatial,
            "dilations": (1,) * spatial,
            "pads": pads or (0,) * (2 * spatial),
            "group": group,
        }
    linear = ir.node(
        "Conv" if spatial else "Gemm",
        [source, holder.outputs[0]],
        attributes,
        name=f"{name}/linear",
    )
    _describe(linear, "", shape_of(node.outputs[0]) or ())
    replace_node(node, holder, linear)
    context.gains.add(f"{name}/linear")


def _describe(node: ir.Node, name: str, shape: tuple[int, ...]) -> None:
    value = node.outputs[0]
    value.name, value.shape, value.dtype = name or None, ir.Shape(shape), ir.DataType.FLOAT


def _report(node: ir.Node, context: Context, detail: str) -> None:
    layer = provenance.location(node).layer
    context.rewrites.append(Rewrite("linearise", layer, detail))
