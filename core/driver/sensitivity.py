"""Which layers of a network suffer most from quantisation."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaconv.diagnostics import Diagnostics
from dlaconv.driver.chain import read_chain
from dlaconv.driver.facts import channel_ratios, quantise_inputs, real_step
from dlaconv.driver.map_sources import MapSource, find_source, value_names
from dlaconv.driver.reading import load_target, take_shapes
from dlaconv.driver.running import ChainRunner, HardwareRunner, not_computable, stacked
from dlaconv.driver.sources import Source, open_source
from dlaconv.driver.verification import verify_network
from dlaconv.ir.channel_errors import decibels
from dlaconv.ir.compare import in_units
from dlaconv.ir.injection import Injector
from dlaconv.ir.layers import ROUNDING, Layer
from dlaconv.ir.rounding import Rounding

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.options import Hardware, Options
    from dlaconv.plugins import Plugins

_LOG = logging.getLogger(__name__)
_MOST_MACS = 4 * 10**11
"""Multiplications that all trials together may take; one sample is tried at least."""
_REPORT = "net.dla.json"
Arrays = dict[str, np.ndarray]


@dataclass
class Error:
    """Noise of the graph outputs over their signal, summed over samples."""

    _signal: dict[str, float] = field(default_factory=dict)
    _noise: dict[str, float] = field(default_factory=dict)

    def add(self, wanted: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> None:
        """Adds one sample of all graph outputs."""
        for name, array in wanted.items():
            real = array.astype(np.float64).reshape(-1)
            off = got[name].astype(np.float64).reshape(-1) - real
            self._signal[name] = self._signal.get(name, 0.0) + float(real @ real)
            self._noise[name] = self._noise.get(name, 0.0) + float(off @ off)

    @property
    def share(self) -> float:
        """Noise over signal, the mean over the outputs; infinite if an output is zero."""
        shares = [
            noise / self._signal[name] if self._signal[name] else (math.inf if noise else 0.0)
            for name, noise in self._noise.items()
        ]
        return sum(shares) / max(len(shares), 1)

    def as_json(self) -> dict[str, Any]:
        """The error as JSON values; see ``schemas/sensitivity.schema.json``."""
        share = self.share
        finite = math.isfinite(share)
        return {
            "noise": float(f"{share:.6g}") if finite else None,
            "qsnr_db": decibels(1.0, share) if finite else None,
        }


@dataclass(frozen=True)
class Sensitivity:
    """What a ranking found.

    Attributes:
        source: the network.
        data: where the samples came from.
        samples: number of samples that were tried.
        everything: the error of quantising the whole network.
        layers: one row for each layer as JSON values, the worst first.
        diagnostics: what there is to say of the samples.
    """

    source: Path
    data: str
    samples: int
    everything: Error
    layers: list[dict[str, Any]]
    diagnostics: Diagnostics = field(default_factory=Diagnostics)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; see ``schemas/sensitivity.schema.json``."""
        from dlaconv import __version__

        return {
            "dlaconv": __version__,
            "source": str(self.source),
            "data": self.data,
            "samples": self.samples,
            "everything": self.everything.as_json(),
            "layers": self.layers,
        }


