"""Reading and changing the constant weights and biases of linear operators.

Shared by the passes that fold something into a linear operator. Constants are never changed in
place: sources share them across the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    insert_before,
    is_constant,
    is_op,
    is_optional_input_absent,
    producer,
    register_constants,
    remove,
    shape_of,
    unique_name,
)

LINEAR = ("Conv", "ConvTranspose", "Gemm")
"""Operators with constant weights and one bias per output channel."""

_TINY = float(np.finfo(np.float32).tiny)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Weights:
    """Constant weights: ``array * steps``, one step per output channel.

    Attributes:
        array: integers, or floats if ``steps`` is None.
        axis: axis of the output channels.
        steps: float64 ``[O]``, None for weights that the source does not quantise.
    """

    array: np.ndarray
    axis: int
    steps: np.ndarray | None

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.array.shape[self.axis])

    def along_axis(self, values: np.ndarray) -> np.ndarray:
        """Per-channel values in a shape that broadcasts against the weights."""
        return values.reshape([-1 if i == self.axis else 1 for i in range(self.array.ndim)])


def output_axis(node: ir.Node) -> int:
    """The axis of a linear operator's weights that counts its output channels."""
    if is_op(node, "Gemm"):
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if is_op(node, "ConvTranspose") else 0


def weights_of(node: ir.Node) -> Weights | None:
    """The weights of a linear operator.

    None if they are no constants, or have no single step per output channel.
    """
    if not is_op(node, *LINEAR) or (
        is_op(node, "ConvTranspose") and attribute(node, "group", 1) != 1
    ):
        return None
    return constant_weights(node.inputs[1], output_axis(node))


def constant_weights(value: ir.Value | None, axis: int) -> Weights | None:
    """A constant or a ``Dequantize`` of one as weights whose output channels lie on ``axis``."""
    if value is None:
        return None
    holder = producer(value)
    if holder is not None and dialect.is_dequantize(holder) and is_constant(holder.inputs[0]):
        integers = dialect.array_of(holder.inputs[0])
        steps = channel_steps(dialect.step_of(holder), integers.shape, axis)
        return None if steps is None else Weights(integers, axis, steps)
    if is_constant(value) and holder is None:
        array = dialect.array_of(value)
        return Weights(array, axis, None) if array.dtype.kind == "f" and array.ndim else None
    return None


def channel_steps(step: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray | None:
    """Steps as float64 ``[O]``, None if they differ within an output channel.

    Args:
        step: anything that broadcasts against ``shape``.
        shape: the weights' shape.
        axis: the axis of the output channels.
    """
    if step.ndim > len(shape):
        return None
    full = step.astype(np.float64).reshape((1,) * (len(shape) - step.ndim) + step.shape)
    rows = np.moveaxis(full, axis, 0)
    rows = rows.reshape(rows.shape[0], -1)
    if (rows != rows[:, :1]).any():
        return None
    return np.ascontiguousarray(np.broadcast_to(rows[:, 0], (shape[axis],)))


def bias_of(node: ir.Node, channels: int) -> np.ndarray | None:
    """The bias as float64 ``[O]``, zeros if there is none, None if it is no constant vector."""
    if is_optional_input_absent(node, 2):
        return np.zeros(channels)
    holder = producer(node.inputs[2])
    if holder is not None and dialect.is_dequantize(holder):
        integers = dialect.array_of(holder.inputs[0])
        array = integers * dialect.step_of(holder).astype(np.float64)
    elif is_constant(node.inputs[2]):
        array = dialect.array_of(node.inputs[2]).astype(np.float64)
    else:
        return None
    try:
        return np.broadcast_to(array.reshape(-1), (channels,)).copy()
    except ValueError:  # a Gemm's C of more than one row
        return None


def set_bias(node: ir.Node, bias: np.ndarray) -> None:
    """Gives a linear operator a float32 bias ``[O]``."""
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, dialect.constant(f"{stem(node)}/bias", bias.astype(np.float32)))
    assert isinstance(node.graph, ir.Graph)
    register_constants(node.graph, [node])


