"""The ways a file can be unreadable, as diagnostics DLA401 to DLA407."""

from __future__ import annotations

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.frontends import problems

MOST_REPORTED = 20
"""Findings of one kind that are listed before the rest is only counted."""


def not_a_file(file: str, why: str) -> Diagnostic:
    """The path leads to nothing that can be read."""
    return problems.unreadable(file, why, "the path of an .onnx file")


def not_onnx(file: str, why: str, remedy: str = "") -> Diagnostic:
    """The bytes are no ONNX model."""
    return Diagnostic(
        "DLA402",
        "not-onnx",
        why,
        location=Location(file=file),
        help=remedy or "export the network again, or copy the file again: it may be cut off",
    )


def unknown_version(file: str, why: str, remedy: str) -> Diagnostic:
    """The model is written in a version of ONNX that we do not know."""
    return Diagnostic("DLA403", "unknown-version", why, location=Location(file=file), help=remedy)


def invalid_graph(file: str, why: str, remedy: str, *, layer: str = "", op: str = "") -> Diagnostic:
    """The graph contradicts itself."""
    return Diagnostic(
        "DLA404",
        "invalid-graph",
        why,
        location=Location(file=file, layer=layer, op=op),
        help=remedy,
    )


def external_data(file: str, tensor: str, why: str, remedy: str) -> Diagnostic:
    """Weights beside the file are missing, cut off or outside the folder."""
    return Diagnostic(
        "DLA405",
        "external-data",
        f"tensor {tensor!r}: {why}",
        location=Location(file=file),
        help=remedy,
    )


def invalid_tensor(file: str, tensor: str, why: str) -> Diagnostic:
    """A tensor's shape and type do not fit its data."""
    return Diagnostic(
        "DLA406",
        "invalid-tensor",
        f"tensor {tensor!r}: {why}",
        location=Location(file=file),
        help="export the network again; the file is damaged or was edited by hand",
    )


def too_large(file: str, why: str) -> Diagnostic:
    """The model is larger than we are willing to take into memory."""
    return problems.too_large(file, why, suspect="export")
