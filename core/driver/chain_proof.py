"""Comparing every part of a network that was cut with its source, map by map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlaconv.driver.chain import read_chain
from dlaconv.driver.comparing import foreign, unrelated_files
from dlaconv.driver.facts import real_range
from dlaconv.driver.map_sources import seam_sources
from dlaconv.driver.pixels import let_take_pixels, pixels_in
from dlaconv.driver.reading import input_shapes, load_target
from dlaconv.driver.running import ChainRunner, HardwareRunner
from dlaconv.driver.samples import open_all
from dlaconv.driver.sources import Source, as_converted
from dlaconv.driver.verification import Verification, verify_network
from dlaconv.errors import UsageError
from dlaconv.ir.pixels import LARGEST

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.options import Hardware
    from dlaconv.plugins import Plugins
    from dlaconv.preprocessing import Preprocessing


def verify_chain(
    source: Source,
    report: Path,
    hardware: Hardware,
    images: Preprocessing,
    *,
    inputs: Path | None,
    samples: int,
    seed: int,
    plugins: Plugins,
) -> Verification:
    """Compares the accelerator's parts with the source; see `dlaconv.verify`.

    A part is fed with the source's values, or, where the source has none, with what the parts
    before it make.
    """
    target = load_target(hardware.target)
    opened = as_converted(source, report, target, plugins)
    model = opened.read().model
    runner = ChainRunner(read_chain(report), report, hardware, fetch="seams")
    let_take_pixels(model, runner.all_facts)
    if problems := foreign(model, runner):
        raise UsageError(unrelated_files(problem, report) for problem in problems)
    shapes = input_shapes(model, runner.static_shapes)
    if inputs is not None:
        data, described = open_all(inputs, shapes, images, runner.all_facts).data, str(inputs)
    else:
        data, described = _drawn(model, runner, samples, seed), f"random inputs, seed {seed}"
    seams = [runner.run(feeds) for feeds in data]
    found = [
        verify_network(
            model,
            part.network,
            part.facts,
            data,
            hardware,
            described=described,
            fed=_handed(part, seams),
        )
        for part in runner.hardware
    ]
    if not any(item.rows for item in found):
        raise UsageError(
            unrelated_files("the parts say of no map which of the source's it is", report)
        )
    ends = set(runner.outputs)
    return replace(
        found[0],
        rows=[row for item in found for row in item.rows],
        outputs=tuple(name for item in found for name in item.outputs),
        unmatched=tuple(name for item in found for name in item.unmatched if name not in ends),
        source_options=opened.words,
    )


def _handed(
    part: HardwareRunner, seams: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    names = [stored.name for stored in part.network.inputs if stored.name in seams[0]]
    return {name: np.concatenate([values[name] for values in seams]) for name in names}


def _drawn(model: ir.Model, runner: ChainRunner, samples: int, seed: int) -> Dataset:
    """Random samples of the graph inputs, within the ranges of the parts that they are fed to."""
    from dlaconv.ir.calibration.dataset import Stacked
    from dlaconv.ir.calibration.samples import quantised_range, random_inputs_of

    pixels = pixels_in(*runner.all_facts)
    ranges = {
        value.name or "": quantised_range(value) or (-1.0, 1.0) for value in model.graph.inputs
    }
    for part in runner.hardware:
        stored = {item.name: item for item in part.network.inputs}
        shapes_fed = {name: item.shape for name, item in stored.items()}
        turned = seam_sources(shapes_fed, model, part.facts)
        for name, item in stored.items():
            own = turned[name].name if name in turned else name
            if own in ranges:
                ranges[own] = real_range(item, part.facts)
    ranges |= dict.fromkeys(pixels, (0.0, float(LARGEST)))
    shapes = {
        name: tuple(size or 1 for size in shape or (1,))
        for name, shape in input_shapes(model, runner.static_shapes).items()
    }
    drawn = random_inputs_of(shapes, ranges, samples, seed)
    return Stacked(drawn | {name: drawn[name].round() for name in pixels if name in drawn})
