"""Networks made ready to run one sample after another: converted files, chains, sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.driver.chain import Chain, Link, no_report
from dlaconv.driver.facts import channel_ratios, quantise_inputs, real_step
from dlaconv.driver.pixels import picture_shapes
from dlaconv.driver.reading import load_target, read_network
from dlaconv.errors import ConversionError

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.arrays import Shape
    from dlaconv.driver.facts import Facts
    from dlaconv.options import Hardware

Arrays = dict[str, np.ndarray]
Fetch = Literal["outputs", "all"]
ChainFetch = Literal["outputs", "seams", "all"]


class Runner(Protocol):
    """A network that is ready to run."""

    @property
    def file(self) -> Path:
        """Where it was read from."""

    @property
    def shapes(self) -> Mapping[str, Shape | None]:
        """The graph inputs with their shapes, None where the rank is unknown."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one sample, with a batch of one."""


class HardwareRunner:
    """A converted file that runs bit by bit as the hardware does; see `Runner`.

    Attributes:
        network: its layers.
        facts: what the file says of its maps.
    """

    def __init__(
        self,
        file: Path,
        hardware: Hardware,
        *,
        fetch: Fetch = "outputs",
        as_float: bool = False,
    ) -> None:
        """Reads and prepares a file.

        Args:
            file: the converted file.
            hardware: how it is simulated.
            fetch: returns the graph outputs, or every map.
            as_float: returns real values instead of integers.
        """
        from dlaconv.backends.access.simulator import Simulator
        from dlaconv.driver.map_sources import channel_layout
        from dlaconv.ir.rounding import Rounding

        self.file = file
        self.network, self.facts = read_network(file, load_target(hardware.target))
        self.shapes: dict[str, Shape | None] = {**picture_shapes(self.network, self.facts)}
        self._mode, self._as_float = Rounding(hardware.rounding), as_float
        self._simulator = Simulator(
            self.network, rounding=self._mode, activation_order=hardware.order, fetch=fetch
        )
        maps = self.network.maps | dict(self.network.outputs)
        self._steps = {
            name: real_step(self.facts, stored)
            / channel_ratios(self.facts.get(stored.name, {}), stored.shape)
            for name, stored in maps.items()
        }
        self._layouts = {
            name: channel_layout(self.facts.get(stored.name, {}), stored.shape)
            for name, stored in maps.items()
        }

    @property
    def all_facts(self) -> list[Facts]:
        """What is known of the maps of each file."""
        return [self.facts]

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one sample: integers are fed as they are, floats as real values."""
        integers = quantise_inputs(self.network, feeds, self.facts, self._mode)
        found = self._simulator.run(integers)
        return self.reals(found) if self._as_float else found

    def reals(self, integers: Mapping[str, np.ndarray]) -> Arrays:
        """Real values of the integers of maps or graph outputs, without further channels."""
        return {
            name: self._layouts[name].select(array * self._steps[name]).astype(np.float32)
            for name, array in integers.items()
        }


class ModelRunner:
    """A model in floating point that onnxruntime runs; see `Runner`."""

    def __init__(self, model: ir.Model, file: Path, fetch: Iterable[str] | None = None) -> None:
        """Prepares a model.

        Args:
            model: standard operators and nodes of the dialect.
            file: where it was read from.
            fetch: names of the values to return, the graph outputs if None.

        Raises:
            ConversionError: if onnxruntime does not accept it.
        """
        from dlaconv.ir.execution import Executor

        self.file = file
        self.shapes: dict[str, Shape | None] = {
            value.name or "": None
            if value.shape is None
            else (None, *(size if isinstance(size, int) else None for size in value.shape[1:]))
            for value in model.graph.inputs
            if value.const_value is None
        }
        try:
            self._executor = Executor(model, fetch)
        except ValueError as error:
            raise not_computable(file, error) from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one sample of real values.

        Raises:
            ConversionError: if onnxruntime fails.
        """
        given = {name: feeds[name].astype(np.float32, copy=False) for name in self.shapes}
        try:
            return self._executor.run(given)
        except ValueError as error:
            raise not_computable(self.file, error) from error


