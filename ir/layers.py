"""A SCALED model as the hardware sees it: a list of layers on integers.

The writer, the simulator and its slow reference all work on this view, so they cannot disagree
about what a graph means.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.formats import PowerOfTwo, ReciprocalDyadic
from dlaconv.ir.graph import is_op, producer, shape_of

SAME_SCALE = (
    "MaxPool", "Concat", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
    "Relu", "LeakyRelu", "PRelu",
)  # fmt: skip
"""Operators that move or select integers without a rounding of their own (LeakyRelu, PRelu round
when they stand alone); their output has the step of their input."""
PIPELINED = ("Relu", "LeakyRelu", "PRelu")
"""Activations that act on the accumulator, before the one rounding of a layer."""
ROUNDING = (
    "Conv", "Gemm", "MatMul", "Add", "Div", "ReduceSum", "AveragePool", "GlobalAveragePool",
    "Tanh", "Sigmoid", "HardSwish",
)  # fmt: skip
"""Operators whose result is rounded to the output's step."""

_FLOAT32_ERROR = 2.0**-22


@dataclass(frozen=True)
class Map:
    """A stored feature map: integers that are worth 2^exponent each on the hardware.

    Attributes:
        name: the tensor's name.
        exponent: n of the step 2^n.
        shape: the static shape.
        qmin: smallest integer.
        qmax: largest integer.
    """

    name: str
    exponent: int
    shape: tuple[int, ...]
    qmin: int = -128
    qmax: int = 127

    @property
    def step(self) -> Fraction:
        """Value of one unit on the hardware."""
        return PowerOfTwo(self.exponent).step


@dataclass(frozen=True, eq=False)
class Weights:
    """Constant integers of a convolution or fully connected layer.

    Attributes:
        integers: ``[O, I/group, kh, kw]`` or ``[O, K]``.
        steps: value of one unit, per output channel.
        bias: int64 ``[O]`` in units of weight step times input step, None without bias.
    """

    integers: np.ndarray
    steps: tuple[Fraction, ...]
    bias: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Layer:
    """One step of the hardware.

    Attributes:
        node: the operator, one of `ROUNDING` or `SAME_SCALE`; an activation that stands alone
            (acts on a stored map) is such an operator too.
        activation: the pipelined activation that follows ``node``, None without one.
        inputs: the maps it reads, in the operator's order (constants left out).
        output: the map it stores.
        weights: constants of Conv and Gemm, None for the others.
    """

    node: ir.Node
    activation: ir.Node | None
    inputs: tuple[Map, ...]
    output: Map
    weights: Weights | None = None

    @property
    def op(self) -> str:
        """The operator's ONNX name."""
        return self.node.op_type

    @property
    def multipliers(self) -> tuple[Fraction, ...]:
        """What one unit of the accumulator is worth in units of the output, per channel.

        For Conv and Gemm that is S_w S_A / S_C; for MatMul S_A S_B / S_C.
        """
        ratio = Fraction(1)
        for source in self.inputs:
            ratio *= source.step
        ratio /= self.output.step
        if self.weights is None:
            return (ratio,)
        return tuple(step * ratio for step in self.weights.steps)


