"""Comparing every part of a network that was cut with its source, map by map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dlaconv.driver.chain import read_chain
from dlaconv.driver.comparing import foreign, unrelated_files
from dlaconv.driver.pixels import let_take_pixels
from dlaconv.driver.proof import drawn_inputs, require_quantised
from dlaconv.driver.reading import input_shapes, load_target, take_one_sample
from dlaconv.driver.running import ChainRunner, stacked
from dlaconv.driver.samples import open_all
from dlaconv.driver.sources import Source, as_converted
from dlaconv.driver.verification import Verification, verify_network
from dlaconv.errors import UsageError

if TYPE_CHECKING:
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
    parts = [(part.network, part.facts) for part in runner.hardware]
    if problems := foreign(model, runner):
        raise UsageError(unrelated_files(problem, report) for problem in problems)
    require_quantised(model, parts, report)
    take_one_sample(model, target)
    let_take_pixels(model, runner.all_facts)
    shapes = runner.static_shapes
    if inputs is not None:
        data = open_all(inputs, input_shapes(model, shapes), images, runner.all_facts).data
        described = str(inputs)
    else:
        data = drawn_inputs(model, parts, shapes, samples, seed)
        described = f"random inputs, seed {seed}"
    handed = stacked(map(runner.run, data))
    found = [
        verify_network(
            model,
            network,
            facts,
            data,
            hardware,
            described=described,
            fed={s.name: handed[s.name] for s in network.inputs if s.name in handed},
        )
        for network, facts in parts
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