def set_weights(node: ir.Node, weights: Weights) -> None:
    """Gives a linear operator other weights; the old ones go if nothing else reads them."""
    old = node.inputs[1]
    assert old is not None
    node.replace_input_with(1, place_weights(node, weights))
    drop_unused(old)


def place_weights(anchor: ir.Node, weights: Weights) -> ir.Value:
    """Puts weights into the graph in front of ``anchor`` and returns the value to read."""
    graph = anchor.graph
    assert isinstance(graph, ir.Graph)
    if weights.steps is None:
        value = dialect.constant(unique_name(graph, f"{stem(anchor)}/weights"), weights.array)
        graph.register_initializer(value)
        return value
    steps = weights.steps.astype(np.float32)
    shaped = steps[0] if (steps == steps[0]).all() else weights.along_axis(steps)
    name = f"{stem(anchor)}/weights"
    holder = dialect.dequantize(
        dialect.constant(f"{name}/integers", weights.array),
        np.asarray(shaped),
        name=name,
        output=unique_name(graph, name),
    )
    insert_before(anchor, holder)
    return holder.outputs[0]


def drop_unused(value: ir.Value) -> None:
    """Removes a constant, and the ``Dequantize`` in front of it, if nothing reads it any more."""
    if value.is_graph_output() or value.uses():
        return
    holder = value.producer()
    if holder is not None and dialect.is_dequantize(holder):
        integers = holder.inputs[0]
        remove(holder)
        if integers is not None:
            drop_unused(integers)
    elif value.is_initializer() and not value.is_graph_input():
        graph = value.graph
        assert graph is not None
        del graph.initializers[value.name or ""]


def scaled(weights: Weights, factors: np.ndarray) -> Weights | None:
    """Weights times one factor per output channel, integers kept.

    The step takes the factor's magnitude and the integers its sign. A channel whose step would
    vanish in float32 becomes zero and keeps its step. Where a negated integer leaves its type
    (-128), the next wider type holds it; the scale stage decides what the hardware gets.

    Args:
        weights: the weights.
        factors: float64 ``[O]``.

    Returns:
        None if a factor is not finite or the result leaves float32.
    """
    if not np.isfinite(factors).all():
        return None
    if weights.steps is None:
        product = weights.array * weights.along_axis(factors).astype(weights.array.dtype)
        return Weights(product, weights.axis, None) if np.isfinite(product).all() else None
    steps = weights.steps * np.abs(factors)
    if (steps > _FLOAT32_MAX).any():
        return None
    dead = steps < _TINY
    signs = np.where(dead, 0, np.sign(factors))
    integers = weights.array
    if (signs != 1).any():
        negative = np.take(integers, np.flatnonzero(signs < 0), weights.axis)
        if negative.size and negative.min() == np.iinfo(integers.dtype).min:
            integers = integers.astype(_wider(integers.dtype))
        integers = integers * weights.along_axis(signs).astype(integers.dtype)
    return Weights(integers, weights.axis, np.where(dead, weights.steps, steps))


def linear_producer(value: ir.Value | None) -> ir.Node | None:
    """The linear operator whose result ``value`` is, if nothing but one node reads the result."""
    node = producer(value)
    if node is None or value is None or not is_op(node, *LINEAR):
        return None
    return node if len(value.uses()) == 1 and not value.is_graph_output() else None


def per_channel(array: np.ndarray, node: ir.Node, channels: int) -> np.ndarray | None:
    """A constant that broadcasts against a linear operator's result, as float64 ``[O]``.

    None if it varies along another axis than the channels or makes the result larger.
    """
    shape = shape_of(node.outputs[0])
    rank = len(shape) if shape is not None else node.outputs[0].shape and len(node.outputs[0].shape)
    if not rank or array.ndim > rank:
        return None
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if full.size != full.shape[1] or full.shape[1] not in {1, channels}:
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (channels,)).copy()


def stem(node: ir.Node) -> str:
    """What new values that belong to a node are named after."""
    return node.name or node.outputs[0].name or node.op_type


def _wider(dtype: np.dtype) -> type[np.signedinteger]:
    return np.int16 if dtype == np.int8 else np.int32 if dtype == np.int16 else np.int64
