"""How good every layer of a converted network is, by itself and within the network."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.driver.chain import read_chain
from dlaconv.driver.pixels import let_take_pixels, picture_shapes
from dlaconv.driver.proof import unrelated
from dlaconv.driver.reading import input_shapes, load_target, read_network, take_one_sample
from dlaconv.driver.running import ChainRunner, ModelRunner
from dlaconv.driver.samples import open_samples, pictures_of
from dlaconv.driver.sources import Source, as_converted
from dlaconv.driver.verification import verify_network
from dlaconv.errors import UsageError
from dlaconv.ir.channel_errors import ChannelErrors, decibels
from dlaconv.ir.compare import argmax_json

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.driver.verification import Verification
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.compare import Difference
    from dlaconv.options import Hardware
    from dlaconv.plugins import Plugins
    from dlaconv.preprocessing import Preprocessing

_WORST = 3
"""Channels that are named for each map."""


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes:
        source: the network that was converted.
        converted: the converted file, or the report of a network that was cut.
        inputs: the file or folder of samples.
        samples: number of samples.
        outputs: errors of the graph outputs by name, as JSON values.
        layers: one row for each map that the source has too, in execution order.
        argmax: which values of the accelerator's outputs are the largest, as JSON values.
        unmatched: maps that the source has no value for.
        least_db: what every output has to reach, None for nothing.
        diagnostics: what there is to say of the samples.
        source_options: the options with which the source was read, as text.
    """

    source: Path
    converted: Path
    inputs: Path
    samples: int
    outputs: dict[str, dict[str, Any]]
    layers: list[dict[str, Any]]
    argmax: dict[str, dict[str, Any]]
    unmatched: list[str]
    least_db: float | None = None
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    source_options: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True if every output is as good as was asked for."""
        qualities = [item["qsnr_db"] for item in self.outputs.values() if item["max_error"] > 0]
        return self.least_db is None or all(
            found is not None and found >= self.least_db for found in qualities
        )

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; see ``schemas/compare.schema.json``."""
        from dlaconv import __version__

        return {
            "dlaconv": __version__,
            "source": str(self.source),
            "source_options": self.source_options,
            "converted": str(self.converted),
            "inputs": str(self.inputs),
            "samples": self.samples,
            "min_qsnr_db": self.least_db,
            "passed": self.passed,
            "outputs": self.outputs,
            "layers": self.layers,
            "argmax": self.argmax,
            "unmatched": self.unmatched,
        }


def compare_files(
    source: Source,
    converted: Path,
    inputs: Path,
    hardware: Hardware,
    images: Preprocessing,
    *,
    limit: int | None,
    least_db: float | None,
    plugins: Plugins,
) -> Compared:
    """Compares layer by layer; see `dlaconv.compare`."""
    target = load_target(hardware.target)
    opened_source = as_converted(source, converted, target, plugins)
    model = opened_source.read().model
    chain = read_chain(converted) if converted.suffix == ".json" else None
    if chain is None:
        runner = None
        networks = {converted: read_network(converted, target)}
        shapes = picture_shapes(*networks[converted])
        problems = list(unrelated(model, shapes, networks[converted][1]))
    else:
        runner = ChainRunner(chain, converted, hardware, fetch="seams")
        networks = {part.file: (part.network, part.facts) for part in runner.hardware}
        shapes = runner.static_shapes
        problems = foreign(model, runner)
    known = [facts for _, facts in networks.values()]
    take_one_sample(model, target)
    let_take_pixels(model, known)
    if problems:
        raise UsageError(unrelated_files(problem, converted) for problem in problems)
    opened = open_samples(inputs, input_shapes(model, shapes), images, pictures_of(known))
    samples = opened.data if limit is None else opened.data.first(limit)
    handed: dict[str, np.ndarray] = {}
    outputs: dict[str, dict[str, Any]] = {}
    if runner is not None:
        handed, outputs = _run_chain(runner, model, samples)
    inner = chain.handed_on if chain is not None else set[str]()
    layers: list[dict[str, Any]] = []
    argmax: dict[str, dict[str, Any]] = {}
    unmatched: list[str] = []
    for file, (network, facts) in networks.items():
        errors = _Errors()
        found = verify_network(
            model,
            network,
            facts,
            samples,
            hardware,
            fed={s.name: handed[s.name] for s in network.inputs if s.name in handed},
            observe=errors.add,
        )
        rows = _rows(file, found, errors)
        layers += rows
        unmatched += found.unmatched
        argmax |= argmax_json(found.rows, [name for name in found.outputs if name not in inner])
        if chain is None:
            made = {row["name"]: row["accumulated"] for row in rows}
            outputs = {
                name: made[stored.name] for name, stored in network.outputs if stored.name in made
            }
    if not layers:
        raise UsageError(
            unrelated_files(
                "the file says of none of its maps which of the source's it is", converted
            )
        )
    return Compared(
        source.path,
        converted,
        inputs,
        len(samples),
        outputs,
        layers,
        argmax,
        unmatched,
        least_db,
        opened.diagnostics,
        opened_source.words,
    )


