"""The accuracy of a converted classifier, beside that of its source."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.driver.chain import read_chain
from dlaconv.driver.labels import Labels, misfit, read_labels
from dlaconv.driver.pixels import let_take_pixels
from dlaconv.driver.reading import load_target, take_one_sample
from dlaconv.driver.running import ChainRunner, HardwareRunner, ModelRunner, Runner
from dlaconv.driver.samples import open_samples, pictures_of
from dlaconv.driver.sources import Source, as_converted
from dlaconv.errors import UsageError

if TYPE_CHECKING:
    from dlaconv.options import Hardware
    from dlaconv.plugins import Plugins
    from dlaconv.preprocessing import Preprocessing

_FIVE = 5
_MOST_CLASSES = 1 << 24
_Z = 1.959964
"""Deviations that 95 % of a normal distribution lie within."""


@dataclass
class Score:
    """How often a network was right.

    Attributes:
        samples: number of samples.
        top1: how often the right class came first; among equals the lowest index does.
        top5: how often it was among the first five, None for networks of five classes or fewer.
        ties: how often another class was as good as the first.
    """

    samples: int = 0
    top1: int = 0
    top5: int | None = 0
    ties: int = 0

    def add(self, values: np.ndarray, label: int) -> bool:
        """Adds one sample: a value for each class; returns whether it is right."""
        order = np.argsort(-values, kind="stable")
        right = bool(order[0] == label)
        self.samples += 1
        self.top1 += right
        if values.size <= _FIVE:
            self.top5 = None
        elif self.top5 is not None:
            self.top5 += bool((order[:_FIVE] == label).any())
        self.ties += bool((values == values[order[0]]).sum() > 1)
        return right

    def as_json(self) -> dict[str, Any]:
        """Counts and percentages as JSON values."""
        return {
            "top1": round(100 * self.top1 / self.samples, 4),
            "top5": None if self.top5 is None else round(100 * self.top5 / self.samples, 4),
            "right": self.top1,
            "ties": self.ties,
        }


@dataclass
class Validated:
    """What a validation found.

    Attributes:
        converted: the converted file or report.
        source: the source it is compared with, None for none.
        inputs: the file or folder of samples.
        labels: the file of labels, None for the subfolders of the samples.
        ours: score of the converted network.
        theirs: score of the source in floating point.
        lost: samples on which only the source is right.
        gained: samples on which only the converted network is right.
        agreed: samples on which both choose the same class.
        diagnostics: what there is to say of the samples.
        source_options: the options with which the source was read, as text.
    """

    converted: Path
    source: Path | None
    inputs: Path
    labels: Path | None
    ours: Score = field(default_factory=Score)
    theirs: Score = field(default_factory=Score)
    lost: int = 0
    gained: int = 0
    agreed: int = 0
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    source_options: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; see ``schemas/validate.schema.json``."""
        from dlaconv import __version__

        return {
            "dlaconv": __version__,
            "converted": str(self.converted),
            "source": None if self.source is None else str(self.source),
            "source_options": self.source_options,
            "inputs": str(self.inputs),
            "labels": None if self.labels is None else str(self.labels),
            "samples": self.ours.samples,
            "accuracy": self.ours.as_json(),
            "source_accuracy": None if self.source is None else self.theirs.as_json(),
            "paired": None if self.source is None else self._paired(),
        }

    def _paired(self) -> dict[str, Any]:
        count, net = self.ours.samples, self.gained - self.lost
        spread = math.sqrt(max(self.gained + self.lost - net**2 / count, 0)) / count
        difference, reach = 100 * net / count, 100 * _Z * spread
        return {
            "difference": round(difference, 4),
            "low": round(difference - reach, 4),
            "high": round(difference + reach, 4),
            "lost": self.lost,
            "gained": self.gained,
            "agreement": round(100 * self.agreed / count, 4),
        }


def validate_files(
    converted: Path,
    inputs: Path,
    labels: Path | None,
    hardware: Hardware,
    images: Preprocessing,
    *,
    source: Source | None,
    output: str | None,
    limit: int | None,
    plugins: Plugins,
) -> Validated:
    """Counts right answers; see `dlaconv.validate`."""
    runner: HardwareRunner | ChainRunner
    if converted.suffix == ".json":
        runner = ChainRunner(read_chain(converted), converted, hardware)
    else:
        runner = HardwareRunner(converted, hardware, as_float=True)
    reference = None
    words: list[str] = []
    if source is not None:
        target = load_target(hardware.target)
        opened = as_converted(source, converted, target, plugins)
        model, words = opened.read().model, opened.words
        take_one_sample(model, target)
        let_take_pixels(model, runner.all_facts)
        reference = ModelRunner(model, source.path)
        _require_same_inputs(runner, reference, converted)
    samples = open_samples(inputs, runner.shapes, images, pictures_of(runner.all_facts))
    answers = read_labels(labels, samples)
    found = Validated(
        converted,
        None if source is None else source.path,
        inputs,
        labels,
        diagnostics=samples.diagnostics,
        source_options=words,
    )
    chosen = samples.data if limit is None else samples.data.first(limit)
    for feeds, label in zip(chosen, answers.classes.tolist(), strict=False):
        ours = _classes(runner.run(feeds), output, label, answers)
        right = found.ours.add(ours, label)
        if reference is None:
            continue
        theirs = _classes(reference.run(feeds), output, label, answers)
        other = found.theirs.add(theirs, label)
        found.lost += other and not right
        found.gained += right and not other
        found.agreed += bool(ours.argmax() == theirs.argmax())
    return found


def _classes(
    outputs: dict[str, np.ndarray], wanted: str | None, label: int, labels: Labels
) -> np.ndarray:
    """One value for each class; a network that returns an index has one there and zeros."""
    listed = ", ".join(map(repr, outputs))
    if wanted is not None and wanted not in outputs:
        raise UsageError(
            misfit(labels.file, f"the network has no output {wanted!r}, only {listed}")
        )
    if wanted is None and len(outputs) > 1:
        raise UsageError(
            misfit(
                labels.file, f"the network has several outputs ({listed}): choose one by --output"
            )
        )
    array = next(iter(outputs.values())) if wanted is None else outputs[wanted]
    sizes = [size for size in array.shape if size != 1]
    if len(sizes) > 1:
        raise UsageError(
            misfit(labels.file, f"an output of shape {list(array.shape)} has no classes")
        )
    if array.size == 1:
        index = int(array.reshape(-1)[0])
        if not 0 <= index < _MOST_CLASSES:
            raise UsageError(misfit(labels.file, f"the network returns {index}, which is no class"))
        found = np.zeros(max(index, label, 1) + 1)
        found[index] = 1
        return found
    if labels.folders not in (None, array.size):
        raise UsageError(
            misfit(labels.file, f"{labels.folders} subfolders for {array.size} classes")
        )
    if label >= array.size:
        raise UsageError(
            misfit(labels.file, f"label {label} of a network with {array.size} classes")
        )
    return array.reshape(-1).astype(np.float64)


def _require_same_inputs(runner: Runner, reference: Runner, file: Path) -> None:
    if runner.shapes.keys() == reference.shapes.keys():
        return
    listed = [", ".join(map(repr, item.shapes)) for item in (runner, reference)]
    raise UsageError(
        Diagnostic(
            "DLA903",
            "unrelated-files",
            f"the network has the graph inputs {listed[0]}, its source has {listed[1]}",
            location=Location(file=str(file)),
            help="give the file that this one was converted from",
        )
    )
