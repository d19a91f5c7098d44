"""Running a Keras model in TensorFlow, to compare with (``--verify-with tensorflow``)."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UnreadableError
from dlaconv.frontends.keras import reference_program
from dlaconv.frontends.keras.archive import open_archive
from dlaconv.frontends.keras.saved_model import folder_of
from dlaconv.frontends.keras.subprocesses import INSTALL, absent, failed, run_python

_PACKAGES = {2: "tf_keras", 3: "keras"}
_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
_ADVICE = "only layers of Keras itself can be run; leave out --verify-with to convert without that"


def run_tensorflow(
    path: Path, inputs: Sequence[np.ndarray], weights: Path | None
) -> list[np.ndarray]:
    """Runs a model; see `dlaconv.frontends.keras.load_keras` for what it may be.

    Keras 3 runs what it wrote, tf_keras what Keras 2 wrote. Neither takes classes of other
    packages, nor code in layers.

    Args:
        path: the model, which has been imported before.
        inputs: stacked samples by input.
        weights: the weights of a ``.json`` file.

    Returns:
        Stacked results by output.

    Raises:
        UnreadableError: if TensorFlow is not installed, or fails.
    """
    if folder_of(path) is not None:
        why = "SavedModels are not run, since they are no Keras models"
        raise UnreadableError(_problem(path, (why,), "leave out --verify-with"))
    package = _PACKAGES[open_archive(path, weights).major]
    if missing := absent(("tensorflow", package)):
        why = f"{' and '.join(missing)} {_are(missing)} not installed"
        raise UnreadableError(_problem(path, (why,), INSTALL))
    with tempfile.TemporaryDirectory(prefix="dlaconv-", ignore_cleanup_errors=True) as made:
        given, results = Path(made) / "inputs.npz", Path(made) / "results.npz"
        np.savez(given, *inputs)
        model, held = _as_file(path, weights, Path(made))
        program = [reference_program.__file__, package, str(given), str(results), str(model)]
        words = run_python([*program, *([str(held)] if held else [])], _environment(package))
        if words:
            raise UnreadableError(_problem(path, words, _ADVICE))
        with np.load(results, allow_pickle=False) as arrays:
            return [arrays[f"arr_{index}"] for index in range(len(arrays.files))]


def _environment(package: str) -> dict[str, str]:
    if package == "tf_keras":
        return {"TF_USE_LEGACY_KERAS": "1"}
    return {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}


def _as_file(path: Path, weights: Path | None, folder: Path) -> tuple[Path, Path | None]:
    """The model as Keras takes it, and its weights if they are in another file."""
    inside = path if path.is_dir() else path.parent
    if not path.is_dir() and (path.name != _MEMBERS[0] or weights is not None):
        return path.resolve(), weights.resolve() if weights is not None else None
    whole = folder / "model.keras"
    with zipfile.ZipFile(whole, "w") as archive:
        for name in _MEMBERS:
            if (inside / name).is_file():
                archive.write(inside / name, name)
    return whole, weights.resolve() if weights is not None else None


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _problem(path: Path, words: Sequence[str], remedy: str) -> Diagnostic:
    return failed(str(path), "run the model", words, remedy)
