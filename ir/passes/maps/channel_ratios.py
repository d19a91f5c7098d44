"""What each value must be multiplied by, per channel, so that every map has one step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    attribute,
    consumers,
    input_array,
    ints_attribute,
    is_constant,
    is_op,
    producer,
    shape_of,
)
from dlaconv.ir.passes.linear_ops import Weights, scaled, weights_of
from dlaconv.ir.passes.maps.column_factors import Obstacle, multiply_columns
from dlaconv.ir.passes.maps.redundant_rounding import values_averaged
from dlaconv.ir.passes.maps.requantise import stored_quantisers
from dlaconv.ir.target import Target

SAME = 1e-6
"""Two ratios closer than this (relative) are one: float32 steps differ by less."""
_FURTHEST = 2.0**60
_RESHAPED = ("Reshape", "Transpose", "Concat", "ReduceSum")
_PER_CHANNEL = ("MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "LeakyRelu", "PRelu")

Ratio = np.ndarray
"""Positive float64 with the rank of its value and extent 1 on each axis along which it is
constant; the value becomes ratio times what it is in the source."""


@dataclass(eq=False)
class Ratios:
    """Ratios of values, and what stands in their way.

    Attributes:
        of: the ratio of each value that a map with a step per channel is tied to.
        columns: the weights of each layer that takes the ratios of its input.
        origin: the quantiser or sign for which a value has its ratio.
        problems: quantiser and what stands in the way of its ratios, in words.
    """

    of: dict[ir.Value, Ratio] = field(default_factory=dict)
    columns: dict[ir.Node, Weights] = field(default_factory=dict)
    origin: dict[ir.Value, ir.Node] = field(default_factory=dict)
    problems: list[tuple[ir.Node, str]] = field(default_factory=list)

    def differ(self, node: ir.Node) -> bool:
        """True if a node's input and result have ratios that differ."""
        one, other = (self.get(value) for value in (node.inputs[0], node.outputs[0]))
        return not _equal(one, other)

    def get(self, value: ir.Value | None) -> Ratio:
        """The ratio of a value, one where none is asked for."""
        assert value is not None
        return self.of.get(value, np.ones((1,) * len(shape_of(value) or ())))


def steps_of(node: ir.Node) -> np.ndarray:
    """The steps of a quantiser or sign, float64 with the rank of its map."""
    step = dialect.step_of(node) if dialect.is_bipolar(node) else dialect.quantisation_of(node).step
    rank = len(shape_of(node.outputs[0]) or ())
    return step.astype(np.float64).reshape((1,) * (rank - step.ndim) + step.shape)


def find_ratios(model: ir.Model, target: Target) -> Ratios:
    """The ratios with which every quantiser of a model has one step.

    At a quantiser with steps s the ratio is max(s)/s. From there it spreads in both directions
    through operators that commute with it, up to layers with weights: their rows take the ratio of
    the result, their columns the inverse of the input's. It also ends where a layer can be put in
    between: at quantisers of stored maps, and at averages, which are convolutions as well. A sign
    has the same result whatever its input is multiplied by.
    """
    walk = RatioWalk(model, target)
    for node in model.graph:
        if (dialect.is_quantize(node) or dialect.is_bipolar(node)) and steps_of(node).size > 1:
            steps = steps_of(node)
            if steps.max() > steps.min() * _FURTHEST:
                walk.refuse(node, "they are too far apart")
            else:
                walk.assign(node.outputs[0], steps.max() / steps, node)
    walk.run()
    return walk.found


def is_average(node: ir.Node | None) -> bool:
    """True for an average over one number of values everywhere: it can be a convolution."""
    return (
        node is not None
        and is_op(node, "AveragePool", "GlobalAveragePool")
        and values_averaged(node) is not None
    )


def channel_vector(ratio: Ratio, channels: int) -> np.ndarray | None:
    """A ratio as float64 ``[C]``, None if it varies along another axis than the channels'."""
    if ratio.ndim < 2 or ratio.size != ratio.shape[1]:
        return None
    return np.broadcast_to(ratio.reshape(-1), (channels,)).copy()


