"""The bit-true simulator: a SCALED network as one plain ONNX graph, run by onnxruntime.

Its integers are those of `dlaconv.backends.access.reference`; ``docs/simulator.md`` has the
semantics and the proof that float arithmetic keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.engine.network import (
    INEXACT,
    Engine,
    Given,
    Margin,
    assemble,
    given_name,
)
from dlaconv.backends.access.engine.requantise import Ending
from dlaconv.backends.access.semantics.layer import ActivationOrder
from dlaconv.backends.access.semantics.problems import INT32, checked_feeds, overflow
from dlaconv.ir.compare import blocks
from dlaconv.ir.execution import Arrays, Executor
from dlaconv.ir.layers import Map, Network, network_of
from dlaconv.ir.rounding import Rounding

Fetch = Literal["outputs", "all"] | Iterable[str]
"""What a run returns: the graph outputs, every map, or the maps of these names."""


class Simulator:
    """A network ready to run on integers.

    Attributes:
        network: its layers.
        graph: the simulation as a float32 ONNX model of standard operators: integers in, integers
            out, runs anywhere.
    """

    def __init__(
        self,
        model: ir.Model | Network,
        *,
        rounding: Rounding = Rounding.HALF_EVEN,
        activation_order: ActivationOrder = "mac",
        fetch: Fetch = "outputs",
        optimise: bool = True,
    ) -> None:
        """Prepares a network.

        Args:
            model: a SCALED model, or its layers.
            rounding: how an exact result becomes an integer.
            activation_order: whether activations act on the accumulator (``mac``) or on the
                clamped integers (``after-clamp``).
            fetch: what `run` returns.
            optimise: lets onnxruntime rearrange the graph. All arithmetic is exact in any order,
                so the integers are the same; off, it runs slower, is ready sooner, and holds its
                weights as the network's integers.

        Raises:
            ConversionError: naming a layer that double precision cannot evaluate exactly.
            ValueError: if the model is not SCALED, or ``fetch`` names no map.
        """
        self.network = model if isinstance(model, Network) else network_of(model)
        ending = Ending(rounding, activation_order, folding=optimise)
        engine = assemble(self.network, ending)
        self._fetched = _fetched(self.network, fetch)
        self.graph = _finished(engine, self.network, self._fetched)
        self._runner = _Runner(engine, self.graph, optimise=optimise)
        self._margins = engine.margins

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one sample.

        Args:
            feeds: the integers of every graph input, in shape and range; any dtype.

        Returns:
            The integers, by graph output name (``fetch="outputs"``) or map name, in the smallest
            integer type that holds the map's range.

        Raises:
            UsageError: naming every input whose array does not fit.
            ConversionError: if an accumulator leaves 32 bits.
        """
        checked = checked_feeds(self.network.inputs, feeds)
        found = self._runner.run(checked)
        return {
            name: (found[name] if name in found else checked[stored.name]).astype(dtype_of(stored))
            for name, stored in self._fetched.items()
        }

    def margins(self) -> tuple[Margin, ...]:
        """How far each summing layer is from the limit of exact float32 arithmetic."""
        return self._margins


class LocalSimulator:
    """Evaluates every layer on inputs of one's choice, such as the source's own integers.

    Where a map's values are given, the layers that read it take them; elsewhere they take what
    the layer before has computed (from given values). So the difference of a result from the
    source is the doing of this layer alone.
    """

    def __init__(
        self,
        network: Network,
        *,
        rounding: Rounding = Rounding.HALF_EVEN,
        activation_order: ActivationOrder = "mac",
    ) -> None:
        """Prepares a network; the arguments are those of `Simulator`."""
        self.network = network
        self._ending = Ending(rounding, activation_order, folding=False)
        self._given: dict[str, Given] = {}
        self._runner: _Runner | None = None

    def run(self, reals: Mapping[str, np.ndarray]) -> Arrays:
        """Evaluates every layer for one sample.

        Args:
            reals: values of maps in units of their step, by map name; graph inputs must be there.
                Integers and half-integers are computed with exactly; where a map has other values
                the layers that read it are evaluated in float, unproven at ties.

        Returns:
            The integers that each layer stores, by map name.

        Raises:
            ValueError: if a graph input is missing, a name is unknown or a shape is wrong.
            ConversionError: if an accumulator leaves 32 bits.
        """
        maps = self.network.maps
        for name in {source.name for source in self.network.inputs} - reals.keys():
            raise ValueError(f"no values for graph input {name!r}")
        wanted = {name: _given_as(maps, name, values) for name, values in reals.items()}
        if self._runner is None or wanted.keys() != self._given.keys():
            self._given, self._runner = {}, None
        # what was half once stays half, so that samples share one session
        merged = {name: _coarsest(how, self._given.get(name)) for name, how in wanted.items()}
        if self._runner is None or merged != self._given:
            self._given = merged
            self._runner = self._prepare()
        feeds = {
            given_name(name): _contents(np.asarray(values), merged[name].parts)
            for name, values in reals.items()
        }
        found = self._runner.run(feeds)
        return {name: found[name].astype(dtype_of(maps[name])) for name in found}

    def _prepare(self) -> _Runner:
        engine = assemble(self.network, self._ending, self._given)
        fetched = {layer.output.name: layer.output for layer in self.network.layers}
        return _Runner(engine, _finished(engine, self.network, fetched), optimise=False)


