"""What can be wrong with Keras's files, as diagnostics."""

from __future__ import annotations

from collections.abc import Sequence

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.frontends import problems
from dlaconv.frontends.keras.subprocesses import INSTALL

_SAVE = "save the model again with model.save('model.keras')"
FROM_SOURCE = "if you have the Keras model, save it with model.save('model.keras')"
"""What is better than a SavedModel."""
_BY_HAND = (
    "or, where that is installed, make an ONNX file with `python -m tf2onnx.convert --saved-model "
    "FOLDER --output net.onnx`, and convert it with dlaconv from-onnx"
)


def not_keras(file: str, why: str, remedy: str = "") -> Diagnostic:
    """A file is no model of Keras, or is damaged."""
    return Diagnostic(
        "DLA170",
        "not-keras",
        why,
        location=Location(file=file),
        help=remedy or f"copy the file again, it may be cut off, or {_SAVE}",
    )


def weights_only(file: str) -> Diagnostic:
    """A file has weights, but no layers."""
    return Diagnostic(
        "DLA171",
        "weights-only",
        "the file has weights, but does not say which layers they belong to",
        location=Location(file=file),
        help=f"{_SAVE}; or write model.to_json() to model.json, and convert that with "
        f"--weights {file}",
        notes=("model.save_weights() writes such files",),
    )


def unsafe(file: str, what: str) -> Diagnostic:
    """A file refers to data elsewhere, or hides some."""
    return Diagnostic(
        "DLA172",
        "unsafe-archive",
        what,
        location=Location(file=file),
        help=f"Keras writes no such file; {_SAVE}",
        notes=("a file may not choose what else is read, and nothing in it is run",),
    )


def unreadable(file: str, why: str) -> Diagnostic:
    """There is nothing to read at a path."""
    return problems.unreadable(file, why, "the path of a .keras, .h5 or .json file")


def saved_model(file: str, missing: Sequence[str]) -> Diagnostic:
    """A SavedModel of TensorFlow, and nothing here that could convert it."""
    return Diagnostic(
        "DLA173",
        "saved-model",
        f"this is a SavedModel of TensorFlow, and {' and '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} not installed",
        location=Location(file=file),
        help=f"{FROM_SOURCE}; or {INSTALL}; {_BY_HAND}",
        notes=("it holds TensorFlow's operators in place of Keras's layers",),
    )