class RatioWalk:
    """Spreads ratios from values to all that are tied to them.

    Quantisers in ``free`` take whatever step their ratio asks for. With some, ratios also go
    through averages, and no layer is put in between anywhere.
    """

    def __init__(
        self, model: ir.Model, target: Target, free: Collection[ir.Node] = frozenset()
    ) -> None:
        self.target, self.free = target, free
        self.found = Ratios()
        self.stored = set(stored_quantisers(model))
        self.concats = [node for node in model.graph if is_op(node, "Concat")]
        self.queue: list[ir.Value] = []
        self.joined: set[ir.Node] = set()

    def spread(self, start: ir.Node, ratio: Ratio) -> Ratios:
        """The ratios of all values that are tied to one map, if that map has a given ratio.

        Args:
            start: the quantiser of the map.
            ratio: positive, with the rank of the map.
        """
        self.found, self.joined = Ratios(), set()
        self.assign(start.outputs[0], ratio, start)
        self.run()
        return self.found

    def assign(self, value: ir.Value, ratio: Ratio, origin: ir.Node) -> None:
        """Gives a value a ratio, on behalf of a quantiser; `run` spreads it."""
        ratio = _reduced(ratio)
        known = self.found.of.get(value)
        if known is not None:
            if not _equal(known, ratio):
                self.refuse(origin, f"map {value.name!r} is tied to maps with other steps")
            return
        if sum(size > 1 for size in ratio.shape) > 1:
            self.refuse(origin, f"in {value.name!r} they vary along several axes")
            return
        self.found.of[value], self.found.origin[value] = ratio, origin
        self.queue.append(value)

    def refuse(self, origin: ir.Node, reason: str) -> None:
        """Notes what stands in the way of a quantiser's ratio."""
        if (origin, reason) not in self.found.problems:
            self.found.problems.append((origin, reason))

    def run(self) -> None:
        """Spreads all ratios as far as they go."""
        while True:
            while self.queue:
                self._spread(self.queue.pop())
            node = next((node for node in self.concats if self._open(node)), None)
            if node is None:
                return
            parts = [_full(self.found.get(value), value) for value in node.inputs if value]
            known = next(value for value in node.inputs if value in self.found.of)
            axis = int(attribute(node, "axis", 1))
            self.joined.add(node)
            self.assign(node.outputs[0], np.concatenate(parts, axis), self.found.origin[known])

    def _open(self, node: ir.Node) -> bool:
        """True for a Concat of whose ratio only an operand is known."""
        if node in self.joined:
            return False
        known = any(value in self.found.of for value in node.inputs if value is not None)
        return known and node.outputs[0] not in self.found.of

    def _spread(self, value: ir.Value) -> None:
        ratio, origin = self.found.of[value], self.found.origin[value]
        if _equal(ratio, np.ones_like(ratio)):
            pass  # nothing changes here, but what it is tied to must not change either
        elif value.is_graph_input():
            self.refuse(origin, f"the host feeds graph input {value.name!r} in one step")
        elif value.is_graph_output():
            self.refuse(origin, f"the host reads graph output {value.name!r} in one step")
        maker = producer(value)
        if maker is not None:
            self._backward(maker, value, ratio, origin)
        for node in consumers(value):
            self._forward(node, value, ratio, origin)

    def _backward(self, node: ir.Node, value: ir.Value, ratio: Ratio, origin: ir.Node) -> None:
        if dialect.is_quantize(node) or dialect.is_bipolar(node):
            if not self._one_step(node, ratio, origin):
                return
            if dialect.is_quantize(node) and node not in self.stored:
                assert node.inputs[0] is not None
                self.assign(node.inputs[0], ratio, origin)
        elif is_average(node) and not self.free:
            self._needs_channels(node, ratio, origin)
        elif is_op(node, "Conv", "Gemm"):
            self._into_rows(node, ratio, origin)
        else:
            self._through(node, value, ratio, origin)

    def _forward(self, node: ir.Node, value: ir.Value, ratio: Ratio, origin: ir.Node) -> None:
        if dialect.is_bipolar(node):
            return
        if dialect.is_quantize(node):
            if node not in self.stored:
                self.assign(node.outputs[0], ratio, origin)
            elif self.free:
                self.refuse(origin, f"{_words(node)} is a step of its own")
            else:
                self._needs_channels(node, ratio, origin)
        elif is_average(node) and not self.free:
            self._needs_channels(node, ratio, origin)
        elif is_op(node, "Conv", "Gemm") and node.inputs[0] is value:
            self._into_columns(node, ratio, origin)
        else:
            self._through(node, value, ratio, origin)

    def _one_step(self, node: ir.Node, ratio: Ratio, origin: ir.Node) -> bool:
        if node in self.free:
            return True
        steps = steps_of(node) * ratio
        if steps.max() > steps.min() * (1 + SAME):
            other = "its own steps" if steps_of(node).size > 1 else "one step"
            self.refuse(origin, f"map {node.outputs[0].name!r} is tied to it and has {other}")
            return False
        return True

    def _needs_channels(self, node: ir.Node, ratio: Ratio, origin: ir.Node) -> bool:
        if ratio.size == 1 or channel_vector(ratio, ratio.size) is not None:
            return True
        self.refuse(origin, f"at {_words(node)} they vary along another axis than the channels")
        return False

    def _into_rows(self, node: ir.Node, ratio: Ratio, origin: ir.Node) -> None:
        if not self._needs_channels(node, ratio, origin):
            return
        weights = weights_of(node)
        rows = None if weights is None else channel_vector(ratio, weights.channels)
        if weights is None or rows is None:
            self.refuse(origin, f"the weights of {_words(node)} are no constants")
        elif scaled(weights, rows) is None:
            self.refuse(origin, f"the weights of {_words(node)} would leave float32")

    def _into_columns(self, node: ir.Node, ratio: Ratio, origin: ir.Node) -> None:
        weights = weights_of(node)
        if weights is None or weights.axis != 0:
            self.refuse(origin, f"the weights of {_words(node)} are no constants")
            return
        if not self._needs_channels(node, ratio, origin):
            return
        factors = column_factors(node, weights, ratio)
        result = multiply_columns(weights, factors, self.target.weight_range)
        if isinstance(result, Obstacle):
            (first, second), (low, high) = result.channels, result.factors
            self.refuse(
                origin,
                f"input channels {first} and {second} of {_words(node)} are in the ratio "
                f"1 : {high / low:.6g}, and its {self.target.weight_bits}-bit weights have no "
                "integers that are",
            )
        elif result.steps is not None and (result.steps < np.finfo(np.float32).tiny).any():
            self.refuse(origin, f"the weights of {_words(node)} would leave float32")
        else:
            self.found.columns[node] = result

    def _through(self, node: ir.Node, value: ir.Value, ratio: Ratio, origin: ir.Node) -> None:
        others = _commuted(node, value, ratio)
        if others is None:
            if not _equal(ratio, np.ones_like(ratio)):
                self.refuse(origin, f"{_words(node)} does not commute with them")
            return
        for other, result in others:
            self.assign(other, result, origin)


