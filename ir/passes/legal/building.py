"""Building the nodes of a legalisation, with names and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    is_op,
    is_optional_input_absent,
    producer,
    shape_of,
    unique_name,
)
from dlaconv.ir.layers import MOVING
from dlaconv.ir.passes.hoist_quantise import picks
from dlaconv.ir.passes.legal.legalisation import Plan
from dlaconv.ir.passes.linear_ops import Weights, stem
from dlaconv.ir.passes.windows import Window
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding

Shape = tuple[int, ...]


@dataclass
class Builder:
    """Makes nodes that replace ``node``, and collects them.

    Every method returns the value that the new node computes, with its shape.

    Attributes:
        node: what is replaced.
        nodes: the new nodes, in order.
        gains: those of them that only hand values on, so that they may be scaled at will.
        multiples: see `Plan`.
    """

    node: ir.Node
    nodes: list[ir.Node] = field(default_factory=list)
    gains: list[ir.Node] = field(default_factory=list)
    multiples: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def x(self) -> ir.Value:
        """The first input of the node that is replaced."""
        x = self.node.inputs[0]
        assert x is not None
        return x

    def plan(
        self, detail: str, dropped: Sequence[ir.Node] = (), behind: ir.Node | None = None
    ) -> Plan:
        """The finished plan; the value made last takes the place of the node's output.

        The node that makes it takes over the node's name, which reports and files show.

        Args:
            detail: what was made, in words.
            dropped: nodes in front of the node whose work the plan does, too.
            behind: the activation behind the node, if the plan does its work, too; then the value
                takes the place of its output.
        """
        self.nodes[-1].name = (behind or self.node).name
        nodes = tuple(self.nodes)
        return Plan(
            nodes,
            detail,
            tuple(dropped),
            behind,
            gains=tuple(self.gains),
            multiples=self.multiples,
        )

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shape: Sequence[int],
        **attributes: ir.Attr | float | str | Sequence[int],
    ) -> ir.Value:
        """Any standard operator with one output of ``shape``."""
        name = self.name(op_type.lower())
        node = ir.node(op_type, list(inputs), attributes, name=name)
        return self._add(node, name, shape)

    def constant(self, word: str, array: np.ndarray) -> ir.Value:
        """A constant."""
        return dialect.constant(self.name(word), array)

    def conv(
        self,
        x: ir.Value,
        weights: Weights | ir.Value,
        bias: ir.Value | np.ndarray | None = None,
        *,
        strides: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        group: int = 1,
    ) -> ir.Value:
        """A convolution of ``x`` ``[N, C, D1, ...]`` with ``weights`` ``[O, C / group, K1, ...]``.

        Args:
            x: the map.
            weights: new ones, or the weights of another node.
            bias: one number per output channel.
            strides: 1 along every axis unless given.
            pads: beginnings and then ends; 0 unless given.
            dilations: 1 along every axis unless given.
            group: number of groups.
        """
        size = _static(x)
        held = weights if isinstance(weights, ir.Value) else self.weights(weights)
        channels, _, *kernel = _static(held)
        rank = len(kernel)
        window = Window(
            size[2:],
            tuple(kernel),
            tuple(strides or (1,) * rank),
            tuple(dilations or (1,) * rank),
            tuple(pads or (0,) * (2 * rank)),
        )
        inputs = [x, held, *self._bias(bias)]
        shape = (size[0], channels, *windows(window))
        return self.op("Conv", inputs, shape, **_attributes(window), group=group)

    def gemm(
        self, x: ir.Value, weights: Weights | ir.Value, bias: ir.Value | np.ndarray | None = None
    ) -> ir.Value:
        """A fully connected layer: ``x`` ``[N, K]`` with ``weights`` ``[O, K]``."""
        held = weights if isinstance(weights, ir.Value) else self.weights(weights)
        shape = (_static(x)[0], _static(held)[0])
        return self.op("Gemm", [x, held, *self._bias(bias)], shape, transB=1)

    def max_pool(
        self, x: ir.Value, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]
    ) -> ir.Value:
        """A max pool; pads are beginnings and then ends."""
        return self._pool("MaxPool", x, kernel, strides, pads, dilations=(1,) * len(kernel))

    def average_pool(
        self, x: ir.Value, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]
    ) -> ir.Value:
        """An average pool that counts its padding."""
        return self._pool("AveragePool", x, kernel, strides, pads, count_include_pad=1)

    def add(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """The sum of two maps of one shape."""
        return self.op("Add", [left, right], _static(left))

    def relu(self, x: ir.Value) -> ir.Value:
        """A ReLU."""
        return self.op("Relu", [x], _static(x))

    def concat(self, values: Sequence[ir.Value], axis: int = 1) -> ir.Value:
        """Maps one behind the other along an axis."""
        shape = list(_static(values[0]))
        shape[axis] = sum(_static(value)[axis] for value in values)
        return self.op("Concat", values, shape, axis=axis)

    def reshape(self, x: ir.Value, shape: Sequence[int]) -> ir.Value:
        """The same values in another shape."""
        target = self.constant("shape", np.asarray(shape, np.int64))
        return self.op("Reshape", [x, target], shape)

    def transpose(self, x: ir.Value, perm: Sequence[int]) -> ir.Value:
        """The axes in another order."""
        shape = _static(x)
        return self.op("Transpose", [x], [shape[axis] for axis in perm], perm=perm)

    def again(self, node: ir.Node, x: ir.Value) -> ir.Value:
        """The operator of ``node`` on another map of the same shape."""
        shape = _static(node.outputs[0])
        if is_op(node, "Reshape"):
            return self.reshape(x, shape)
        return self.op(node.op_type, [x, *node.inputs[1:]], shape, **dict(node.attributes))

    def weights(self, weights: Weights) -> ir.Value:
        """Weights as a value: a constant, or the ``Dequantize`` of integers."""
        name = self.name("weights")
        if weights.steps is None:
            return dialect.constant(name, np.asarray(weights.array, np.float32))
        steps = weights.steps.astype(np.float32)
        shaped = steps[0] if (steps == steps[0]).all() else weights.along_axis(steps)
        node = dialect.dequantize(
            dialect.constant(f"{name}/integers", weights.array),
            np.asarray(shaped),
            name=name,
            output=name,
        )
        self.nodes.append(node)
        return node.outputs[0]

    def stored_like(self, value: ir.Value, source: ir.Value) -> ir.Value:
        """``value`` on the grid of ``source``, for a layer that only moves its integers.

        The value itself where nothing quantises ``source``: then the step is derived from data.
        The source may round down or up; what is on the grid needs no half unit to make up for it.
        """
        quantisation = stored_quantisation(source)
        if quantisation is None:
            return value
        return self.quantised(value, replace(quantisation, rounding=Rounding.HALF_EVEN))

    def quantised(self, value: ir.Value, quantisation: Quantisation) -> ir.Value:
        """``value`` on a grid."""
        name = self.name("stored")
        node = dialect.quantize(value, quantisation, name=name, output=name)
        self.nodes.append(node)
        return node.outputs[0]

    def name(self, word: str) -> str:
        """A new name for something that belongs to the node."""
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        return unique_name(graph, f"{stem(self.node)}/{word}")

    def _pool(
        self,
        op_type: str,
        x: ir.Value,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        **attributes: int | Sequence[int],
    ) -> ir.Value:
        size = _static(x)
        ones = (1,) * len(kernel)
        window = Window(size[2:], tuple(kernel), tuple(strides), ones, tuple(pads))
        written = {k: v for k, v in _attributes(window).items() if k != "dilations"}
        return self.op(op_type, [x], (*size[:2], *windows(window)), **written, **attributes)

    def _bias(self, bias: ir.Value | np.ndarray | None) -> list[ir.Value]:
        if bias is None:
            return []
        if isinstance(bias, np.ndarray):
            return [self.constant("bias", bias.astype(np.float32))]
        return [bias]

    def _add(self, node: ir.Node, name: str, shape: Sequence[int]) -> ir.Value:
        value = node.outputs[0]
        value.name, value.shape, value.dtype = name, ir.Shape(shape), ir.DataType.FLOAT
        self.nodes.append(node)
        return value


def windows(window: Window) -> Shape:
    """How many windows there are along each axis, rounded down."""
    rank = len(window.size)
    return tuple(
        (size + begin + end - extent) // stride + 1
        for size, begin, end, extent, stride in zip(
            window.size,
            window.pads[:rank],
            window.pads[rank:],
            window.extents,
            window.strides,
            strict=True,
        )
    )


def stored_quantisation(value: ir.Value | None) -> Quantisation | None:
    """The quantisation whose integers a value holds, through operators that only move them.

    None if it is not stored: computed and not rounded yet, in floating point, joined from different
    grids, padded with what is not on the grid, or moved with steps per channel.
    """
    pending, found, moved, padded = [value], None, False, False
    while pending:
        node = producer(pending.pop())
        padded = padded or _pads_zeros(node)
        if node is not None and (is_op(node, *MOVING, "Relu") or picks(node) or _pads_zeros(node)):
            pending += node.inputs if is_op(node, "Concat") else node.inputs[:1]
            moved = moved or not is_op(node, "MaxPool", "Relu")
            continue
        if node is None or not dialect.is_quantize(node):
            return None
        quantisation = dialect.quantisation_of(node)
        if found is not None and not found.same_grid(quantisation):
            return None
        if moved and not quantisation.per_tensor:
            return None
        if padded and quantisation.on_grid(np.zeros(1, np.float32)).any():
            return None
        found = quantisation
    return found


def _pads_zeros(node: ir.Node | None) -> bool:
    if node is None or not is_op(node, "Pad"):
        return False
    if attribute(node, "mode", "constant") != "constant":
        return False
    fill = np.zeros(1) if is_optional_input_absent(node, 2) else input_array(node, 2)
    return fill is not None and not fill.any()


def _static(value: ir.Value) -> Shape:
    shape = shape_of(value)
    if shape is None:
        raise ValueError(f"the shape of {value.name!r} is not static")
    return shape


def _attributes(window: Window) -> dict[str, Shape]:
    return {
        "kernel_shape": window.kernel,
        "strides": window.strides,
        "dilations": window.dilations,
        "pads": window.pads,
    }
