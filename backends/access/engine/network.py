"""A whole network as one graph of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.engine import elementwise, linear, pooling
from dlaconv.backends.access.engine.builder import Builder, Signal
from dlaconv.backends.access.engine.precision import SINGLE, Factors
from dlaconv.backends.access.engine.requantise import Accumulator, Ending, finish
from dlaconv.backends.access.semantics.problems import INT32
from dlaconv.ir.graph import ints_attribute
from dlaconv.ir.layers import PIPELINED, TABLES, Layer, Map, Network

_SUMS: Mapping[str, Callable[..., Accumulator]] = {
    "Conv": linear.weighted_sum,
    "Gemm": linear.weighted_sum,
    "MatMul": linear.matrix_product,
    "Add": elementwise.add,
    "AveragePool": pooling.average_pool,
    "GlobalAveragePool": pooling.global_average_pool,
    "ReduceSum": pooling.reduce_sum,
}


@dataclass(frozen=True)
class Margin:
    """How far a layer is from the limit of exact float32 sums.

    Attributes:
        name: the map that the layer stores.
        op: its operator.
        bound: largest magnitude that any partial sum can reach, from the actual weights.
        kernels: float32 kernels that the sum was cut into, 1 where the bound holds.
        double: True if the rounding or the sum is done in double precision.
    """

    name: str
    op: str
    bound: int
    kernels: int
    double: bool

    @property
    def ratio(self) -> float:
        """2^24 over the bound; below 1 the layer was cut or runs in double precision."""
        return 2.0**SINGLE / max(self.bound, 1)


@dataclass(frozen=True)
class Given:
    """A map that consumers read from a graph input instead of from its layer.

    Attributes:
        parts: contents per unit: 1 for integers, 2 for half units.
        exact: False for real numbers in units of the map.
    """

    parts: int = 1
    exact: bool = True


INEXACT = Given(exact=False)
"""A map of real numbers."""


@dataclass(frozen=True, eq=False)
class Guard:
    """The smallest and largest accumulator of a layer whose bound exceeds 32 bits."""

    layer: Layer
    low: ir.Value
    high: ir.Value
    parts: int


@dataclass(frozen=True, eq=False)
class Engine:
    """The graph of a network.

    Attributes:
        build: its nodes.
        values: what every layer stores, by map name; float32 integers.
        guards: accumulators to look at after a run.
        margins: one per layer that sums.
    """

    build: Builder
    values: Mapping[str, ir.Value]
    guards: tuple[Guard, ...]
    margins: tuple[Margin, ...]


def given_name(name: str) -> str:
    """The graph input that stands for a given map."""
    return f"{name}/given"


Enter = Callable[[Builder, Map], ir.Value]
"""Makes the integers of a network's input."""


def _integer_input(build: Builder, stored: Map) -> ir.Value:
    return build.input(stored.name, stored.shape)


def assemble(
    network: Network,
    ending: Ending,
    given: Mapping[str, Given] | None = None,
    enter: Enter = _integer_input,
) -> Engine:
    """Builds the graph of a network.

    Args:
        network: the layers.
        ending: rounding and activation order.
        given: maps that come from graph inputs called `given_name`, also graph inputs.
        enter: makes the integers of the other graph inputs; a graph input of integers by default.

    Raises:
        ConversionError: naming the first layer that double precision cannot evaluate exactly.
    """
    return _Assembler(ending, given or {}, enter).assemble(network)