def column_factors(node: ir.Node, weights: Weights, ratio: Ratio) -> np.ndarray:
    """What each weight ``[O, I]`` is multiplied by when the layer's input has a ratio."""
    outputs, inputs = weights.array.shape[:2]
    groups = int(attribute(node, "group", 1)) if is_op(node, "Conv") else 1
    vector = channel_vector(ratio, inputs * groups)
    assert vector is not None
    rows = (1 / vector).reshape(groups, inputs)
    return np.repeat(rows, outputs // groups, axis=0)


def _commuted(node: ir.Node, value: ir.Value, ratio: Ratio) -> list[tuple[ir.Value, Ratio]] | None:
    """The ratios of the other maps of a node that commutes with that of one of them."""
    source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
    if source is None or len(node.outputs) > 1:
        return None
    forward = value is not result
    other = result if forward else source
    if is_op(node, "Add"):
        values = [item for item in (*node.inputs, result) if item is not None]
        same = len({shape_of(item) for item in values}) == 1
        if not same or any(map(is_constant, values)):
            return None
        return [(item, ratio) for item in values if item is not value]
    if forward and value is not source and not is_op(node, "Concat"):
        return None
    if is_op(node, *_PER_CHANNEL):
        spatial = is_op(node, "MaxPool", "AveragePool", "GlobalAveragePool")
        return None if spatial and any(n > 1 for n in ratio.shape[2:]) else [(other, ratio)]
    if is_op(node, *_RESHAPED):
        return _RESHAPE[node.op_type](node, ratio, forward)
    return None


def _reshape(node: ir.Node, ratio: Ratio, forward: bool) -> list[tuple[ir.Value, Ratio]] | None:
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    before, after = (source, result) if forward else (result, source)
    shape = shape_of(after)
    return None if shape is None else [(after, _full(ratio, before).reshape(shape))]


def _transpose(node: ir.Node, ratio: Ratio, forward: bool) -> list[tuple[ir.Value, Ratio]] | None:
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    order = ints_attribute(node, "perm", range(ratio.ndim)[::-1])
    if forward:
        return [(result, ratio.transpose(order))]
    return [(source, ratio.transpose(np.argsort(order)))]


def _concat(node: ir.Node, ratio: Ratio, forward: bool) -> list[tuple[ir.Value, Ratio]] | None:
    if forward:
        return []  # all operands together decide
    axis, start = int(attribute(node, "axis", 1)), 0
    full = _full(ratio, node.outputs[0])
    parts = []
    for value in node.inputs:
        size = (shape_of(value) or ())[axis] if value is not None else 0
        if value is None or is_constant(value):
            return None
        parts.append((value, full.take(range(start, start + size), axis)))
        start += size
    return parts


def _reduce(node: ir.Node, ratio: Ratio, forward: bool) -> list[tuple[ir.Value, Ratio]] | None:
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    given, rank = input_array(node, 1), len(shape_of(source) or ())
    listed = range(rank) if given is None else given.reshape(-1).tolist()
    axes = sorted(int(axis) % rank for axis in listed)
    keep = bool(attribute(node, "keepdims", 1))
    if not forward:
        return [(source, ratio if keep else np.expand_dims(ratio, axes))]
    if any(ratio.shape[axis] > 1 for axis in axes):
        return None
    return [(result, ratio if keep else np.squeeze(ratio, tuple(axes)))]


_RESHAPE = {
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "ReduceSum": _reduce,
}


def _full(ratio: Ratio, value: ir.Value) -> np.ndarray:
    return np.broadcast_to(ratio, shape_of(value) or ())


def _reduced(ratio: Ratio) -> Ratio:
    for axis in range(ratio.ndim):
        first = ratio.take([0], axis)
        if (ratio == first).all():
            ratio = first
    return ratio


def _equal(one: Ratio, other: Ratio) -> bool:
    return bool((np.abs(one / other - 1) <= SAME).all())


def _words(node: ir.Node) -> str:
    place = provenance.location(node)
    return f"{place.layer!r} ({place.op})"
