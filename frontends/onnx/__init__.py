"""ONNX: networks of PyTorch, tf2onnx, onnxruntime and others, read safely, in one opset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dlaconv.frontends import Frontend, Imported
from dlaconv.hookspecs import hookimpl


def load_onnx(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="ONNX file, as torch.onnx.export writes it.")
    ],
    *,
    layers: Mapping[str, Any] | None = None,
    read_back: Callable[..., Imported | None] | None = None,
) -> Imported:
    """Reads a plain ONNX file, in floating point or quantised.

    Quantised networks (QuantizeLinear and DequantizeLinear, QLinear operators, or attributes of
    the accelerator) keep their integers. What is in floating point is quantised here: give
    representative inputs with --calibrate.
    What the accelerator has no operator for is rewritten where that is exact (--legalise), or runs
    on the host (--partition).

    Args:
        path: the file.
        layers: handlers of plugins by operator, for operators that ONNX does not define.
        read_back: reads files of the accelerator.

    Returns:
        The network at stage IMPORTED.

    Raises:
        UnreadableError: if the file is no valid ONNX model.
    """
    from dlaconv.frontends.onnx.importer import import_file

    return import_file(path, layers or {}, read_back)


def looks_like_onnx(path: Path) -> bool:
    """True for an ONNX file with standard operators or onnxruntime's that is no QONNX file.

    Weights are not read.
    """
    from dlaconv.frontends.onnx.reader import operators_of
    from dlaconv.frontends.qonnx.operators import is_qonnx

    found = list(operators_of(path))
    return any(domain in {"", "ai.onnx", "com.microsoft"} for domain, _ in found) and not any(
        is_qonnx(*operator) for operator in found
    )


FRONTEND = Frontend(
    name="onnx",
    summary="Convert an ONNX network (PyTorch, tf2onnx, onnxruntime), float or quantised.",
    load=load_onnx,
    sniff=looks_like_onnx,
)


@hookimpl
def register_frontends() -> Sequence[Frontend]:
    """Announces the frontend."""
    return [FRONTEND]