def local_outputs(
    network: Network,
    reals: Mapping[str, np.ndarray],
    *,
    rounding: Rounding = Rounding.HALF_EVEN,
    activation_order: ActivationOrder = "mac",
) -> Arrays:
    """Evaluates every layer once on given inputs; see `LocalSimulator.run`."""
    simulator = LocalSimulator(network, rounding=rounding, activation_order=activation_order)
    return simulator.run(reals)


def dtype_of(stored: Map) -> np.dtype[np.generic]:
    """The smallest integer type that holds a map's range, signed if the map is."""
    kind = "int" if stored.qmin < 0 else "uint"
    for bits in (8, 16, 32):
        limits = np.iinfo(f"{kind}{bits}")
        if limits.min <= stored.qmin and stored.qmax <= limits.max:
            return limits.dtype
    return np.dtype(f"{kind}64")


def _fetched(network: Network, fetch: Fetch) -> dict[str, Map]:
    outputs, maps = dict(network.outputs), network.maps
    if fetch == "outputs":
        return outputs
    if fetch == "all":
        return maps | outputs
    known = maps | outputs
    if unknown := [name for name in fetch if name not in known]:
        raise ValueError(f"no maps of these names: {', '.join(unknown)}")
    return {name: known[name] for name in fetch}


def _finished(engine: Engine, network: Network, fetched: Mapping[str, Map]) -> ir.Model:
    """The model whose outputs are the fetched maps; a fetched graph input is no output."""
    outputs = []
    for name, stored in fetched.items():
        value = engine.values.get(stored.name)
        if value is None:
            if name == stored.name:
                continue
            source = next(value for value in engine.build.inputs if value.name == stored.name)
            value = engine.build.publish(
                engine.build.op("Identity", source), replace(stored, name=name)
            )
        outputs.append(value)
    return engine.build.model(outputs)


class _Runner:
    """An onnxruntime session of an engine that looks at the accumulators it has to."""

    def __init__(self, engine: Engine, graph: ir.Model, *, optimise: bool) -> None:
        self._guards = engine.guards
        watched = [v.name or "" for guard in engine.guards for v in (guard.low, guard.high)]
        self._outputs = [value.name or "" for value in graph.graph.outputs]
        self._executor = Executor(
            graph, [*self._outputs, *watched], optimise=optimise, compact=not optimise
        )

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        found = self._executor.run(feeds)
        for guard in self._guards:
            low, high = (
                int(found[value.name or ""]) // guard.parts for value in (guard.low, guard.high)
            )
            if low < INT32[0] or high > INT32[1]:
                raise overflow(guard.layer, low, high)
        return {name: found[name] for name in self._outputs}


def _given_as(maps: Mapping[str, Map], name: str, values: np.ndarray) -> Given:
    if name not in maps:
        raise ValueError(f"no map is called {name!r}")
    stored = maps[name]
    if np.shape(values) != stored.shape:
        raise ValueError(f"{name!r} has shape {stored.shape}, not {np.shape(values)}")
    return next((Given(parts) for parts in (1, 2) if _holds(values, stored, parts)), INEXACT)


def _holds(values: np.ndarray, stored: Map, parts: int) -> bool:
    """True if ``parts`` contents per unit make integers of all values, within the map's range."""
    low, high = stored.qmin * parts - (parts - 1), stored.qmax * parts + (parts - 1)
    flat = np.ravel(values)
    for part in blocks(flat.size):
        content = flat[part] if parts == 1 else flat[part] * np.float64(parts)
        if not (low <= content.min() and content.max() <= high):
            return False
        if content.dtype.kind == "f" and (content != np.rint(content)).any():
            return False
    return True


def _contents(values: np.ndarray, parts: int) -> np.ndarray:
    """Values as the float32 tensor that stands for them."""
    floats = values.astype(np.float32, copy=False)
    return floats if parts == 1 else floats * np.float32(parts)


def _coarsest(how: Given, before: Given | None) -> Given:
    if before is None or (how.exact and not before.exact):
        return before or how
    return how if not how.exact or how.parts >= before.parts else before
