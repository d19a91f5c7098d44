"""EL-1, GR-3: sums, differences and means of maps as one layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import is_constant, is_op, producer, shape_of, sole_consumer
from dlaconv.ir.passes.affine import AFFINE_OPS, affine_of, one_per_channel
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.channel_affine import quantised_behind
from dlaconv.ir.passes.legal.diagonal import diagonal_layer, layout
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.subtract_maps import negatable
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target

_LISTED = ("Sum", "Mean")
_OPS = tuple(dict.fromkeys((*_LISTED, "Add", "Sub", *AFFINE_OPS)))
_SAME = 1e-6


@legalisation(*_OPS, rules=("EL-1", "GR-3"))
def weighted_sum(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """Sums, means and differences of several maps become one 1x1 convolution, rounded once.

    Identity: g1 x1 + ... + gn xn + h, with numbers per channel, is a dense 1x1 convolution of
    Concat(x1, ..., xn) with the weights [diag(g1) | ... | diag(gn)] and the bias h; a fully
    connected layer for vectors.

    Conditions: Concat(x1, ..., xn) has no more channels than the hardware. In a quantised network
    the maps are stored on one grid, since Concat has one step, and the weights of a channel are
    small multiples of one number; all Add, Sub, Mul and so on between these maps and their
    quantiser are taken together. An Add of two stored maps stays: the hardware has it. In floating
    point only Sum and Mean are rewritten; one of too many channels is a chain of Adds.

    Cost: n C multiplications per value for n maps of C channels; none for Adds.
    """
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    listed = is_op(node, *_LISTED)
    root = _root(node)
    if quantised_behind(root.outputs[0]):
        plan = _on_one_grid(root, context.target)
        if isinstance(plan, Plan):
            return plan if root is node else None
        if root is node:
            return plan if listed else None
    if not listed:
        return None
    total = _Total(node)
    why = total.collect(deep=False)
    if why is not None:
        return Blocked(why)
    return _in_floats(total, context.target)


@dataclass(eq=False)
class _Total:
    """Maps times numbers per channel, and an offset, that add up to a node's result.

    Attributes:
        node: the node.
        scales: float64 ``[C]`` of each map.
        offset: float64 ``[C]``.
        nodes: the operators taken together.
    """

    node: ir.Node
    scales: dict[ir.Value, np.ndarray] = field(default_factory=dict)
    offset: np.ndarray = field(default_factory=lambda: np.zeros(1))
    nodes: list[ir.Node] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the maps."""
        return shape_of(self.node.outputs[0]) or ()

    @property
    def plain(self) -> bool:
        """True for a sum of maps without numbers."""
        ones = all((scale == 1).all() for scale in self.scales.values())
        return ones and not self.offset.any()

    def collect(self, *, deep: bool) -> str | None:
        """Finds the terms; says what is in the way.

        Args:
            deep: takes along the operators before that nothing else reads.
        """
        if len(self.shape) < 2:
            return f"maps of shape {list(self.shape)} have no channels"
        channels = self.shape[1]
        self.offset = np.zeros(channels)
        stack = [(self.node, np.ones(channels))]
        while stack:
            node, factor = stack.pop()
            self.nodes.append(node)
            terms = _terms(node, channels)
            if isinstance(terms, str):
                return terms
            for value, scale, offset in terms:
                self.offset = self.offset + factor * offset
                if value is None:
                    continue
                if shape_of(value) != self.shape:
                    return f"map {value.name!r} has another shape than the sum"
                before = producer(value)
                inner = before is not None and is_op(before, *_OPS) and sole_consumer(value) is node
                if deep and inner and before is not None and not isinstance(
                    _terms(before, channels), str
                ):  # fmt: skip
                    stack.append((before, factor * scale))
                else:
                    self.scales[value] = self.scales.get(value, 0) + factor * scale
        return None


_Term = tuple[ir.Value | None, np.ndarray, np.ndarray]


def _terms(node: ir.Node, channels: int) -> list[_Term] | str:
    """The operands of a node, each with scale and offset ``[C]``; None is a constant operand."""
    affine = affine_of(node)
    none = np.zeros(channels)
    if affine is not None:
        numbers = affine.per_channel() if affine.finite else None
        if numbers is None:
            return f"the constants of {node.op_type} are no finite numbers per channel"
        return [(affine.source, *numbers)]
    if not is_op(node, *_LISTED, "Add", "Sub") or None in node.inputs:
        return f"{node.op_type} is no sum of maps"
    gain = 1 / len(node.inputs) if is_op(node, "Mean") else 1.0
    terms: list[_Term] = []
    for index, value in enumerate(node.inputs):
        factor = np.full(channels, -gain if is_op(node, "Sub") and index else gain)
        if not is_constant(value):
            terms.append((value, factor, none))
            continue
        array = dialect.array_of(value).astype(np.float64)
        rank = len(shape_of(node.outputs[0]) or ())
        aligned = array.reshape((1,) * max(rank - array.ndim, 0) + array.shape)
        constant = one_per_channel(aligned, channels)
        if constant is None or not np.isfinite(constant).all():
            return f"constant {index} of {node.op_type} is no finite number per channel"
        terms.append((None, factor, factor * constant))
    return terms


