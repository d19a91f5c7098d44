"""Puts off an import that costs more than a small conversion.

onnx_ir imports sympy, which takes 0.2 s and is used for arithmetic on symbolic shapes only. While
onnx_ir is being imported, sympy and the module that parses such shapes are loaded lazily, as
`importlib.util.LazyLoader` does it: on the first use of one of their attributes. Every other
import of sympy is untouched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_IMPORTER = "onnx_ir._core"
_PUT_OFF = ("sympy", "onnx_ir._symbolic_shapes")


class _LazyFinder:
    """Finds the modules that are put off, and only while their importer is being imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _PUT_OFF or not _is_initialising(_IMPORTER):
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
