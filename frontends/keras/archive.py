"""The forms in which Keras stores a model: what its layers are, and where their weights lie.

A ``.keras`` file is a zip with ``config.json``, ``metadata.json`` and ``model.weights.h5``; it may
be unzipped. A ``.h5`` file has the layers in an attribute, which only saved weights do not have.
``model.to_json()`` with ``model.save_weights()`` is two files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dlaconv.errors import UnreadableError
from dlaconv.frontends.keras import problems
from dlaconv.frontends.keras.hdf5 import SIGNATURE, Hdf5File, is_text
from dlaconv.frontends.keras.zipped import ZippedFile
from dlaconv.frontends.onnx.weights import mapped
from dlaconv.frontends.problems import too_large

MOST_TEXT = 1 << 24
"""Bytes of the description of a model."""
_MOST_DEPTH = 160
_ZIP = b"PK\x03\x04"
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_FOREIGN = (
    (rb"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    (rb"\s*<(?i:!doctype|html)", "a web page", "download the file itself"),
    (rb"\x1f\x8b", "a gzip archive", "unpack it first"),
    (rb"....TFL3", "a model of TFLite", "give the model of Keras that it was made of"),
)
"""Beginnings of files that are given by mistake, as patterns, with what to do."""
_WEIGHT_GROUPS = ("layers", "_layer_checkpoint_dependencies", "model_weights")


@dataclass(frozen=True)
class Archive:
    """A stored model.

    Attributes:
        file: the path that messages name.
        config: the model as Keras serialises it: ``class_name`` and ``config``.
        version: the version of Keras that wrote it, empty if the file does not say.
        weights: where its weights are.
        weight_file: the file that holds them, if it is another one.
    """

    file: str
    config: Mapping[str, Any]
    version: str
    weights: Hdf5File
    weight_file: Path | None = None

    @property
    def major(self) -> int:
        """2 or 3: the generation of Keras."""
        match = re.match(r"(\d+)\.(\d+)", self.version)
        if match is not None:
            # tf_keras goes by TensorFlow's versions, 2.x
            return 3 if int(match[1]) >= 3 else 2
        return 3 if '"batch_shape"' in json.dumps(self.config) else 2


def open_archive(path: Path, weights: Path | None) -> Archive:
    """Opens a model.

    Args:
        path: a ``.keras`` file, such a folder or its ``config.json``, a ``.h5`` file, or a
            ``.json`` file.
        weights: the weights of a ``.json`` file.

    Raises:
        UnreadableError: if it is none of these, damaged, or not all there.
    """
    if path.is_dir():
        return _folder(path, weights)
    if path.name == _CONFIG and weights is None and (path.parent / _WEIGHTS).exists():
        return _folder(path.parent, None)
    data = mapped(path)
    if data is None:
        raise UnreadableError(problems.unreadable(str(path), "the file cannot be read"))
    head = bytes(data[:16])
    if head.startswith(SIGNATURE):
        return _hdf5(path, data, weights)
    if head.startswith(_ZIP):
        return _zipped(path, data, weights)
    if bytes(data[:256]).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _json(path, data, weights)
    raise UnreadableError(_foreign(path, data, head))


def _foreign(path: Path, data: memoryview, head: bytes) -> Any:
    file = str(path)
    if path.name == "keras_metadata.pb":
        return problems.not_keras(file, "this is a part of a SavedModel", "give its folder")
    if _PICKLE.match(head) is not None:
        return problems.unsafe(file, "this is a pickle, which is a program and never loaded")
    if not len(data):
        return problems.not_keras(file, "the file is empty")
    for pattern, what, remedy in _FOREIGN:
        if re.match(pattern, data, re.DOTALL) is not None:
            return problems.not_keras(file, f"the file is {what}, no model of Keras", remedy)
    if path.name.endswith((".index", ".data-00000-of-00001")):
        return problems.not_keras(file, "this is a checkpoint of TensorFlow, no model")
    return problems.not_keras(
        file,
        "the file is no model of Keras: neither a zip, nor HDF5, nor JSON",
        "give a .keras, .h5 or .json file; model.save('model.keras') writes the first",
    )


def _folder(path: Path, weights: Path | None) -> Archive:
    file = str(path)
    data = mapped(_inside(path, _CONFIG))
    if data is None:
        raise UnreadableError(problems.not_keras(file, f"the folder has no {_CONFIG}"))
    held = weights or _inside(path, _WEIGHTS)
    metadata = mapped(_inside(path, _METADATA))
    version = _version(metadata, file) if metadata is not None else ""
    return Archive(file, _parsed(data, file), version, _weights(held), held)


def _inside(path: Path, name: str) -> Path:
    """A file in a folder, which is no link out of it."""
    found = path / name
    if found.is_symlink() and not found.resolve().is_relative_to(path.resolve()):
        raise UnreadableError(problems.unsafe(str(found), f"{name} is a link out of the folder"))
    return found


def _zipped(path: Path, data: memoryview, weights: Path | None) -> Archive:
    file, archive = str(path), ZippedFile(path, data)
    if _CONFIG not in archive:
        if _WEIGHTS in archive:
            raise UnreadableError(problems.weights_only(file))
        raise UnreadableError(problems.not_keras(file, f"the archive has no {_CONFIG}"))
    version = _version(archive.view(_METADATA, 1 << 20), file) if _METADATA in archive else ""
    config = _parsed(archive.view(_CONFIG, MOST_TEXT), file)
    if weights is not None:
        return Archive(file, config, version, _weights(weights), weights)
    if _WEIGHTS not in archive:
        raise UnreadableError(problems.not_keras(file, f"the archive has no {_WEIGHTS}"))
    return Archive(file, config, version, Hdf5File(archive.view(_WEIGHTS), file))


def _hdf5(path: Path, data: memoryview, weights: Path | None) -> Archive:
    file = str(path)
    held = Hdf5File(data, file)
    text = held.text("model_config")
    if text is None:
        if held.texts("layer_names") is not None or any(map(held.has, _WEIGHT_GROUPS)):
            raise UnreadableError(problems.weights_only(file))
        why = "the file is HDF5 of something else: no model of Keras, nor weights of one"
        raise UnreadableError(problems.not_keras(file, why))
    version = held.text("keras_version") or ""
    config = _parsed(text.encode(errors="surrogateescape"), file)
    if weights is not None:
        return Archive(file, config, version, _weights(weights), weights)
    return Archive(file, config, version, held)


def _json(path: Path, data: memoryview, weights: Path | None) -> Archive:
    file = str(path)
    config = _parsed(data, file)
    if weights is None:
        raise UnreadableError(
            problems.not_keras(
                file,
                "the file says what the layers are, but has no weights",
                "give them: --weights model.weights.h5; commands of all formats take "
                "--source-option weights=model.weights.h5",
            )
        )
    version = config.get("keras_version")
    return Archive(
        file, config, version if isinstance(version, str) else "", _weights(weights), weights
    )


def _weights(path: Path) -> Hdf5File:
    data = mapped(path)
    if data is None:
        raise UnreadableError(problems.unreadable(str(path), "there are no weights"))
    if bytes(data[:4]) == _ZIP:
        why = "the weights are in a zip archive, where a .h5 file is needed"
        remedy = "give a .keras file alone, it has its layers in it; --weights takes .h5 files"
        raise UnreadableError(problems.not_keras(str(path), why, remedy))
    return Hdf5File(data, str(path))


def _version(data: memoryview, file: str) -> str:
    found = _parsed(data, file, model=False).get("keras_version")
    return found if isinstance(found, str) else ""


def _parsed(data: memoryview | bytes, file: str, *, model: bool = True) -> dict[str, Any]:
    """JSON that describes a model, no deeper than we can follow."""
    if len(data) > MOST_TEXT:
        raise UnreadableError(
            too_large(file, f"a description of {len(data)} bytes; at most {MOST_TEXT}")
        )
    try:
        found = json.loads(bytes(data).decode("utf-8-sig"))
    except RecursionError:
        raise UnreadableError(too_large(file, "the description is too deep")) from None
    except ValueError as error:
        _no_model(file, f"its description is no JSON: {error}")
    if not isinstance(found, dict):
        _no_model(file, "its description is no JSON object")
    _require_shallow(found, file)
    if model and not isinstance(found.get("class_name"), str):
        _no_model(file, "the JSON does not describe a model of Keras: it has no class_name")
    if model and not isinstance(found.get("config"), (dict, list)):
        _no_model(file, "the JSON does not describe a model of Keras: it has no config")
    return found


def _no_model(file: str, why: str) -> NoReturn:
    raise UnreadableError(problems.not_keras(file, why))


def _require_shallow(value: Any, file: str) -> None:
    """Sees to it that JSON can be followed, and that its strings are text."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _MOST_DEPTH:
            raise UnreadableError(too_large(file, "the description is too deep"))
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str) and not is_text(item):
                _no_model(file, f"its description holds a string that is no text: {item[:40]!a}")
        level = inner
