"""What the user calibrates with, as a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.driver.pixels import random_pixels
from dlaconv.errors import UsageError
from dlaconv.options import RANDOM, Options

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.pixels import Pixels

    Taken = Mapping[str, Pixels] | None

_RANDOM_SAMPLES = 16


@dataclass
class Calibration:
    """Calibration data, and what there is to say about them.

    Attributes:
        kind: ``arrays``, ``images``, ``iterable`` or ``random``.
        data: the samples.
        source: where they came from.
        skipped: number of files that were left out.
        diagnostics: what the user must know.
    """

    kind: str
    data: Dataset
    source: str
    skipped: int = 0
    diagnostics: Diagnostics = field(default_factory=Diagnostics)

    def as_json(self) -> dict[str, Any]:
        """The row of the report."""
        return {
            "kind": self.kind,
            "source": self.source,
            "samples": len(self.data),
            "skipped": self.skipped,
        }


def open_calibration(
    options: Options, model: ir.Model, pixels: Mapping[str, Pixels] | None = None
) -> Calibration | None:
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
    if given == RANDOM:
        return _random(options, model, pixels)
    if isinstance(given, str | Path):
        path = Path(given)
        kind = _folder if path.is_dir() else _arrays
        return kind(path, options, model, pixels)
    return _iterable(given, options, model, pixels)


def _arrays(path: Path, options: Options, model: ir.Model, pixels: Taken) -> Calibration:
    from dlaconv.driver.reading import read_samples

    _require_no_pictures(options, path)
    data = _fed(read_samples(path, model, options.shapes), pixels)
    return Calibration("arrays", data, str(path))


def _fed(data: Dataset, pixels: Taken) -> Dataset:
    """What the host feeds for samples; what is wrong with one of them is said now."""
    from dlaconv.ir.pixels import Fed

    if not pixels:
        return data
    fed = Fed(data, pixels)
    for _ in fed.samples():
        pass
    return fed


def _folder(path: Path, options: Options, model: ir.Model, pixels: Taken) -> Calibration:
    from dlaconv.driver.images import ImageFolder
    from dlaconv.driver.reading import input_shapes
    from dlaconv.ir.calibration.dataset import Kept

    images = ImageFolder(path, input_shapes(model, options.shapes), options.images, pixels)
    found = images.diagnostics()
    return Calibration("images", Kept(images), str(path), len(images.skipped), found)


def _iterable(
    items: Iterable[Any], options: Options, model: ir.Model, pixels: Taken
) -> Calibration:
    from dlaconv.driver.iterables import spooled
    from dlaconv.driver.reading import input_shapes

    _require_no_pictures(options, None)
    data = _fed(spooled(items, input_shapes(model, options.shapes)), pixels)
    return Calibration("iterable", data, type(items).__name__)


def _random(options: Options, model: ir.Model, pixels: Taken) -> Calibration:
    from dlaconv.driver.reading import input_shapes
    from dlaconv.ir.calibration.samples import RandomInputs, quantised_range

    _require_no_pictures(options, None)
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
    return Calibration("random", data, f"seed {options.seed}", diagnostics=found)


def _require_no_pictures(options: Options, path: Path | None) -> None:
    """Refuses options for pictures where there are none and nothing is folded."""
    given = options.images.given
    if options.fold_preprocess:
        given = tuple(name for name in given if name in {"resize", "crop"})
    if not given:
        return
    names = ", ".join(f"--{name}" for name in given)
    raise UsageError(
        Diagnostic(
            "DLA423",
            "options-conflict",
            f"{names} are for a folder of pictures; other samples are fed as they are",
            location=Location(file=str(path or "")),
            help="drop them, or give --calibrate a folder",
        )
    )
