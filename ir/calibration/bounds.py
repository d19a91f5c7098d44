"""Interval bounds: ranges that hold for every input, from weights, biases and input ranges.

For ``y = sum w x + b`` with x in [lo, hi]: y lies in ``sum w+ lo' + w- hi'`` and so on, with w+ and
w- the positive and negative parts (interval arithmetic, Moore 1966). Bounds are per tensor, and
start again at each quantiser, so they do not grow with depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.blocks import row_blocks, shape_tuple, tensor_of
from dlaconv.ir.graph import input_array, ints_attribute, is_constant, producer, shape_of
from dlaconv.ir.passes.linear_ops import channel_steps
from dlaconv.ir.saturation import clip_ends

Bound = tuple[float, float]
UNKNOWN: Bound = (-math.inf, math.inf)


class IntervalBounds:
    """Bounds of the values of a model, computed when they are asked for.

    A quantiser behind a linear layer bounds by its own range, which the layer's interval nearly
    always exceeds; so weights are read only for layers whose result is not quantised.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[ir.Value, bool], Bound] = {}

    def of(self, value: ir.Value) -> Bound:
        """Lowest and highest value that any input can cause; infinite where nothing is known."""
        return self._find(value, exactly=True)

    def _find(self, value: ir.Value, *, exactly: bool) -> Bound:
        stack = [(value, exactly)]
        while stack:
            asked = stack[-1]
            missing = [need for need in _needs(*asked) if need not in self._known]
            if missing and asked not in self._known:
                stack.extend(missing)
                continue
            stack.pop()
            if asked not in self._known:
                self._known[asked] = self._bound(*asked)
        return self._known[value, exactly]

    def _bound(self, value: ir.Value, exactly: bool) -> Bound:
        node = producer(value)
        needs = _needs(value, exactly)
        if node is not None and dialect.is_bipolar(node):
            step = float(dialect.step_of(node).max())
            return -step, step
        if node is None or not needs:
            return UNKNOWN
        sources = [self._known[need] for need in needs]
        handler = _quantised if dialect.is_quantize(node) else _HANDLERS[node.op_type]
        bound = handler(node, sources)
        return UNKNOWN if bound is None or any(map(math.isnan, bound)) else bound


def _needs(value: ir.Value, exactly: bool) -> list[tuple[ir.Value, bool]]:
    """The values whose bounds decide those of ``value``; none if its bounds are unknown."""
    node = producer(value)
    if dialect.is_quantize(node):
        assert node is not None
        exactly = False
    elif node is None or node.domain or node.op_type not in _HANDLERS:
        return []
    elif node.op_type in _LINEAR:
        if not exactly:
            return []
        return [(source, True) for source in node.inputs[:1] if source is not None]
    else:
        inputs = node.inputs
        return [(item, exactly) for item in inputs if item is not None and not is_constant(item)]
    return [(source, exactly) for source in node.inputs[:1] if source is not None]


def _quantised(node: ir.Node, sources: list[Bound]) -> Bound:
    quantisation = dialect.quantisation_of(node)
    step = float(quantisation.step.max())
    zeros = quantisation.zero_point
    low = (quantisation.qmin - float(zeros.max())) * step
    high = (quantisation.qmax - float(zeros.min())) * step
    return max(low, sources[0][0] - step), min(high, sources[0][1] + step)  # rounded


def _linear(node: ir.Node, sources: list[Bound]) -> Bound | None:
    low, high = sources[0]
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    sums = _signed_sums(node.inputs[1])
    if sums is None:
        return None
    positive, negative = sums
    if any(ints_attribute(node, "pads")):
        low, high = min(low, 0.0), max(high, 0.0)
    bias = np.zeros(len(positive))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        found = input_array(node, 2)
        if found is None:
            return None
        bias = found.astype(np.float64).reshape(-1)
    least = positive * low + negative * high + bias
    most = positive * high + negative * low + bias
    return float(least.min()), float(most.max())


def _signed_sums(value: ir.Value | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Sums of the positive and of the negative weights of each output channel, float64."""
    holder = producer(value)
    steps: np.ndarray | None = np.ones(1)
    if holder is not None and dialect.is_dequantize(holder):
        value, step = holder.inputs[0], dialect.step_of(holder)
        shape = shape_of(value) if value is not None else None
        steps = channel_steps(step, shape, 0) if shape else None
    elif not is_constant(value):
        return None
    if steps is None:
        return None
    tensor = tensor_of(value)
    positive, negative = np.zeros((2, shape_tuple(tensor)[0]))
    for rows, block in row_blocks(tensor):
        flat = block.reshape(len(block), -1)
        kind = np.int64 if flat.dtype.kind == "i" else np.float64
        positive[rows] = np.maximum(flat, 0).sum(1, dtype=kind)
        negative[rows] = np.minimum(flat, 0).sum(1, dtype=kind)
    return positive * steps, negative * steps


def _add(node: ir.Node, sources: list[Bound]) -> Bound | None:
    if len(sources) != 2:
        return None
    return sources[0][0] + sources[1][0], sources[0][1] + sources[1][1]


def _matmul(node: ir.Node, sources: list[Bound]) -> Bound | None:
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if len(sources) != 2 or not shape:
        return None
    products = [a * b for a in sources[0] for b in sources[1]]
    return shape[-1] * min(products), shape[-1] * max(products)


def _reduce_sum(node: ir.Node, sources: list[Bound]) -> Bound | None:
    before = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    after = shape_of(node.outputs[0])
    if before is None or after is None:
        return None
    count = math.prod(before) // max(math.prod(after), 1)
    low, high = sources[0]
    return count * low, count * high


def _same(node: ir.Node, sources: list[Bound]) -> Bound | None:
    return min(low for low, _ in sources), max(high for _, high in sources)


def _with_zero(node: ir.Node, sources: list[Bound]) -> Bound | None:
    low, high = sources[0]
    return min(low, 0.0), max(high, 0.0)


def _relu(node: ir.Node, sources: list[Bound]) -> Bound | None:
    low, high = sources[0]
    return max(low, 0.0), max(high, 0.0)


def _clip(node: ir.Node, sources: list[Bound]) -> Bound | None:
    ends = clip_ends(node)
    if ends is None:
        return None
    low, high = (min(max(end, ends[0]), ends[1]) for end in sources[0])
    return low, high


def _leaky(node: ir.Node, sources: list[Bound]) -> Bound | None:
    low, high = sources[0]
    slopes = input_array(node, 1) if node.op_type == "PRelu" else None
    steepest = (
        max(1.0, float(np.abs(slopes).max(initial=0)))
        if slopes is not None
        else max(1.0, abs(node.attributes.get_float("alpha", 0.01)))
    )
    reach = max(abs(low), abs(high)) * steepest
    return -reach if low < 0 else 0.0, reach


_LINEAR = ("Conv", "Gemm")
_HANDLERS: dict[str, Callable[[ir.Node, list[Bound]], Bound | None]] = {
    "Conv": _linear,
    "Gemm": _linear,
    "Add": _add,
    "MatMul": _matmul,
    "ReduceSum": _reduce_sum,
    "MaxPool": _same,
    "Concat": _same,
    "Transpose": _same,
    "Reshape": _same,
    "GlobalAveragePool": _same,
    "AveragePool": _with_zero,
    "Relu": _relu,
    "LeakyRelu": _leaky,
    "PRelu": _leaky,
    "Clip": _clip,
    "Sigmoid": lambda node, sources: (0.0, 1.0),
    "Tanh": lambda node, sources: (-1.0, 1.0),
    "HardSwish": lambda node, sources: (-0.375, max(sources[0][1], 0.0)),
}
