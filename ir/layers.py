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
from dlaconv.ir.blocks import each_block, shape_tuple, tensor_of
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.graph import (
    is_op,
    is_optional_input_absent,
    producer,
    shape_of,
    sole_consumer,
)
from dlaconv.ir.weight_steps import exact_steps, grid_steps

MOVING = ("MaxPool", "Concat", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that move or select integers; their output has the step of their input."""
PIPELINED = ("Relu", "LeakyRelu", "PRelu")
"""Activations that act on the accumulator, before the one rounding of a layer."""
ACTIVATIONS = (*PIPELINED, "Clip")
"""Those of a LEGAL model: a clip becomes a ReLU, or nothing, and a map that saturates."""
SAME_SCALE = (*MOVING, *PIPELINED)
"""Operators that need no quantise node of their own when they read a stored map; their output has
the step of their input (LeakyRelu and PRelu then round to that step)."""
ACTIVATED = ("Conv", "Gemm", "MatMul", "Add", "Div", "ReduceSum", "AveragePool",
             "GlobalAveragePool")  # fmt: skip
"""Layers that activations are pipelined behind."""
TABLES = ("Tanh", "Sigmoid", "HardSwish")
"""Activations that the hardware looks up in a table of all input integers."""
ROUNDING = (
    "Conv", "Gemm", "MatMul", "Add", "Div", "ReduceSum", "AveragePool", "GlobalAveragePool",
    *TABLES,
)  # fmt: skip
"""Operators whose result is rounded to the output's step."""

_EXACT_IN_FLOAT32 = 1 << 24
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
    def distinct_steps(self) -> tuple[tuple[Fraction, ...], np.ndarray]:
        """The different values of one unit, exact, and which one each output channel has."""
        scales, which = np.unique(self.scales, return_inverse=True)
        return exact_steps(scales), which

    @property
    def steps(self) -> tuple[Fraction, ...]:
        """Value of one unit per output channel, exact."""
        steps, which = self.distinct_steps
        return tuple(steps[index] for index in which)

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the positive integers, and of the magnitudes of the negative ones, by channel."""
        return signed_sums(self.integers)


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
        different, which = self.distinct_multipliers
        return tuple(different[index] for index in which)

    @property
    def distinct_multipliers(self) -> tuple[tuple[Fraction, ...], np.ndarray]:
        """The different `multipliers`, and which one each output channel has."""
        first, *others = (source.step for source in self.inputs)
        if self.weights is not None:
            steps, which = self.weights.distinct_steps
            unit = first / self.output.step
            return tuple(step * unit for step in steps), which
        if self.op == "MatMul":
            first *= others[0]
        elif self.op == "Add":
            first = min(first, others[0])
        elif self.op == "Div":
            first /= others[0]
        return (first / self.output.step,), np.zeros(1, np.int64)


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


def signed_sums(integers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the positive integers, and of the magnitudes of the negative ones.

    Args:
        integers: ``[O, ...]``.

    Returns:
        Two int64 arrays ``[O]``.
    """
    rows = integers.reshape(len(integers), -1)
    total, magnitude = np.empty((2, len(rows)), np.int64)
    largest = max(int(integers.max(initial=0)), -int(integers.min(initial=0)))
    exact = rows.shape[1] * largest <= _EXACT_IN_FLOAT32

    def add(part: slice) -> None:
        values = rows[part].astype(np.float32 if exact else np.int64)
        total[part] = values.sum(axis=1)
        magnitude[part] = np.abs(values, out=values).sum(axis=1)

    each_block(add, rows.shape)
    return (magnitude + total) // 2, (magnitude - total) // 2


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
        if shape is None or min(shape, default=1) < 1:
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