def _root(node: ir.Node) -> ir.Node:
    """The last of the operators that could be taken together with a node."""
    while (reader := sole_consumer(node.outputs[0])) is not None and is_op(reader, *_OPS):
        node = reader
    return node


def _on_one_grid(node: ir.Node, target: Target) -> Plan | Blocked | None:
    """A layer on stored integers; None for what is no matter of this rewrite."""
    total = _Total(node)
    why = total.collect(deep=True)
    if why is not None:
        return Blocked(why)
    maps = list(total.scales)
    if len(maps) == 1 and is_op(node, *_LISTED):
        if stored_quantisation(maps[0]) is None:
            return Blocked(f"its only map {maps[0].name!r} is not rounded yet")
        return _multiple(total, target)
    if len(maps) < 2 or (total.plain and len(maps) == 2 and len(total.nodes) == 1):
        return None
    grids = [stored_quantisation(value) for value in maps]
    if any(a is None or b is None or not a.same_grid(b) for a, b in pairwise(grids)):
        return Blocked("the maps are not stored on one grid")
    if len(total.nodes) == 1 and is_op(node, "Sub") and grids[1] and negatable(maps[1], grids[1]):
        return None  # subtract_maps needs fewer multiplications
    weights = _integers(np.stack(list(total.scales.values())), target)
    if weights is None:
        return Blocked("the factors of the maps are no small multiples of one number")
    return _layer(total, *weights, target)


def _multiple(total: _Total, target: Target) -> Plan | Blocked:
    [(source, scale)] = total.scales.items()
    builder = Builder(total.node)
    layer = diagonal_layer(builder, source, scale, total.offset, target)
    return layer if isinstance(layer, Blocked) else builder.plan("a multiple of one map")


def _in_floats(total: _Total, target: Target) -> Plan | Blocked | None:
    maps = list(total.scales)
    if not maps:
        return None
    if len(maps) == 1:
        return _multiple(total, target)
    if len(maps) > 2 or not total.plain:
        scales = np.stack(list(total.scales.values()))
        weights = _integers(scales, target)
        plan = (
            _layer(total, scales, None, target)
            if weights is None
            else _layer(total, *weights, target)
        )
        if isinstance(plan, Plan) or not total.plain:
            return plan
    builder = Builder(total.node)
    value = maps[0]
    for other in maps[1:]:
        value = builder.add(value, other)
    return builder.plan(f"{total.node.op_type} as a chain of {len(maps) - 1} Adds of two maps")


def _integers(scales: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray] | None:
    """Scales ``[n, C]`` as integers of a step per channel ``[C]``, if they are such."""
    magnitudes = np.abs(scales)
    least = np.where(magnitudes > 0, magnitudes, np.inf).min(axis=0)
    steps = np.where(np.isfinite(least), least, 1.0)
    ratios = scales / steps
    integers = np.rint(ratios)
    exact = (np.abs(ratios - integers) <= _SAME * np.abs(ratios)).all()
    small = np.abs(integers).max(initial=0) <= target.weight_range[1]
    return (integers.astype(np.int8), steps) if exact and small else None


def _layer(
    total: _Total, numbers: np.ndarray, steps: np.ndarray | None, target: Target
) -> Plan | Blocked:
    """Concat and a layer with the weights ``numbers [n, C]`` times ``steps [C]``."""
    count, channels = numbers.shape
    size = layout(total.shape, target)
    if size is None:
        return Blocked("the maps have more positions than the hardware's")
    most = min(target.map_channels[1], target.conv.channels[1]) if size else target.fc_channels[1]
    if count * channels > most:
        return Blocked(f"{count} maps of {channels} channels are more than {most} together")
    builder = Builder(total.node)
    joined = builder.concat(list(total.scales))
    flat = size != total.shape[2:]
    if flat:
        joined = builder.reshape(joined, (total.shape[0], count * channels, *size))
    dense = np.concatenate([np.diag(row) for row in numbers], axis=1)
    dense = dense.reshape(*dense.shape, *(1,) * len(size))
    dtype = np.float32 if steps is None else np.int8
    weights = Weights(dense.astype(dtype), 0, steps)
    bias = total.offset if total.offset.any() else None
    result = builder.conv(joined, weights, bias) if size else builder.gemm(joined, weights, bias)
    layer = producer(result)
    if layer is not None and steps is not None and np.abs(numbers).max(initial=0) <= 1:
        builder.gains.append(layer)
    if flat:
        builder.reshape(result, total.shape)
    words = ", ".join(sorted({node.op_type for node in total.nodes}))
    return builder.plan(f"{words} of {count} maps as one layer behind a Concat")
