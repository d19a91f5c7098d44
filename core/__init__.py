"""dlaconv: from a quantised network to the fixed-point ONNX of the ACCESS DLA.

The Python API is `load`, `convert`, `check`, `run`, `run_chain`, `verify` and `strip`, and for
looking into networks `show`, `dump`, `compare`, `validate` and `sensitivity`; `hookimpl` marks the
functions of a plugin; `Options`, `Preprocessing` and `Hardware` say how. Everything is imported on
first use, so that ``import dlaconv`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlaconv import lazy_imports

if TYPE_CHECKING:
    from dlaconv.analysis import compare, dump, sensitivity, show, validate
    from dlaconv.api import check, convert, load, run, run_chain, strip, verify
    from dlaconv.hookspecs import hookimpl
    from dlaconv.options import Hardware, Options
    from dlaconv.plugins import Plugins
    from dlaconv.preprocessing import Preprocessing

    __version__: str

lazy_imports.install()

__all__ = [
    "Hardware",
    "Options",
    "Plugins",
    "Preprocessing",
    "__version__",
    "check",
    "compare",
    "convert",
    "dump",
    "hookimpl",
    "load",
    "run",
    "run_chain",
    "sensitivity",
    "show",
    "strip",
    "validate",
    "verify",
]

_HOME = {
    "Hardware": "dlaconv.options",
    "Options": "dlaconv.options",
    "Plugins": "dlaconv.plugins",
    "Preprocessing": "dlaconv.preprocessing",
    "check": "dlaconv.api",
    "compare": "dlaconv.analysis",
    "convert": "dlaconv.api",
    "dump": "dlaconv.analysis",
    "hookimpl": "dlaconv.hookspecs",
    "load": "dlaconv.api",
    "run": "dlaconv.api",
    "run_chain": "dlaconv.api",
    "sensitivity": "dlaconv.analysis",
    "show": "dlaconv.analysis",
    "strip": "dlaconv.api",
    "validate": "dlaconv.analysis",
    "verify": "dlaconv.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("dlaconv")
    if name not in _HOME:
        raise AttributeError(f"module 'dlaconv' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