class _Assembler:
    def __init__(self, ending: Ending, given: Mapping[str, Given], enter: Enter) -> None:
        self.ending, self.given, self.enter = ending, given, enter
        self.build = Builder(folding=ending.folding)
        self.signals: dict[str, Signal] = {}
        self.values: dict[str, ir.Value] = {}
        self.guards: list[Guard] = []
        self.margins: list[Margin] = []

    def assemble(self, network: Network) -> Engine:
        for source in network.inputs:
            if source.name in self.given:
                self._give(source)
            else:
                value = self.enter(self.build, source)
                self.signals[source.name] = Signal(value, source.qmin, source.qmax)
        for layer in network.layers:
            self.build.layer = layer.output.name
            result = self._emit(layer, [self.signals[source.name] for source in layer.inputs])
            self.values[layer.output.name] = result.value
            self.signals[layer.output.name] = result
            if layer.output.name in self.given:
                self._give(layer.output)
        return Engine(self.build, self.values, tuple(self.guards), tuple(self.margins))

    def _give(self, stored: Map) -> None:
        how = self.given[stored.name]
        value = self.build.input(given_name(stored.name), stored.shape)
        beyond = how.parts - 1  # half a unit outside the range: 255 / 2 of an unsigned source
        low, high = stored.qmin * how.parts - beyond, stored.qmax * how.parts + beyond
        self.signals[stored.name] = Signal(value, low, high, how.parts, how.exact)

    def _emit(self, layer: Layer, inputs: list[Signal]) -> Signal:
        build, op = self.build, layer.op
        if op in TABLES:
            entry = elementwise.look_up(build, layer, inputs[0], self.ending.rounding)
            value = build.publish(entry, layer.output)
            return Signal(value, layer.output.qmin, layer.output.qmax)
        if op == "Div":
            pipelined = None if self.ending.after_clamp(layer) else layer.slopes
            quotient = elementwise.divide(build, layer, inputs[0], inputs[1], pipelined)
            return finish(build, quotient, layer, self.ending, rectified=pipelined is not None)
        if op in _SUMS:
            acc = self._guarded(layer, _SUMS[op](build, layer, *inputs))
            return finish(build, acc, layer, self.ending)
        return self._moved(layer, _move(build, layer, inputs))

    def _guarded(self, layer: Layer, acc: Accumulator) -> Accumulator:
        self.margins.append(Margin(layer.output.name, layer.op, acc.bound, acc.kernels, acc.double))
        limit = -INT32[0] * acc.parts
        if acc.bound < limit or not acc.exact:
            return acc
        ends = [self.build.op(op, acc.value, keepdims=0) for op in ("ReduceMin", "ReduceMax")]
        self.guards.append(Guard(layer, ends[0], ends[1], acc.parts))
        # a run with more than 32 bits is an error, so what follows sees no more
        return replace(acc, bounds=np.minimum(acc.bounds, limit))

    def _moved(self, layer: Layer, x: Signal) -> Signal:
        """A moved or rectified map; rounded only where it does not hold integers in range."""
        stored = layer.output
        inside = stored.qmin <= x.low and x.high <= stored.qmax
        if layer.op not in PIPELINED and x.exact and x.parts == 1 and inside:
            return replace(x, value=self.build.publish(x.value, stored))
        magnitude = np.array(x.magnitude, dtype=object)
        factor = Factors.one(layer.multipliers[0] / x.parts)
        acc = Accumulator(x.value, magnitude, factor, x.parts, exact=x.exact)
        return finish(self.build, acc, layer, self.ending)


def _move(build: Builder, layer: Layer, inputs: list[Signal]) -> Signal:
    x = inputs[0]
    if layer.op == "MaxPool":
        return pooling.max_pool(build, layer, x)
    if layer.op == "Concat":
        return _concatenated(build, layer, inputs)
    if layer.op == "Transpose":
        rank = len(layer.inputs[0].shape)
        perm = ints_attribute(layer.node, "perm", tuple(reversed(range(rank))))
        return replace(x, value=build.op("Transpose", x.value, perm=perm))
    if layer.op in PIPELINED:
        return x
    shape = build.tensor(np.array(layer.output.shape, np.int64))
    return replace(x, value=build.op("Reshape", x.value, shape))


def _concatenated(build: Builder, layer: Layer, inputs: list[Signal]) -> Signal:
    parts = max(x.parts for x in inputs)
    values = [
        x.value
        if x.parts == parts
        else build.op("Mul", x.value, build.constant(float(parts // x.parts)))
        for x in inputs
    ]
    return Signal(
        build.op("Concat", *values, axis=layer.node.attributes.get_int("axis", 1)),
        min(x.low * (parts // x.parts) for x in inputs),
        max(x.high * (parts // x.parts) for x in inputs),
        parts,
        all(x.exact for x in inputs),
    )