@dataclass(frozen=True, eq=False)
class Network:
    """A SCALED model as layers in execution order.

    Attributes:
        inputs: graph inputs as maps; ``name`` is the graph input's name.
        layers: the layers, producers first.
        outputs: (graph output's name, map) pairs.
    """

    inputs: tuple[Map, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[tuple[str, Map], ...]

    @property
    def maps(self) -> dict[str, Map]:
        """Every map by name."""
        found = {source.name: source for source in self.inputs}
        return found | {layer.output.name: layer.output for layer in self.layers}


def network_of(model: ir.Model) -> Network:
    """Reads the layers of a SCALED model.

    Raises:
        ValueError: if the model is not SCALED: a map without step, an operator that the hardware
            does not have; the message names the node.
    """
    return _NetworkReader(model).read()


def exact_step(value: float) -> Fraction:
    """The grid value that a float32 weight scale stands for.

    2^n/a is inexact in float32 for most ``a``; the nearest grid value within 2^-22 is meant.
    A value on neither grid (2^n/a, a/2^n) stands for itself.
    """
    literal = Fraction(float(value))
    odd = literal.numerator
    while odd % 2 == 0:
        odd //= 2
    if odd <= 255:  # a/2^n is always exact
        return literal
    near = ReciprocalDyadic.nearest(float(value)).step
    return near if abs(near / literal - 1) <= _FLOAT32_ERROR else literal


class _NetworkReader:
    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.maps: dict[ir.Value, Map] = {}

    def read(self) -> Network:
        inputs: list[Map] = []
        layers: list[Layer] = []
        for node in self.graph:
            if dialect.is_dequantize(node):
                continue
            if dialect.is_quantize(node):
                self._quantised(node, inputs, layers)
            elif is_op(node, *SAME_SCALE) and (source := self._source_maps(node)):
                result = node.outputs[0]
                stored = self._map(result, source[0].exponent, source[0].qmin, source[0].qmax)
                self.maps[result] = stored
                layers.append(Layer(node, None, source, stored))
            elif not is_op(node, *ROUNDING, *PIPELINED):
                raise ValueError(f"{node.name!r}: the hardware has no {node.op_type}")
        outputs = []
        for value in self.graph.outputs:
            if value not in self.maps:
                raise ValueError(f"graph output {value.name!r} is no quantised map")
            outputs.append((value.name or "", self.maps[value]))
        return Network(tuple(inputs), tuple(layers), tuple(outputs))

    def _quantised(self, node: ir.Node, inputs: list[Map], layers: list[Layer]) -> None:
        x, result = node.inputs[0], node.outputs[0]
        assert x is not None
        quantisation = dialect.quantisation_of(node)
        power = PowerOfTwo.exactly(quantisation.scalar_step)
        if power is None:
            raise ValueError(f"{node.name!r}: step {quantisation.scalar_step} is no power of two")
        stored = self._map(result, power.n, quantisation.qmin, quantisation.qmax)
        self.maps[result] = stored
        if x.is_graph_input():
            inputs.append(
                Map(x.name or "", stored.exponent, stored.shape, stored.qmin, stored.qmax)
            )
            self.maps[result] = inputs[-1]
            return
        op = producer(x)
        activation = None
        if op is not None and is_op(op, *PIPELINED) and op.inputs[0] not in self.maps:
            activation, op = op, producer(op.inputs[0])
        if op is None or not is_op(op, *ROUNDING, *PIPELINED):
            raise ValueError(f"{node.name!r}: quantises the result of no hardware operator")
        weights = self._weights(op) if is_op(op, "Conv", "Gemm") else None
        layers.append(Layer(op, activation, self._source_maps(op), stored, weights))

    def _map(self, value: ir.Value, exponent: int, qmin: int, qmax: int) -> Map:
        shape = shape_of(value)
        if shape is None:
            raise ValueError(f"the shape of {value.name!r} is not static")
        return Map(value.name or "", exponent, shape, qmin, qmax)

    def _source_maps(self, node: ir.Node) -> tuple[Map, ...]:
        return tuple(self.maps[value] for value in node.inputs if value in self.maps)

    def _weights(self, node: ir.Node) -> Weights:
        holder = producer(node.inputs[1])
        if holder is None or not dialect.is_dequantize(holder):
            raise ValueError(f"{node.name!r}: the weights are no integers")
        integers = dialect.array_of(holder.inputs[0])
        steps = np.broadcast_to(dialect.step_of(holder).reshape(-1), (integers.shape[0],))
        bias = None
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias_holder = producer(node.inputs[2])
            if bias_holder is None or not dialect.is_dequantize(bias_holder):
                raise ValueError(f"{node.name!r}: the bias is no integer")
            bias = dialect.array_of(bias_holder.inputs[0]).astype(np.int64)
        return Weights(integers, tuple(exact_step(float(step)) for step in steps), bias)