class _Errors:
    """Errors of the channels of every map, alone and in the network."""

    def __init__(self) -> None:
        self.local: dict[str, ChannelErrors] = defaultdict(ChannelErrors)
        self.whole: dict[str, ChannelErrors] = defaultdict(ChannelErrors)

    def add(self, name: str, wanted: np.ndarray, got: np.ndarray, beside: np.ndarray) -> None:
        self.local[name].add(wanted, beside)
        self.whole[name].add(wanted, got)


def _rows(file: Path, found: Verification, errors: _Errors) -> list[dict[str, Any]]:
    rows = []
    for row in found.rows:
        name, unit = row.about.name, row.about.real_step
        rows.append(
            {
                "name": name,
                "layer": row.about.layer,
                "file": file.name,
                "class": row.about.fidelity,
                "real_step": unit,
                "saturated": round(row.local.clipped / max(row.local.count, 1), 6),
                "isolated": _quality(row.local, errors.local[name].largest * unit),
                "accumulated": _quality(row.accumulated, errors.whole[name].largest * unit),
                "worst_channels": errors.local[name].worst(_WORST, unit),
            }
        )
    return rows


def _quality(difference: Difference, largest: float) -> dict[str, Any]:
    known = difference.as_json()
    return {
        "qsnr_db": known["qsnr_db"],
        "cosine": known["cosine"],
        "max_error": largest,
    }


def _run_chain(
    runner: ChainRunner, model: ir.Model, samples: Dataset
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Real values between the parts of a chain, stacked, and errors of the graph outputs."""
    names, file = list(runner.outputs), runner.file
    reference = ModelRunner(model, file, names)
    rows: dict[str, list[np.ndarray]] = {}
    sums = {name: np.zeros(4) for name in names}
    peaks = dict.fromkeys(names, 0.0)
    for feeds in samples:
        values = runner.run(feeds)
        for name, array in values.items():
            rows.setdefault(name, []).append(array)
        for name, wanted in reference.run(feeds).items():
            x, y = (array.astype(np.float64).reshape(-1) for array in (wanted, values[name]))
            if x.shape != y.shape:
                raise UsageError(unrelated_files(f"graph output {name!r} has another shape", file))
            sums[name] += x @ x, (x - y) @ (x - y), y @ y, x @ y
            peaks[name] = max(peaks[name], float(np.abs(x - y).max(initial=0)))
    outputs = {}
    for name, (signal, noise, power, product) in sums.items():
        norm = float(np.sqrt(signal * power))
        outputs[name] = {
            "qsnr_db": decibels(float(signal), float(noise)),
            "cosine": round(float(product) / norm if norm else float(signal == power), 6),
            "max_error": peaks[name],
        }
    return {name: np.concatenate(arrays) for name, arrays in rows.items()}, outputs


def foreign(model: ir.Model, runner: ChainRunner) -> list[str]:
    """Why the parts of a network cannot come from a source."""
    inputs, outputs = (
        {value.name or "" for value in values}
        for values in (model.graph.inputs, model.graph.outputs)
    )
    found = [
        f"the source has no graph input {name!r}" for name in sorted(runner.shapes.keys() - inputs)
    ]
    if set(runner.outputs) != outputs:
        found.append("source and report have different graph outputs")
    return found


def unrelated_files(problem: str, file: Path) -> Diagnostic:
    """The error of a file that was converted from something else."""
    return Diagnostic(
        "DLA903",
        "unrelated-files",
        problem,
        location=Location(file=str(file)),
        help="give the file that this one was converted from",
    )
