"""A SCALED model as the hardware sees it: a list of layers on integers.

The writer, the simulator and its slow reference all work on this view, so they cannot disagree
about what a graph means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.blocks import shape_tuple, tensor_of
from dlaconv.ir.formats import PowerOfTwo, ReciprocalDyadic
from dlaconv.ir.graph import (
    is_op,
    is_optional_input_absent,
    producer,
    shape_of,
    sole_consumer,
)

MOVING = ("MaxPool", "Concat", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that move or select integers; their output has the step of their input."""
PIPELINED = ("Relu", "LeakyRelu", "PRelu")
"""Activations that act on the accumulator, before the one rounding of a layer."""
SAME_SCALE = (*MOVING, *PIPELINED)
"""Operators that need no quantise node of their own when they read a stored map; their output has
the step of their input (LeakyRelu and PRelu then round to that step)."""
TABLES = ("Tanh", "Sigmoid", "HardSwish")
"""Activations that the hardware looks up in a table of all input integers."""
ROUNDING = (
    "Conv", "Gemm", "MatMul", "Add", "Div", "ReduceSum", "AveragePool", "GlobalAveragePool",
    *TABLES,
)  # fmt: skip
"""Operators whose result is rounded to the output's step."""

_FLOAT32_ERROR = 2.0**-22
_BIAS_STEP_ERROR = 2.0**-20
_OPERANDS = {"Add": 2, "Div": 2, "MatMul": 2, "Concat": None}


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
        tensor: the integers, ``[O, I/group, kh, kw]`` or ``[O, K]``; read when they are used.
        scales: value of one unit per output channel, float64 ``[O]``, on the grid.
        bias: int64 ``[O]`` in units of weight step times input step, None without bias.
    """

    tensor: ir.TensorProtocol
    scales: np.ndarray
    bias: np.ndarray | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the integers."""
        return shape_tuple(self.tensor)

    @cached_property
    def integers(self) -> np.ndarray:
        """All integers."""
        return self.tensor.numpy()

    @cached_property
    def steps(self) -> tuple[Fraction, ...]:
        """Value of one unit per output channel, exact."""
        return tuple(exact_step(float(scale)) for scale in self.scales)


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
    def rectifier(self) -> ir.Node | None:
        """The Relu, LeakyRelu or PRelu of the layer, pipelined or standing alone."""
        return self.node if is_op(self.node, *PIPELINED) else self.activation

    @property
    def slopes(self) -> np.ndarray | None:
        """What negative values are multiplied by, None without LeakyRelu and PRelu.

        Float64, exact; the shape broadcasts against the output as ONNX says.
        """
        node = self.rectifier
        if node is None or is_op(node, "Relu"):
            return None
        if is_op(node, "LeakyRelu"):
            return np.asarray(np.float32(node.attributes.get_float("alpha", 0.01)), np.float64)
        slope = node.inputs[1]
        holder = producer(slope)
        if holder is not None and dialect.is_dequantize(holder):
            integers = dialect.array_of(holder.inputs[0]).astype(np.float64)
            return np.asarray(integers * dialect.step_of(holder).astype(np.float64))
        return dialect.array_of(slope).astype(np.float64)

    @property
    def multipliers(self) -> tuple[Fraction, ...]:
        """What one unit of the accumulator is worth in units of the output, per channel.

        Conv and Gemm: S_w S_A / S_C for each output channel. One value for the others: MatMul
        S_A S_B / S_C; Add min(S_A, S_B) / S_C; Div S_A / (S_B S_C); else S_A / S_C.
        """
        first, *others = (source.step for source in self.inputs)
        if self.weights is not None:
            return tuple(step * first / self.output.step for step in self.weights.steps)
        if self.op == "MatMul":
            first *= others[0]
        elif self.op == "Add":
            first = min(first, others[0])
        elif self.op == "Div":
            first /= others[0]
        return (first / self.output.step,)


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

    Raises:
        ValueError: if the scale is not positive and finite.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"a weight step must be positive and finite, not {value}")
    literal = Fraction(float(value))
    odd = literal.numerator
    while odd % 2 == 0:
        odd //= 2
    if odd <= 255:  # a/2^n is always exact
        return literal
    near = ReciprocalDyadic.nearest(float(value)).step
    return near if abs(near / literal - 1) <= _FLOAT32_ERROR else literal


def grid_steps(values: np.ndarray) -> np.ndarray:
    """The grid values that float32 weight scales stand for, in float64; see `exact_step`.

    Args:
        values: scales, any shape.

    Raises:
        ValueError: if a scale is not positive and finite.
    """
    literal = np.asarray(values, np.float64)
    if not (np.isfinite(literal) & (literal > 0)).all():
        raise ValueError("a weight step must be positive and finite")
    mantissa, exponent = np.frexp(literal)
    dyadic = np.floor(mantissa * 256) == mantissa * 256  # a/2^n with a below 256: exact
    ideal = 128 / mantissa
    lower = np.floor(ideal)
    candidates = np.stack([lower, lower + 1])
    errors = np.abs(ideal / candidates - 1)
    divisor = np.where(errors[0] <= errors[1], *candidates)
    near = np.ldexp(1 / divisor, exponent + 7)
    on_grid = ~dyadic & (errors.min(axis=0) <= _FLOAT32_ERROR)
    steps: np.ndarray = np.where(on_grid, near, literal)
    return steps


