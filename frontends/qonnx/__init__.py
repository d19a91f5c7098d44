"""QONNX: networks of Brevitas, QKeras and FINN with Quant, BipolarQuant and Trunc nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dlaconv.frontends import Frontend, Imported
from dlaconv.hookspecs import hookimpl


def load_qonnx(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="QONNX file, as Brevitas' export_qonnx writes it."),
    ],
    *,
    layers: Mapping[str, Any] | None = None,
) -> Imported:
    """Reads a QONNX file.

    Every quantisation of the source becomes a quantise node that computes the same; whatever
    cannot be kept is reported, all of it in one run.

    Args:
        path: the file.
        layers: handlers of plugins by operator, beside or in place of the built-in ones.

    Returns:
        The network at stage IMPORTED.

    Raises:
        UnreadableError: if the file is no valid ONNX model.
    """
    from dlaconv.frontends.qonnx.importer import import_file

    return import_file(path, layers or {})


def looks_like_qonnx(path: Path) -> bool:
    """True for an ONNX file with at least one QONNX operator; weights are not read."""
    from dlaconv.frontends.onnx.reader import operators_of
    from dlaconv.frontends.qonnx.operators import is_qonnx

    return any(is_qonnx(domain, op_type) for domain, op_type in operators_of(path))


FRONTEND = Frontend(
    name="qonnx",
    summary="Convert a QONNX network (Brevitas, QKeras, hls4ml).",
    load=load_qonnx,
    sniff=looks_like_qonnx,
)


@hookimpl
def register_frontends() -> Sequence[Frontend]:
    """Announces the frontend."""
    return [FRONTEND]
