"""Samples that a user names: a file of arrays, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.arrays import Shape
from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.errors import UnreadableError, UsageError
from dlaconv.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.driver.facts import Facts
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.execution import Arrays
    from dlaconv.ir.pixels import Pixels


@dataclass
class Samples:
    """Samples, and what there is to say about them.

    Attributes:
        kind: ``arrays``, ``images``, ``iterable`` or ``random``.
        data: the samples.
        source: where they came from.
        skipped: number of files that were left out.
        diagnostics: what the user must know.
        files: the picture of each sample, if they are pictures.
    """

    kind: str
    data: Dataset
    source: str
    skipped: int = 0
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    files: tuple[Path, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The row of the report."""
        return {
            "kind": self.kind,
            "source": self.source,
            "samples": len(self.data),
            "skipped": self.skipped,
        }


def open_samples(
    path: Path,
    shapes: Mapping[str, Shape | None],
    images: Preprocessing,
    pixels: Mapping[str, Pixels] | None = None,
) -> Samples:
    """Opens samples and goes through them once, so that what is wrong with one is said now.

    Args:
        path: an ``.npz`` or ``.npy``, or a folder of pictures.
        shapes: the graph inputs with their shapes, None where the rank is unknown.
        images: what is done to pictures.
        pixels: graph inputs that take pixels, with what the host makes of them; the samples are
            what it feeds then.

    Raises:
        UnreadableError: if a file cannot be read.
        UsageError: if the samples do not fit the network, or it is not said what is done to them.
    """
    from dlaconv.ir.calibration.dataset import Kept

    if path.is_dir():
        from dlaconv.driver.images import ImageFolder

        folder = ImageFolder(path, shapes, images, pixels)
        return Samples(
            "images",
            Kept(folder),
            str(path),
            len(folder.skipped),
            folder.diagnostics(),
            folder.files,
        )
    from dlaconv.driver.array_files import ArrayFiles

    require_no_pictures(images, path, folded=bool(pixels))
    return Samples("arrays", gone_through(Kept(ArrayFiles(path, shapes)), pixels), str(path))


def gone_through(data: Dataset, pixels: Mapping[str, Pixels] | None) -> Dataset:
    """Samples, or what the host feeds for them; what is wrong with one of them is said now."""
    from dlaconv.ir.pixels import Fed

    data = Fed(data, pixels) if pixels else data
    for _ in data:
        pass
    return data


def given_samples(
    inputs: Mapping[str, np.ndarray] | Path,
    shapes: Mapping[str, Shape | None],
    images: Preprocessing,
    facts: Sequence[Facts],
    file: Path,
) -> Iterable[Arrays]:
    """Samples for a network that runs: arrays as they are, integers too, or pictures.

    Args:
        inputs: stacked samples by graph input, or where they are.
        shapes: the graph inputs with their shapes, None where the rank is unknown.
        images: what is done to pictures.
        facts: what is known of the maps of the files that run.
        file: the network.

    Raises:
        UnreadableError: if a file cannot be read; pictures must be readable all, since results are
            in their order.
        UsageError: if the samples do not fit the network.
    """
    from dlaconv.arrays import match_inputs, read_npz
    from dlaconv.driver.map_sources import in_layout
    from dlaconv.ir.execution import split_samples

    if isinstance(inputs, Path) and inputs.is_dir():
        return open_all(inputs, shapes, images, facts).data
    if isinstance(inputs, Path):
        require_no_pictures(images, inputs, folded=False)
        inputs = read_npz(inputs)
    return split_samples(match_inputs(in_layout(inputs, shapes), shapes, str(file)))


def open_all(
    path: Path, shapes: Mapping[str, Shape | None], images: Preprocessing, facts: Sequence[Facts]
) -> Samples:
    """Opens samples for converted files, all of which must be readable; see `open_samples`."""
    found = open_samples(path, shapes, images, pictures_of(facts))
    if found.diagnostics:
        raise UnreadableError(
            Diagnostic(
                "DLA330",
                "no-images",
                f"{found.skipped} of {found.skipped + len(found.data)} files are no pictures or "
                "cannot be read, and results would be in another order than the files",
                location=Location(file=str(path)),
                help="take them out of the folder, or mend them",
                notes=tuple(note for item in found.diagnostics for note in item.notes),
            )
        )
    return found


def pictures_of(facts: Sequence[Facts]) -> dict[str, Pixels]:
    """The graph inputs of converted files that are given pictures as they are."""
    from dlaconv.driver.pixels import pixels_in
    from dlaconv.ir.pixels import Pixels

    return {name: Pixels(0) for name in pixels_in(*facts)}


def require_no_pictures(images: Preprocessing, path: Path | None, *, folded: bool) -> None:
    """Refuses options for pictures where there are none.

    Args:
        images: what was asked for.
        path: where the samples are.
        folded: values of pixels are folded into the network, so that they are no matter of samples.

    Raises:
        UsageError: naming the options.
    """
    given = images.given
    if folded:
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
            help="drop them, or give a folder",
        )
    )