class ChainRunner:
    """Every part of a network that was cut, one behind the other; see `Runner`.

    Real values go from one part to the next.

    Attributes:
        outputs: the graph outputs of the network.
    """

    def __init__(
        self,
        chain: Chain,
        file: Path,
        hardware: Hardware,
        *,
        fetch: ChainFetch = "outputs",
        as_float: bool = False,
    ) -> None:
        """Reads and prepares all parts.

        Args:
            chain: the parts.
            file: the report that names them.
            hardware: how their accelerator is simulated.
            fetch: returns the graph outputs in real values, with what goes from part to part
                (``seams``), or every map of every part.
            as_float: returns real values of every map, too, instead of integers.
        """
        from dlaconv.frontends.onnx.reader import read_onnx

        self.file, self.outputs = file, chain.outputs

        self._fetch, self._as_float = fetch, as_float

        def prepared(link: Link) -> Runner:
            if link.host:
                model = read_onnx(link.file)
                wanted = computed_values(model) if fetch == "all" else link.outputs
                return ModelRunner(model, link.file, wanted)
            every: Fetch = "all" if fetch == "all" else "outputs"
            return HardwareRunner(link.file, hardware, fetch=every)

        self._links = [(link, prepared(link)) for link in chain.links]
        self.shapes = self._shapes()

    def run(self, feeds: Mapping[str, np.ndarray], start: int = 0) -> Arrays:
        """Runs one sample from the graph inputs on; see `__init__` for what it returns.

        Args:
            feeds: real values, or integers, of the graph inputs.
            start: the first part to run; the values between the parts before are fed, too.

        Raises:
            UnreadableError: if a part does not return what the report says.
        """
        values, found = dict(feeds), Arrays()
        for link, runner in self._links[start:]:
            got = runner.run({name: values[name] for name in runner.shapes})
            reals = runner.reals(got) if isinstance(runner, HardwareRunner) else got
            if missing := [name for name in link.outputs if name not in reals]:
                raise no_report(self.file, f"{link.file.name} does not return {missing[0]!r}")
            values |= {name: reals[name] for name in link.outputs}
            # what goes from part to part is what the first one returns
            found = (reals if self._as_float else got) | found
        if self._fetch == "outputs":
            return {name: values[name] for name in self.outputs}
        return found if self._fetch == "all" else values

    @property
    def parts(self) -> list[Runner]:
        """The parts in the order in which they run."""
        return [part for _, part in self._links]

    @property
    def hardware(self) -> list[HardwareRunner]:
        """The parts that the accelerator runs."""
        return [part for part in self.parts if isinstance(part, HardwareRunner)]

    @property
    def all_facts(self) -> list[Facts]:
        """What is known of the maps of each part."""
        return [part.facts for part in self.hardware]

    @property
    def static_shapes(self) -> dict[str, tuple[int, ...]]:
        """The graph inputs whose shapes are known."""
        found = {name: tuple(shape or (None,)) for name, shape in self.shapes.items()}
        return {
            name: tuple(size for size in shape if size is not None)
            for name, shape in found.items()
            if None not in shape
        }

    def _shapes(self) -> dict[str, Shape | None]:
        """What a part reads and no part before it makes."""
        shapes: dict[str, Shape | None] = {}
        made: set[str] = set()
        for link, runner in self._links:
            for name, shape in runner.shapes.items():
                if name not in link.inputs:
                    raise no_report(self.file, f"{link.file.name} takes {name!r}, too")
                if name not in made:
                    shapes[name] = shapes.get(name) or shape
            made |= set(link.outputs)
        return shapes


def computed_values(model: ir.Model) -> list[str]:
    """Names of what a model computes from its inputs, in order, and of its graph outputs.

    What it computes from constants alone is left out.
    """
    constant = set(model.graph.initializers.values())
    found = []
    for node in model.graph:
        if all(value is None or value in constant for value in node.inputs):
            constant.update(node.outputs)
        else:
            found += [value.name for value in node.outputs if value.name]
    found += [value.name for value in model.graph.outputs if value.name]
    return list(dict.fromkeys(found))


def stacked(results: Iterable[Mapping[str, np.ndarray]]) -> Arrays:
    """The results of one sample after another as arrays with samples along the first axis."""
    rows: dict[str, list[np.ndarray]] = {}
    for result in results:
        for name, array in result.items():
            rows.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in rows.items()}


def not_computable(file: Path, error: ValueError) -> ConversionError:
    """What onnxruntime says of a network that it does not accept."""
    return ConversionError(
        Diagnostic(
            "DLA907",
            "not-computable",
            f"the network cannot be run: {str(error).partition(chr(10))[0]}",
            location=Location(file=str(file)),
            help="run it in onnxruntime with a batch of one; export it for one sample",
        )
    )
