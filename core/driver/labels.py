"""The right answers of a classifier's samples."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from dlaconv.arrays import array_header, read_npz
from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.errors import UnreadableError, UsageError
from dlaconv.files import require_file

_NAMES = ("labels", "label", "y")


def read_labels(path: Path) -> np.ndarray:
    """Reads class indices ``[N]`` from an ``.npy``, or from an ``.npz``.

    The array of an ``.npz`` is the only one, or the one called labels, label or y.

    Raises:
        UnreadableError: if it is no file of plain numbers.
        UsageError: if they are no class indices.
    """
    require_file(path)
    if zipfile.is_zipfile(path):
        arrays = read_npz(path)
        names = [name for name in _NAMES if name in arrays] or list(arrays)
        if len(names) > 1 and names[0] not in _NAMES:
            raise UsageError(_no_labels(path, f"holds {len(arrays)} arrays, none called labels"))
        labels = arrays[names[0]]
    else:
        labels = _read_npy(path)
    if labels.ndim > 1:
        labels = labels.reshape(len(labels), -1)
        if labels.shape[1] != 1:
            raise UsageError(_no_labels(path, f"has shape {list(labels.shape)}, not one a sample"))
    found = labels.reshape(-1)
    if found.size == 0:
        raise UsageError(_no_labels(path, "holds no label"))
    if found.dtype.kind not in "biu" and not (found == np.rint(found)).all():
        raise UsageError(_no_labels(path, "holds fractions, not class indices"))
    if found.min() < 0 or found.max() > np.iinfo(np.int32).max:
        raise UsageError(_no_labels(path, "holds numbers that are no class indices"))
    return found.astype(np.int64)


def _read_npy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            array_header(file, "", path.stat().st_size)
            file.seek(0)
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except (ValueError, EOFError, OSError) as error:
        raise UnreadableError(
            Diagnostic(
                "DLA431",
                "unreadable-arrays",
                f"{path.name} cannot be read: {error}",
                location=Location(file=str(path)),
                help="write it with numpy.save or numpy.savez",
            )
        ) from error


def _no_labels(path: Path, why: str) -> Diagnostic:
    return Diagnostic(
        "DLA435",
        "labels",
        f"the file of labels {why}",
        location=Location(file=str(path)),
        help="give one class index for each sample, counted from 0",
    )


def misfit(path: Path, why: str) -> Diagnostic:
    """The diagnostic of labels that do not belong to the samples or to the network."""
    return Diagnostic(
        "DLA436",
        "labels-misfit",
        why,
        location=Location(file=str(path)),
        help="give the labels of these samples, as indices into the network's classes",
    )
