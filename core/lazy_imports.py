"""Puts off imports that cost more than a small conversion.

onnx_ir imports sympy, which takes 0.2 s and is used for arithmetic on symbolic shapes only; onnx
imports protobuf's JSON and text formats. While those packages are being imported, such modules are
loaded lazily, as `importlib.util.LazyLoader` does it: on the first use of one of their attributes.
Every other import of them is untouched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_PUT_OFF = {
    "sympy": "onnx_ir._core",
    "onnx_ir._symbolic_shapes": "onnx_ir._core",
    "google.protobuf.json_format": "onnx.serialization",
    "google.protobuf.text_format": "onnx.serialization",
}
"""Modules that are put off, and the one that must be importing them."""


class _LazyFinder:
    """Finds the modules that are put off, and only while their importer is being imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        importer = _PUT_OFF.get(name)
        if importer is None or not _is_initialising(importer):
            return None
        from importlib.util import LazyLoader

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _is_initialising(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def install() -> None:
    """Puts the finder in front of Python's own; once is enough."""
    if not any(isinstance(finder, _LazyFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LazyFinder())
