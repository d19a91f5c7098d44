"""One form for fully connected layers: Gemm with weights [O, K], alpha = beta = 1, transB = 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    insert_before,
    is_op,
    is_optional_input_absent,
    remove,
    replace_node,
    shape_of,
    sole_consumer,
    take_over,
)
from dlaconv.ir.passes.linear_ops import (
    Weights,
    bias_of,
    constant_weights,
    drop_unused,
    place_weights,
    scaled,
    stem,
)
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass(tolerance=1e-5)
def fully_connected(model: ir.Model, context: Context) -> None:
    """Replaces Gemm of any form, and ``MatMul(x, constant) + b``, with ``Gemm(x, W[O, K], b)``.

    ``alpha`` goes into the weights' step, ``beta`` into the bias, ``transA`` becomes a Transpose.
    A MatMul of one row in more dimensions is reshaped to ``[1, K]`` and back; a constant left
    operand with one column is the same row, transposed. Gemm without constant weights becomes
    MatMul and Add, which the hardware has for two feature maps.
    """
    matrices = _Matrices()
    for node in model.graph:
        if is_op(node, "Gemm") and not _in_form(node):
            _from_gemm(node, matrices)
        elif is_op(node, "MatMul"):
            _from_matmul(node, matrices)
    matrices.drop_sources()


class _Matrices:
    """Constant weights brought into the form ``[O, K]``, once for all that share them."""

    def __init__(self) -> None:
        self._placed: dict[tuple[ir.Value, int, float], ir.Value] = {}

    def place(
        self, anchor: ir.Node, source: ir.Value, axis: int, factor: float = 1.0
    ) -> ir.Value | None:
        """The value ``[O, K]`` of ``factor * source``, in front of ``anchor`` if it is new.

        Args:
            anchor: the node that reads it.
            source: a constant or a Dequantize of one.
            axis: its axis of output channels, counted from the end.
            factor: what it is multiplied with.
        """
        key = (source, axis, factor)
        if key in self._placed:
            return self._placed[key]
        weights = matrix_weights(source, axis)
        if weights is None:
            return None
        if weights.axis == 0 and factor == 1.0 and len(shape_of(source) or ()) == 2:
            self._placed[key] = source
            return source
        made = scaled(weights, np.full(weights.channels, factor)) if factor != 1.0 else weights
        if made is None or (made.steps is not None and made.array.dtype.itemsize > 4):
            return None
        turned = np.ascontiguousarray(np.moveaxis(made.array, made.axis, 0))
        self._placed[key] = place_weights(anchor, Weights(turned, 0, made.steps))
        return self._placed[key]

    def drop_sources(self) -> None:
        for source in dict.fromkeys(source for source, _, _ in self._placed):
            drop_unused(source)


def matrix_weights(source: ir.Value, axis: int) -> Weights | None:
    """Constant weights as a matrix: leading dimensions of 1 go, a vector is one output channel.

    Args:
        source: a constant or a Dequantize of one.
        axis: its axis of output channels, -1 or -2.
    """
    shape = shape_of(source)
    if not shape or math.prod(shape[:-2]) != 1:
        return None
    weights = constant_weights(source, len(shape) + axis if len(shape) > 1 else 0)
    if weights is None:
        return None
    if len(shape) > 1:
        return Weights(weights.array.reshape(shape[-2:]), 2 + axis, weights.steps)
    if weights.steps is not None and (weights.steps != weights.steps[0]).any():
        return None
    steps = None if weights.steps is None else weights.steps[:1]
    return Weights(weights.array.reshape(1, -1), 0, steps)


def _in_form(node: ir.Node) -> bool:
    if (attribute(node, "transA", 0), attribute(node, "transB", 0)) != (0, 1):
        return False
    if (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) != (1.0, 1.0):
        return False
    weights = constant_weights(node.inputs[1], 0)
    if weights is None or is_optional_input_absent(node, 2):
        return weights is not None
    addend = node.inputs[2]
    constant = bias_of(node, weights.channels) is not None
    return constant and addend is not None and shape_of(addend) == (weights.channels,)


def _from_gemm(node: ir.Node, matrices: _Matrices) -> None:
    x, matrix = node.inputs[0], node.inputs[1]
    assert x is not None
    assert matrix is not None
    alpha, beta = float(attribute(node, "alpha", 1.0)), float(attribute(node, "beta", 1.0))
    transposed = bool(attribute(node, "transB", 0))
    weights = matrices.place(node, matrix, -2 if transposed else -1, alpha)
    chain = _Chain(node)
    if attribute(node, "transA", 0):
        x = chain.turn(x, "transpose")
    bias = None
    if weights is not None:
        channels = (shape_of(weights) or (0,))[0]
        bias = bias_of(node, channels)
        inputs = [x, weights]
        if bias is not None and not is_optional_input_absent(node, 2):
            inputs.append(chain.number("bias", beta * bias))
        result = chain.add("Gemm", inputs, {"transB": 1})
    else:
        if transposed:
            matrix = chain.turn(matrix, "transpose_b")
        result = chain.add("MatMul", [x, matrix])
        if alpha != 1.0:
            result = chain.add("Mul", [result, chain.number("alpha", alpha)], None, "scale")
    if bias is None and not is_optional_input_absent(node, 2):
        addend = node.inputs[2]
        assert addend is not None
        if beta != 1.0:
            addend = chain.add("Mul", [addend, chain.number("beta", beta)], None, "scale_c")
        chain.add("Add", [result, addend], None, "add")
    replace_node(node, *chain.nodes)


def _from_matmul(node: ir.Node, matrices: _Matrices) -> None:
    shape = shape_of(node.outputs[0])
    for side, axis in ((1, -1), (0, -2)):
        source, x = node.inputs[side], node.inputs[1 - side]
        if source is None or x is None or shape is None:
            continue
        weights, x_shape = matrix_weights(source, axis), shape_of(x)
        if weights is None or x_shape is None:
            continue
        inner = weights.array.shape[1 - weights.axis]
        plain = side == 1 and len(x_shape) == 2 and len(shape) == 2
        if not plain and math.prod(x_shape) != inner:  # more than one row
            continue
        placed = matrices.place(node, source, axis)
        if placed is None:
            continue
        addition, bias = _addition(node, weights.channels)
        chain = _Chain(node)
        if not plain:
            x = chain.reshape(x, (1, inner), "row")
        inputs = [x, placed] if bias is None else [x, placed, chain.number("bias", bias)]
        result = chain.add("Gemm", inputs, {"transB": 1})
        result.shape = ir.Shape((x_shape[0] if plain else 1, weights.channels))
        if not plain:
            result = chain.reshape(result, shape, "back")
        insert_before(node, *chain.nodes)
        if addition is not None:
            take_over(addition.outputs[0], result)
            remove(addition)
        else:
            take_over(node.outputs[0], result)
        remove(node)
        return


def _addition(node: ir.Node, channels: int) -> tuple[ir.Node | None, np.ndarray | None]:
    """The only reader of a MatMul if it adds a constant per channel, and the constant ``[O]``."""
    addition, result = sole_consumer(node.outputs[0]), node.outputs[0]
    if addition is None or not is_op(addition, "Add", "Sub"):
        return None, None
    position = next(i for i in (0, 1) if addition.inputs[i] is result)
    constant = input_array(addition, 1 - position)
    if constant is None or (is_op(addition, "Sub") and position == 1):
        return None, None
    if shape_of(addition.outputs[0]) != shape_of(result) or constant.size not in {1, channels}:
        return None, None
    if constant.size != 1 and (shape_of(result) or (0,))[-1] == channels != constant.shape[-1]:
        return None, None
    bias = np.broadcast_to(constant.reshape(-1).astype(np.float64), (channels,))
    return addition, -bias if is_op(addition, "Sub") else bias


class _Chain:
    """New nodes that together replace one."""

    def __init__(self, old: ir.Node) -> None:
        self.stem = stem(old)
        self.nodes: list[ir.Node] = []

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, Sequence[int] | int] | None = None,
        suffix: str = "",
    ) -> ir.Value:
        name = f"{self.stem}/{suffix}" if suffix else self.stem
        node = ir.node(op_type, list(inputs), dict(attributes or {}), name=name)
        node.outputs[0].dtype = ir.DataType.FLOAT
        self.nodes.append(node)
        return node.outputs[0]

    def turn(self, x: ir.Value, suffix: str) -> ir.Value:
        result = self.add("Transpose", [x], {"perm": [1, 0]}, suffix)
        shape = shape_of(x)
        result.shape = None if shape is None else ir.Shape(shape[::-1])
        return result

    def reshape(self, x: ir.Value, shape: Sequence[int], suffix: str) -> ir.Value:
        target = dialect.constant(f"{self.stem}/{suffix}/shape", np.asarray(shape, np.int64))
        result = self.add("Reshape", [x, target], None, suffix)
        result.shape = ir.Shape(shape)
        return result

    def number(self, name: str, value: float | np.ndarray) -> ir.Value:
        return dialect.constant(f"{self.stem}/{name}", np.asarray(value, np.float32))
