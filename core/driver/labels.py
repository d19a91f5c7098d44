"""The right answers of a classifier's samples."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from dlaconv.arrays import array_header, read_npz, readable
from dlaconv.diagnostics import Diagnostic, Location, listed
from dlaconv.errors import UsageError
from dlaconv.files import require_file

if TYPE_CHECKING:
    from dlaconv.driver.samples import Samples

_NAMES = ("labels", "label", "y")
_MAGIC = b"\x93NUMPY"
_MOST_BYTES = 1 << 26
_LINE = re.compile(r"(?:(?P<name>.*[^\s,;])[\s,;]+)?(?P<label>[0-9]{1,9})")
_LISTED = 3
"""Names that a message has at most."""


@dataclass(frozen=True)
class Labels:
    """One class index for each sample.

    Attributes:
        file: where they were read from.
        classes: ``[N]``, int64.
        folders: number of subfolders if their order says the classes, else None.
    """

    file: Path
    classes: np.ndarray
    folders: int | None = None


def read_labels(path: Path | None, samples: Samples) -> Labels:
    """Reads the class of each sample.

    Args:
        path: an ``.npy`` or ``.npz`` of class indices (the only array, or the one called labels,
            label or y); a text file with lines of ``name label`` for pictures by their paths below
            the folder or their names, or with a label alone for samples in order; None for a
            folder of pictures whose subfolders are the classes.
        samples: the samples.

    Raises:
        UnreadableError: if it is no such file.
        UsageError: if they are no class indices, or not those of the samples.
    """
    if path is None:
        return _by_folder(samples)
    require_file(path)
    with path.open("rb") as file:
        is_array = file.read(len(_MAGIC)) == _MAGIC or zipfile.is_zipfile(path)
    if is_array:
        found = _class_indices(path)
    else:
        lines = _lines(path)
        named = {name for name, _ in lines} - {None}
        if named and len(lines) != sum(name is not None for name, _ in lines):
            raise UsageError(_no_labels(path, "has lines with a name and lines without"))
        if named:
            return Labels(path, _by_name(path, lines, samples))
        found = np.array([label for _, label in lines], np.int64)
    if len(found) != len(samples.data):
        left = f" ({samples.skipped} files were left out)" if samples.skipped else ""
        raise UsageError(misfit(path, f"{len(found)} labels for {len(samples.data)} samples{left}"))
    return Labels(path, found)


def _class_indices(path: Path) -> np.ndarray:
    """The class indices of a file of arrays, int64."""
    if zipfile.is_zipfile(path):
        arrays = read_npz(path)
        names = [name for name in _NAMES if name in arrays] or list(arrays)
        if len(names) > 1 and names[0] not in _NAMES:
            raise UsageError(_no_labels(path, f"holds {len(arrays)} arrays, none called labels"))
        labels = arrays[names[0]]
    else:
        with readable(path, "it is no .npy"), path.open("rb") as file:
            array_header(file, "", path.stat().st_size)
            file.seek(0)
            labels = np.lib.format.read_array(file, allow_pickle=False)
    if labels.size == 0:
        raise UsageError(_no_labels(path, "holds no label"))
    if labels.ndim > 1:
        labels = labels.reshape(len(labels), -1)
        if labels.shape[1] != 1:
            raise UsageError(_no_labels(path, f"has shape {list(labels.shape)}, not one a sample"))
    found = labels.reshape(-1)
    if found.dtype.kind not in "biu" and not (found == np.rint(found)).all():
        raise UsageError(_no_labels(path, "holds fractions, not class indices"))
    if found.min() < 0 or found.max() > np.iinfo(np.int32).max:
        raise UsageError(_no_labels(path, "holds numbers that are no class indices"))
    return found.astype(np.int64)


def _lines(path: Path) -> list[tuple[str | None, int]]:
    """The lines of a text file: a name if there is one, and a class index."""
    if path.stat().st_size > _MOST_BYTES:
        raise UsageError(_no_labels(path, "is too large for a list of labels"))
    text = path.read_text("utf-8", errors="replace").removeprefix("\ufeff")
    found: list[tuple[str | None, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not (line := line.strip()):
            continue
        if (parts := _LINE.fullmatch(line)) is None:
            shown = line if len(line) < 40 else f"{line[:40]}..."
            raise UsageError(
                _no_labels(path, f"has no class index at the end of line {number}: {shown!r}")
            )
        found.append((parts["name"], int(parts["label"])))
    if not found:
        raise UsageError(_no_labels(path, "holds no label"))
    return found


def _by_name(path: Path, lines: list[tuple[str | None, int]], samples: Samples) -> np.ndarray:
    """The labels of pictures whose names the lines have."""
    if not samples.files:
        raise UsageError(misfit(path, "the labels are those of files, the samples are arrays"))
    known: dict[str, int] = {}
    for name, label in lines:
        place = PurePosixPath(str(name).replace("\\", "/")).as_posix()
        if known.setdefault(place, label) != label:
            raise UsageError(_no_labels(path, f"has two labels for {place!r}"))
    places = {file: file.relative_to(samples.source).as_posix() for file in samples.files}
    counts = Counter(file.name for file in samples.files)
    found = [
        known.get(place, known.get(file.name) if counts[file.name] == 1 else None)
        for file, place in places.items()
    ]
    missing = [place for place, label in zip(places.values(), found, strict=True) if label is None]
    if missing:
        raise UsageError(misfit(path, f"without a label: {listed(missing, _LISTED)}"))
    return np.array(found, np.int64)


def _by_folder(samples: Samples) -> Labels:
    """The labels of pictures in a subfolder for each class."""
    folder = Path(samples.source)
    if not samples.files:
        raise UsageError(misfit(folder, "there are no labels: samples in arrays need --labels"))
    heads = [file.relative_to(folder).parts[:-1][:1] for file in samples.files]
    if loose := [file.name for file, head in zip(samples.files, heads, strict=True) if not head]:
        raise UsageError(misfit(folder, f"in no subfolder: {listed(loose, _LISTED)}"))
    names = sorted(place.name for place in folder.iterdir() if place.is_dir())
    numbered = all(re.fullmatch("[0-9]{1,9}", name) for name in names)
    index: Mapping[str, int] = {n: int(n) if numbered else at for at, n in enumerate(names)}
    classes = np.array([index[head[0]] for head in heads], np.int64)
    return Labels(folder, classes, None if numbered else len(names))


def _no_labels(path: Path, why: str) -> Diagnostic:
    return Diagnostic(
        "DLA435",
        "labels",
        f"the file of labels {why}",
        location=Location(file=str(path)),
        help="give one class index for each sample, counted from 0: as .npy or .npz, or as text "
        "with lines of 'name label'",
    )


def misfit(path: Path, why: str) -> Diagnostic:
    """The diagnostic of labels that do not belong to the samples or to the network."""
    return Diagnostic(
        "DLA436",
        "labels-misfit",
        why,
        location=Location(file=str(path)),
        help="give the labels of these samples, as indices into the network's classes: a file "
        "with --labels, or a folder of pictures with a subfolder for each class, in order of names",
    )