def rank_layers(source: Source, options: Options, plugins: Plugins) -> Sensitivity:
    """Ranks the layers of a network; see `dlaconv.sensitivity`."""
    from dlaconv import api
    from dlaconv.driver.calibration import open_calibration
    from dlaconv.driver.pixels import folded_pixels
    from dlaconv.ir.pixel_graphs import let_take_pixels
    from dlaconv.ir.pixels import Shown

    model = open_source(source, plugins).read().model
    pixels = folded_pixels(options, model)
    calibration = open_calibration(options, model, pixels)
    assert calibration is not None
    let_take_pixels(model, pixels)
    with tempfile.TemporaryDirectory(prefix="dlaconv.") as folder:
        output = Path(folder) / "net.dla.onnx"
        wanted = replace(options, verify=False, allow_violations=True, html=None, emit=())
        report = api.convert(
            source.files,
            output,
            frontend=source.frontend,
            options=wanted,
            plugins=plugins,
            **(source.options or {}),
        ).report
        place = output.with_name(_REPORT)
        runner = ChainRunner(read_chain(place), place, options.hardware, fetch="seams")
        take_shapes(model, options.shapes, load_target(options.target))
        trial = _Trial(model, runner, options.hardware)
        each = 2 * max(len(trial.layers), 1) * max(report["summary"]["macs"]["source"], 1)
        count = max(1, min(options.compared_samples(0), _MOST_MACS // each))
        data = Shown(calibration.data.first(count), pixels)
        everything, rows = trial.rank(data)
    return Sensitivity(
        source.path, calibration.source, len(data), everything, rows, calibration.diagnostics
    )


@dataclass(frozen=True)
class _Ranked:
    """A layer that is tried by itself."""

    layer: Layer
    part: HardwareRunner
    source: MapSource
    only: Error = field(default_factory=Error)
    all_but: Error = field(default_factory=Error)

    def replaced(
        self, stored: np.ndarray, shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[str, np.ndarray]:
        """The source's value that real values of the map replace, and what it is then."""
        return self.source.name, self.source.back(stored, shapes[self.source.name])


class _Trial:
    """A source beside its conversion, with the layers that both have."""

    def __init__(self, model: ir.Model, runner: ChainRunner, hardware: Hardware) -> None:
        self.model, self.runner, self.hardware = model, runner, hardware
        known = value_names(model)
        self.layers: dict[str, _Ranked] = {}
        moved: dict[str, _Ranked] = {}
        for part in runner.hardware:
            for layer in part.network.layers:
                stored = layer.output
                fact = part.facts.get(stored.name, {})
                source = find_source(stored.name, fact, stored.shape, known)
                if source is not None:
                    found = self.layers if layer.op in ROUNDING else moved
                    found[stored.name] = _Ranked(layer, part, source)
        tensors = {item.source.name for item in [*self.layers.values(), *moved.values()]}
        try:
            self.injector = Injector(model, tensors)
        except ValueError as error:
            raise not_computable(runner.file, error) from error
        able = set(self.injector.names)
        self.layers = {name: item for name, item in self.layers.items() if item.source.name in able}
        self.moved = {name: item for name, item in moved.items() if item.source.name in able}

    def rank(self, data: Dataset) -> tuple[Error, list[dict[str, Any]]]:
        """The error of the whole network, and a row for each layer, the worst first."""
        stored = self._stored(data)
        everything = Error()
        floats: list[tuple[Arrays, Arrays, Arrays, Arrays]] = []
        for index, feeds in enumerate(data):
            wanted, values = self.injector.run(feeds, {})
            shapes = {name: array.shape for name, array in values.items()}
            handed = self.runner.run(feeds)
            everything.add(wanted, {name: handed[name] for name in wanted})
            local, whole = stored[index]
            given = dict(self.layers[name].replaced(array, shapes) for name, array in whole.items())
            _, beside = self.injector.run(feeds, given)
            floats.append((feeds, wanted, handed, beside))
            for name, item in self.layers.items():
                got, _ = self.injector.run(feeds, dict([item.replaced(local[name], shapes)]))
                item.only.add(wanted, got)
        for number, item in enumerate(self.layers.values()):
            _LOG.info("layer %d of %d", number + 1, len(self.layers))
            for (_, wanted, _, _), got in zip(floats, self._without(item, floats), strict=True):
                item.all_but.add(wanted, got)
        ranked = sorted(self.layers.items(), key=lambda entry: -entry[1].only.share)
        return everything, [_row(name, item) for name, item in ranked]

    def _stored(self, data: Dataset) -> list[tuple[Arrays, Arrays]]:
        """Real values of each sample's maps: of each layer alone, and within the network."""
        found: list[tuple[Arrays, Arrays]] = [({}, {}) for _ in range(len(data))]
        seams = stacked(map(self.runner.run, data))
        for part in self.runner.hardware:
            counts: dict[str, int] = {}

            def observe(
                name: str,
                wanted: np.ndarray,
                got: np.ndarray,
                beside: np.ndarray,
                part: HardwareRunner = part,
                counts: dict[str, int] = counts,
            ) -> None:
                index = counts[name] = counts.get(name, -1) + 1
                if name in self.layers:
                    item = part.network.maps[name]
                    unit = real_step(part.facts, item) / self._ratios(part, name)
                    alone, whole = found[index]
                    alone[name] = (beside * unit).astype(np.float32)
                    whole[name] = (got * unit).astype(np.float32)

            inputs = [stored.name for stored in part.network.inputs]
            fed = {name: seams[name] for name in inputs if name not in data.names}
            verify_network(
                self.model,
                part.network,
                part.facts,
                data,
                self.hardware,
                fed=fed,
                observe=observe,
            )
        return found

    def _ratios(self, part: HardwareRunner, name: str) -> np.ndarray:
        shape = part.network.maps[name].shape
        ratios = channel_ratios(part.facts.get(name, {}), shape)
        return self._source(name).layout.own_of(ratios, 1)

    def _without(
        self, item: _Ranked, samples: list[tuple[Arrays, Arrays, Arrays, Arrays]]
    ) -> Iterator[Arrays]:
        """Graph outputs of the network in which one layer is in floating point."""
        from dlaconv.backends.access.simulator import LocalSimulator

        part = item.part
        mode = Rounding(self.hardware.rounding)
        simulator = LocalSimulator(
            part.network, rounding=mode, activation_order=self.hardware.order
        )
        start = self.runner.parts.index(part) + 1
        moved = self._moved_from(item)
        for feeds, _, handed, beside in samples:
            values = {**feeds, **handed}
            integers = quantise_inputs(part.network, values, part.facts, mode)
            _, later = self.injector.run(feeds, {item.source.name: beside[item.source.name]})
            reals = {other.layer.output.name: other.source.of(later) for other in moved}
            reals[item.layer.output.name] = item.source.of(beside)
            given = {other: self._units(part, other, real) for other, real in reals.items()}
            made = simulator.run({**integers, **given})
            for output, held in part.network.outputs:
                if held.name in reals:
                    values[output] = reals[held.name]
                elif held.name in made:
                    values[output] = part.reals({held.name: made[held.name]})[held.name]
            yield self.runner.run(values, start)

    def _moved_from(self, item: _Ranked) -> list[_Ranked]:
        """The layers that only move the values of a layer, which would be rounded there instead."""
        known, found = {item.layer.output.name}, []
        for layer in item.part.network.layers:
            other = self.moved.get(layer.output.name)
            if other is not None and {source.name for source in layer.inputs} <= known:
                known.add(layer.output.name)
                found.append(other)
        return found

    def _units(self, part: HardwareRunner, name: str, real: np.ndarray) -> np.ndarray:
        """Real values of a map in its units, with the channels that only the hardware has."""
        unit = real_step(part.facts, part.network.maps[name])
        units = in_units(real, unit, self._ratios(part, name))
        return self._source(name).layout.spread(units)

    def _source(self, name: str) -> MapSource:
        return (self.layers.get(name) or self.moved[name]).source


def _row(name: str, item: _Ranked) -> dict[str, Any]:
    return {
        "name": name,
        "layer": str(item.part.facts.get(name, {}).get("layer", "")),
        "op": item.layer.op,
        "only": item.only.as_json(),
        "all_but": item.all_but.as_json(),
    }