class _NetworkReader:
    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.maps: dict[ir.Value, Map] = {}
        self.inputs: dict[ir.Value, Map] = {}
        self.layers: list[Layer] = []

    def read(self) -> Network:
        for node in self.graph:
            if dialect.is_dequantize(node):
                continue
            if dialect.is_quantize(node):
                self._quantised(node)
            elif is_op(node, *SAME_SCALE) and node.inputs[0] in self.maps:
                if not dialect.is_quantize(sole_consumer(node.outputs[0])):
                    self._unquantised(node)
            elif not is_op(node, *ROUNDING, *PIPELINED):
                raise ValueError(f"{node.name!r}: the hardware has no {node.op_type}")
        outputs = []
        for value in self.graph.outputs:
            if value not in self.maps:
                raise ValueError(f"graph output {value.name!r} is no quantised map")
            outputs.append((value.name or "", self.maps[value]))
        inputs = tuple(self.inputs[value] for value in self.graph.inputs if value in self.inputs)
        return Network(inputs, tuple(self.layers), tuple(outputs))

    def _quantised(self, node: ir.Node) -> None:
        x, result = node.inputs[0], node.outputs[0]
        assert x is not None
        stored = self._stored(node)
        if x.is_graph_input():
            stored = replace(stored, name=x.name or "")
            if self.inputs.setdefault(x, stored) != stored:
                raise ValueError(f"graph input {x.name!r} is quantised in two ways")
            self.maps[result] = stored
            return
        op = producer(x)
        activation = None
        if op is not None and is_op(op, *PIPELINED) and op.inputs[0] not in self.maps:
            activation, op = op, producer(op.inputs[0])
        if op is None or not is_op(op, *ROUNDING, *SAME_SCALE):
            raise ValueError(f"{node.name!r}: quantises the result of no hardware operator")
        if is_op(op, *TABLES) and activation is not None and not is_op(activation, "Relu"):
            raise ValueError(f"{activation.name!r}: cannot follow {op.op_type}")
        self._add(op, activation, result, stored)

    def _unquantised(self, node: ir.Node) -> None:
        sources = self._sources(node)
        qmin = min(source.qmin for source in sources)
        qmax = max(source.qmax for source in sources)
        result = node.outputs[0]
        self._add(node, None, result, self._map(result, sources[0].exponent, qmin, qmax))

    def _add(self, op: ir.Node, activation: ir.Node | None, result: ir.Value, stored: Map) -> None:
        sources = self._sources(op)
        wanted = _OPERANDS.get(op.op_type, 1)
        if len(sources) != (wanted or len(op.inputs)):
            raise ValueError(f"{op.name!r}: {op.op_type} reads something that is no stored map")
        if is_op(op, *SAME_SCALE) and any(s.exponent != stored.exponent for s in sources):
            raise ValueError(f"{op.name!r}: {op.op_type} cannot change the step of its map")
        weights = self._weights(op, sources[0]) if is_op(op, "Conv", "Gemm") else None
        self.maps[result] = stored
        layer = Layer(op, activation, sources, stored, weights)
        if (slopes := layer.slopes) is not None and not np.isfinite(slopes).all():
            raise ValueError(f"{op.name!r}: a slope is not finite")
        self.layers.append(layer)

    def _stored(self, node: ir.Node) -> Map:
        quantisation = dialect.quantisation_of(node)
        if not (quantisation.per_tensor and quantisation.symmetric):
            raise ValueError(f"{node.name!r}: a map has one step and no zero point")
        power = PowerOfTwo.exactly(quantisation.scalar_step)
        if power is None:
            raise ValueError(f"{node.name!r}: step {quantisation.scalar_step} is no power of two")
        return self._map(node.outputs[0], power.n, quantisation.qmin, quantisation.qmax)

    def _map(self, value: ir.Value, exponent: int, qmin: int, qmax: int) -> Map:
        shape = shape_of(value)
        if shape is None:
            raise ValueError(f"the shape of {value.name!r} is not static")
        return Map(value.name or "", exponent, shape, qmin, qmax)

    def _sources(self, node: ir.Node) -> tuple[Map, ...]:
        return tuple(self.maps[value] for value in node.inputs if value in self.maps)

    def _weights(self, node: ir.Node, source: Map) -> Weights:
        holder = producer(node.inputs[1])
        if holder is None or not dialect.is_dequantize(holder):
            raise ValueError(f"{node.name!r}: the weights are no integers")
        tensor = tensor_of(holder.inputs[0])
        channels = shape_tuple(tensor)[:1]
        scales = grid_steps(np.broadcast_to(dialect.step_of(holder).reshape(-1), channels))
        if is_optional_input_absent(node, 2):
            return Weights(tensor, scales, None)
        bias_holder = producer(node.inputs[2])
        if bias_holder is None or not dialect.is_dequantize(bias_holder):
            raise ValueError(f"{node.name!r}: the bias is no integer")
        unit = scales * float(source.step)
        stated = dialect.step_of(bias_holder).reshape(-1).astype(np.float64)
        if np.abs(stated / unit - 1).max(initial=0) > _BIAS_STEP_ERROR:
            raise ValueError(f"{node.name!r}: the bias step is not weight step times input step")
        bias = dialect.array_of(bias_holder.inputs[0]).astype(np.int64).reshape(-1)
        return Weights(tensor, scales, np.broadcast_to(bias, channels))
