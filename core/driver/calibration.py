"""What the user calibrates with, as a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Diagnostics
from dlaconv.driver.pixels import random_pixels
from dlaconv.driver.reading import input_shapes
from dlaconv.driver.samples import Samples, gone_through, open_samples, require_no_pictures
from dlaconv.errors import UsageError
from dlaconv.options import RANDOM, Options

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.pixels import Pixels

    Taken = Mapping[str, Pixels] | None

_RANDOM_SAMPLES = 16


def open_calibration(
    options: Options, model: ir.Model, pixels: Mapping[str, Pixels] | None = None
) -> Samples | None:
    """Opens what ``--calibrate`` names and goes through it once; None without it.

    Args:
        options: the calibration data, and what is done to pictures.
        model: the network as its source has it.
        pixels: graph inputs that take pixels, with what the host makes of them; the samples are
            what it feeds then.

    Raises:
        UnreadableError: if a file cannot be read.
        UsageError: if the samples do not fit the network.
    """
    given = options.calibrate
    if given is None:
        return None
    if isinstance(given, str) and given == RANDOM:
        return _random(options, model, pixels)
    if isinstance(given, str | Path):
        shapes = input_shapes(model, options.shapes)
        return open_samples(Path(given), shapes, options.images, pixels)
    return _iterable(given, options, model, pixels)


def _iterable(items: Iterable[Any], options: Options, model: ir.Model, pixels: Taken) -> Samples:
    from dlaconv.driver.iterables import spooled

    require_no_pictures(options.images, None, folded=bool(pixels))
    data = gone_through(spooled(items, input_shapes(model, options.shapes)), pixels)
    return Samples("iterable", data, type(items).__name__)


def _random(options: Options, model: ir.Model, pixels: Taken) -> Samples:
    from dlaconv.ir.calibration.samples import RandomInputs, quantised_range

    require_no_pictures(options.images, None, folded=bool(pixels))
    shapes = input_shapes(model, options.shapes)
    for value in model.graph.inputs:
        if None in (shapes[value.name or ""] or (1, None))[1:]:
            raise UsageError(
                Diagnostic(
                    "DLA311",
                    "open-input-shape",
                    f"graph input {value.name!r} has no shape of its own to draw values for",
                    help=f"give --set-shape {value.name}=1,...",
                )
            )
    fixed = {
        name: (1, *(size or 1 for size in (shape or ())[1:])) for name, shape in shapes.items()
    }

    ranges = {v.name or "": quantised_range(v) or (-1.0, 1.0) for v in model.graph.inputs}
    data: Dataset | None = random_pixels(pixels or {}, fixed, options, _RANDOM_SAMPLES)
    data = data or RandomInputs(fixed, ranges, _RANDOM_SAMPLES, options.seed)
    found = Diagnostics()
    found.warning(
        "DLA334",
        "random-calibration",
        f"the ranges of maps are measured on {_RANDOM_SAMPLES} random inputs, seed {options.seed}",
        help="give real inputs: --calibrate images/ or --calibrate data.npz",
        notes=(
            "real inputs use other ranges, so accuracy may be lost without a sign of it here",
            "the file is marked as calibrated at random",
        ),
    )
    return Samples("random", data, f"seed {options.seed}", diagnostics=found)
