"""Running a converted file bit by bit, and comparing it with its source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.driver.facts import real_range
from dlaconv.driver.pixels import picture_shapes, pixels_in
from dlaconv.driver.reading import input_shapes, load_target, read_network, take_one_sample
from dlaconv.driver.samples import given_samples, open_all
from dlaconv.driver.sources import Source, as_converted
from dlaconv.driver.verification import verify_network
from dlaconv.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from dlaconv.driver.facts import Facts
    from dlaconv.driver.verification import Verification
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.layers import Network
    from dlaconv.options import Hardware
    from dlaconv.plugins import Plugins
    from dlaconv.preprocessing import Preprocessing


_KEPT = {"exact", "rescaled", "clipped"}
"""Classes of maps whose integers are the source's."""


def run_file(
    path: Path,
    inputs: Mapping[str, np.ndarray] | Path,
    hardware: Hardware,
    images: Preprocessing,
    *,
    fetch_all: bool = False,
    as_float: bool = False,
) -> dict[str, np.ndarray]:
    """Runs an ACCESS file bit by bit; see `dlaconv.run`."""
    from dlaconv.driver.running import HardwareRunner, stacked

    runner = HardwareRunner(
        path, hardware, fetch="all" if fetch_all else "outputs", as_float=as_float
    )
    samples = given_samples(inputs, runner.shapes, images, runner.all_facts, path)
    return stacked(map(runner.run, samples))


def verify_files(
    source: Source,
    converted: Path,
    hardware: Hardware,
    images: Preprocessing,
    *,
    inputs: Path | None = None,
    samples: int = 4,
    seed: int = 0,
    plugins: Plugins,
) -> Verification:
    """Compares a converted file with its source; see `dlaconv.verify`."""
    from dlaconv.ir.pixel_graphs import let_take_pixels

    target = load_target(hardware.target)
    opened = as_converted(source, converted, target, plugins)
    model = opened.read().model
    network, facts = read_network(converted, target)
    pixels = pixels_in(facts)
    shapes = picture_shapes(network, facts)
    if problems := list(unrelated(model, shapes, facts)):
        raise UsageError(
            Diagnostic(
                "DLA903",
                "unrelated-files",
                problem,
                location=Location(file=str(converted)),
                help="give the file that this one was converted from",
            )
            for problem in problems
        )
    require_quantised(model, [(network, facts)], converted)
    take_one_sample(model, target)
    let_take_pixels(model, pixels)
    if inputs is not None:
        fed = open_all(inputs, input_shapes(model, shapes), images, [facts]).data
        described = str(inputs)
    else:
        fed = drawn_inputs(model, [(network, facts)], shapes, samples, seed)
        described = f"random inputs, seed {seed}"
    found = verify_network(model, network, facts, fed, hardware, described=described)
    found.source_options = opened.words
    if not found.rows:
        raise UsageError(
            Diagnostic(
                "DLA903",
                "unrelated-files",
                "the file says of none of its maps which of the source's it is",
                location=Location(file=str(converted)),
                help="compare files that dlaconv has written, with their metadata",
            )
        )
    return found


def drawn_inputs(
    model: ir.Model,
    parts: Sequence[tuple[Network, Facts]],
    shapes: Mapping[str, tuple[int, ...]],
    samples: int,
    seed: int,
) -> Dataset:
    """Random samples of the graph inputs, within the ranges of what they are fed to.

    Args:
        model: the source.
        parts: the converted files, each with what it says of its maps.
        shapes: shapes of graph inputs that these say.
        samples: number of samples.
        seed: of the generator.
    """
    from dlaconv.driver.map_sources import seam_sources
    from dlaconv.ir.calibration.dataset import Stacked
    from dlaconv.ir.calibration.samples import quantised_range, random_inputs_of
    from dlaconv.ir.pixels import LARGEST

    pixels = pixels_in(*(facts for _, facts in parts))
    ranges: dict[str, tuple[float, float]] = {}
    for network, facts in parts:
        given = {stored.name: stored for stored in network.inputs}
        fed_shapes = {name: stored.shape for name, stored in given.items()}
        turned = seam_sources(fed_shapes, model, facts)
        for name, stored in given.items():
            ranges[turned[name].name if name in turned else name] = real_range(stored, facts)
    for value in model.graph.inputs:  # of two quantisers the file has but one
        name = value.name or ""
        if name in pixels:
            ranges[name] = (0.0, float(LARGEST))
        elif name in ranges and (ends := quantised_range(value)) is not None:
            low, high = ranges[name]
            ranges[name] = min(low, ends[0]), max(high, ends[1])
        ranges.setdefault(name, (-1.0, 1.0))  # a later part's, or nothing reads it
    known = {
        name: tuple(1 if size is None else size for size in shape or ())
        for name, shape in input_shapes(model, shapes).items()
    }
    drawn = random_inputs_of(known, ranges, samples, seed)
    return Stacked(drawn | {name: drawn[name].round() for name in pixels if name in drawn})


def require_quantised(
    source: ir.Model, parts: Iterable[tuple[Network, Facts]], converted: Path
) -> None:
    """A source in floating point has no integers that a file could have kept.

    Raises:
        UsageError: if the files have kept some.
    """
    from dlaconv.ir import dialect
    from dlaconv.ir.layers import ROUNDING

    kept = [
        layer.output.name
        for network, facts in parts
        for layer in network.layers
        if layer.op in ROUNDING and facts.get(layer.output.name, {}).get("class") in _KEPT
    ]
    quantised = any(dialect.rounds(node) for node in source.graph)
    if kept and not quantised:
        raise UsageError(
            Diagnostic(
                "DLA903",
                "unrelated-files",
                f"the file has integers of a quantised source ({len(kept)} maps), and this source "
                "quantises nothing",
                location=Location(file=str(converted)),
                help="give the quantised source: the one that the conversion wrote if it chose the "
                "formats, or this one with its options (--source-option); `dlaconv compare` "
                "measures how far the file is from one in floating point",
            )
        )


def unrelated(
    source: ir.Model, shapes: Mapping[str, tuple[int, ...]], facts: Facts
) -> Iterator[str]:
    """Why a file with inputs of these shapes, and these facts, cannot come from a source."""
    from dlaconv.driver.map_sources import seam_sources
    from dlaconv.ir.graph import shape_of

    seams = seam_sources(shapes, source, facts)  # the file is one part of a network that was cut
    for value in source.graph.inputs:
        name, wanted = value.name or "", shape_of(value)
        if name not in shapes:
            if value.uses() and not seams:
                yield f"the file has no graph input {name!r}"
        elif wanted is not None and wanted[1:] != shapes[name][1:]:
            shown = list(shapes[name])
            yield f"graph input {name!r} has shape {shown}, {list(wanted)} in the source"
    for name in sorted(set(shapes) - set(_names_of(source.graph.inputs)) - set(seams)):
        yield f"the source has no graph input {name!r}"


def _names_of(values: Iterable[ir.Value]) -> list[str]:
    return [value.name or "" for value in values]
