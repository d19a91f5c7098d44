"""Keras: models of Keras 2 and 3 as they are saved, read without Keras or TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlaconv.frontends import Frontend, Imported
from dlaconv.hookspecs import hookimpl

if TYPE_CHECKING:
    import numpy as np

_READ = 1 << 12


def load_keras(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A .keras or .h5 file, the .json of a model, or a SavedModel."
        ),
    ],
    *,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="The weights of a .json file, a .h5 file.", metavar="H5"),
    ] = None,
    layers: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Imported:
    """Reads a Keras model.

    Files of Keras 2 and 3 are read as they are, without Keras and TensorFlow, and nothing in them
    is executed. Networks of QKeras, HGQ2 and tfmot keep their integers; for others, also after
    model.quantize("int8"), give representative inputs with --calibrate.
    A SavedModel is converted by tf2onnx with TensorFlow, which loads it, so only give one that you
    trust: pip install 'dlaconv[tensorflow]'.

    Args:
        path: a ``.keras`` file, or an unzipped one or its ``config.json``, a ``.h5`` file, the
            output of ``model.to_json()``, or the folder of a SavedModel.
        weights: the weights of the latter; in place of those in the file otherwise.
        layers: handlers of plugins by class of layer or registered name, beside or in place of the
            built-in ones.
        shapes: shapes of inputs by name, in place of those in the file.

    Returns:
        The network at stage IMPORTED.

    Raises:
        UnreadableError: if a file cannot be read.
    """
    from dlaconv.frontends.keras.importer import import_files
    from dlaconv.frontends.keras.saved_model import folder_of, import_saved_model

    if folder := folder_of(path):
        return import_saved_model(folder, path, weights)
    return import_files(path, weights, layers=layers or {}, shapes=shapes or {})


def in_tensorflow(
    path: Path, inputs: Sequence[np.ndarray], weights: Path | None = None
) -> Sequence[np.ndarray]:
    """Runs a Keras model in TensorFlow; see `dlaconv.frontends.Frontend`."""
    from dlaconv.frontends.keras.reference import run_tensorflow

    return run_tensorflow(path, inputs, weights)


def looks_like_keras(path: Path) -> bool:
    """True for HDF5, for a zip with a model in it, and for JSON that describes one.

    For a SavedModel, too.
    """
    import zipfile

    if path.name == "saved_model.pb":
        return True
    with path.open("rb") as stream:
        head = stream.read(_READ)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return True
    if head.startswith(b"PK\x03\x04"):
        return path.suffix == ".keras" or (
            zipfile.is_zipfile(path) and b"config.json" in head + _tail(path)
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return text.startswith(b"{") and b'"class_name"' in text and b'"config"' in text


def _tail(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(-min(path.stat().st_size, _READ), 2)
        return stream.read()


FRONTEND = Frontend(
    name="keras",
    summary="Convert a Keras model (.keras, .h5, .json with weights), also QKeras, HGQ2, tfmot.",
    load=load_keras,
    sniff=looks_like_keras,
    references={"tensorflow": in_tensorflow},
)


@hookimpl
def register_frontends() -> Sequence[Frontend]:
    """Announces the frontend."""
    return [FRONTEND]
