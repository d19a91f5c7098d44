"""SavedModels of TensorFlow: tf2onnx makes ONNX of them, which the frontend of ONNX imports."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dlaconv.errors import UnreadableError
from dlaconv.frontends import Imported
from dlaconv.frontends.keras import problems
from dlaconv.frontends.keras.subprocesses import absent, failed, run_python
from dlaconv.frontends.onnx.importer import import_model
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.ir import dialect, provenance

_FILES = ("saved_model.pb", "saved_model.pbtxt")
_NEEDED = ("tensorflow", "tf2onnx")


def folder_of(path: Path) -> Path | None:
    """The folder of a SavedModel, given as it is or by the file in it; None for anything else."""
    if path.name in _FILES:
        return path.parent
    if any((path / name).is_file() for name in _FILES):
        return path
    return None


def import_saved_model(folder: Path, path: Path, weights: Path | None) -> Imported:
    """Converts a SavedModel with tf2onnx, in a process of its own, and imports what comes of it.

    TensorFlow loads the model for that, with whatever operators it has.

    Args:
        folder: the SavedModel.
        path: the same as the user gave it.
        weights: must be None, a SavedModel has its own.

    Raises:
        UnreadableError: if tf2onnx is not installed, fails, or makes no valid ONNX.
    """
    if weights is not None:
        why = "a SavedModel has weights of its own"
        raise UnreadableError(problems.not_keras(str(path), why, "leave out --weights"))
    if missing := absent(_NEEDED):
        raise UnreadableError(problems.saved_model(str(path), missing))
    with tempfile.TemporaryDirectory(prefix="dlaconv-", ignore_cleanup_errors=True) as made:
        output = Path(made) / "net.onnx"
        program = ["-m", "tf2onnx.convert", "--saved-model", str(folder.resolve())]
        words = run_python([*program, "--output", str(output), "--opset", str(dialect.OPSET)])
        if not words and not output.is_file():
            words = ("tf2onnx wrote no file",)
        if words:
            raise UnreadableError(
                failed(str(path), "convert the SavedModel", words, problems.FROM_SOURCE)
            )
        imported = import_model(read_onnx(output), path, {})
    variables = sorted((folder / "variables").glob("variables.data-*"))
    provenance.name_weight_files(imported.model, variables)
    return imported
