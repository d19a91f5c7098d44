"""From a plain ONNX file to stage IMPORTED."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from dlaconv.frontends import Imported
from dlaconv.frontends.handlers import Handler, Import
from dlaconv.frontends.onnx.finish import finish
from dlaconv.frontends.onnx.opset import report_control_flow, to_opset_18
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.ir import dialect, provenance
from dlaconv.ir.passes.fold_constants import fold
from dlaconv.ir.passes.infer_shapes import propagate_shapes


def import_file(path: Path, layers: Mapping[str, Handler]) -> Imported:
    """Reads a plain ONNX file; see `dlaconv.frontends.onnx.load_onnx`."""
    model = read_onnx(path)
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    provenance.mark_all(model, str(path))
    state = Import(model)
    propagate_shapes(model, strict=False)
    to_opset_18(model, state.diagnostics)
    provenance.mark_all(model, str(path))
    fold(model)
    report_control_flow(model, state.diagnostics)
    for node in list(model.graph):
        _lower(node, state, layers)
    if not state.diagnostics.errors:
        finish(state)
    return Imported(model, state.diagnostics, {"producer": producer})


def _lower(node: ir.Node, state: Import, layers: Mapping[str, Handler]) -> None:
    if _is_standard(node):
        return
    handler = layers.get(f"{node.domain}::{node.op_type}") or layers.get(node.op_type)
    if handler is not None:
        handler(node, state)
        return
    place = f"of domain {node.domain!r} " if node.domain else ""
    state.refuse(
        node,
        "DLA102",
        "unknown-operator",
        f"{node.op_type} {place}is no operator that this frontend knows",
        remedy="express it with standard ONNX operators, or add it with a plugin (register_layers)",
    )


def _is_standard(node: ir.Node) -> bool:
    import onnx

    return bool(node.domain == "" and onnx.defs.has(node.op_type, dialect.OPSET, ""))
