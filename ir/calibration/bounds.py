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
from dlaconv.ir.graph import input_array, ints_attribute, is_constant, producer, shape_of

Bound = tuple[float, float]


def interval_bounds(model: ir.Model) -> dict[ir.Value, Bound]:
    """Bounds of every value that has any, by value."""
    bounds: dict[ir.Value, Bound] = {}
    for node in model.graph:
        if dialect.is_quantize(node):
            bounds[node.outputs[0]] = _quantised(node, bounds)
            continue
        if not node.inputs or node.domain:
            continue
        handler = _HANDLERS.get(node.op_type)
        sources = [bounds[value] for value in node.inputs if value is not None and value in bounds]
        if handler is not None and sources:
            bound = handler(node, sources)
            if bound is not None and all(map(math.isfinite, bound)):
                bounds[node.outputs[0]] = bound
    return bounds


def _quantised(node: ir.Node, bounds: dict[ir.Value, Bound]) -> Bound:
    quantisation = dialect.quantisation_of(node)
    step = float(quantisation.step.max())
    zeros = quantisation.zero_point
    low = (quantisation.qmin - float(zeros.max())) * step
    high = (quantisation.qmax - float(zeros.min())) * step
    source = node.inputs[0]
    if source in bounds:  # rounding moves a value by less than a step
        low = max(low, bounds[source][0] - step)
        high = min(high, bounds[source][1] + step)
    return low, high


def _linear(node: ir.Node, sources: list[Bound]) -> Bound | None:
    weights = _weights(node)
    if weights is None:
        return None
    low, high = sources[0]
    if any(ints_attribute(node, "pads")):
        low, high = min(low, 0.0), max(high, 0.0)
    flat = weights.reshape(len(weights), -1)
    positive = np.maximum(flat, 0).sum(1, dtype=np.float64)
    negative = np.minimum(flat, 0).sum(1, dtype=np.float64)
    bias = np.zeros(len(flat))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        found = input_array(node, 2)
        if found is None:
            return None
        bias = found.astype(np.float64).reshape(-1)
    least = positive * low + negative * high + bias
    most = positive * high + negative * low + bias
    return float(least.min()), float(most.max())


def _weights(node: ir.Node) -> np.ndarray | None:
    value = node.inputs[1]
    if is_constant(value):
        return dialect.array_of(value)
    holder = producer(value)
    if holder is None or not dialect.is_dequantize(holder):
        return None
    step = dialect.step_of(holder)
    weights: np.ndarray = dialect.array_of(holder.inputs[0]).astype(np.float32) * step
    return weights


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
    "Sigmoid": lambda node, sources: (0.0, 1.0),
    "Tanh": lambda node, sources: (-1.0, 1.0),
    "HardSwish": lambda node, sources: (-0.375, max(sources[0][1], 0.0)),
}
