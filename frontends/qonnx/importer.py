"""From a QONNX file to stage IMPORTED."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from dlaconv.frontends import Imported
from dlaconv.frontends.handlers import Handler, Import
from dlaconv.frontends.onnx.finish import finish
from dlaconv.frontends.onnx.opset import report_control_flow, to_opset_18
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.frontends.qonnx import channels_last
from dlaconv.frontends.qonnx.exported_weights import exporters_notes, report_unrounded_weights
from dlaconv.frontends.qonnx.operators import CHANNELS_LAST, GENERAL, QUANTISERS, is_qonnx, why_not
from dlaconv.frontends.qonnx.quant import bipolar_quant, quant
from dlaconv.frontends.qonnx.trunc import trunc
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import is_op
from dlaconv.ir.passes.fold_constants import fold
from dlaconv.ir.passes.infer_shapes import propagate_shapes

HANDLERS: dict[str, Handler] = {
    "Quant": quant,
    "IntQuant": quant,
    "BipolarQuant": bipolar_quant,
    "Trunc": trunc,
}
"""The handlers of the operators in the domains `GENERAL`."""
_OTHER_QUANTISATION = (
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
    "ConvInteger", "MatMulInteger",
)  # fmt: skip


def import_file(path: Path, layers: Mapping[str, Handler]) -> Imported:
    """Reads a QONNX file; see `dlaconv.frontends.qonnx.load_qonnx`."""
    model = read_onnx(path)
    producer = model.producer_name or ""
    notes = {"producer": " ".join(filter(None, (producer, model.producer_version)))}
    provenance.mark_all(model, str(path))
    state = Import(model)
    propagate_shapes(model, transparent=_keeps_shape, strict=False)
    noted = exporters_notes(model)  # before the metadata go
    to_opset_18(model, state.diagnostics)
    provenance.mark_all(model, str(path))
    if not any(
        is_qonnx(node.domain, node.op_type) or not _is_standard(node) for node in model.graph
    ):
        _refuse_plain(state)
        return Imported(model, state.diagnostics, notes)
    fold(model)
    report_control_flow(model, state.diagnostics)
    for node in list(model.graph):
        _lower(node, state, layers)
    noted_by_name = {node.name or "": found for node, found in noted.items()}
    if not state.diagnostics.errors:
        finish(state)
    if not state.diagnostics.errors:
        report_unrounded_weights(state, producer, noted_by_name)
    return Imported(model, state.diagnostics, notes)


def _keeps_shape(node: ir.Node) -> bool:
    return node.domain in GENERAL and node.op_type in QUANTISERS


def _lower(node: ir.Node, state: Import, layers: Mapping[str, Handler]) -> None:
    handler = _handler(node, layers)
    if handler is not None:
        handler(node, state)
    elif is_op(node, *_OTHER_QUANTISATION):
        state.refuse(
            node,
            "DLA115",
            "mixed-quantisation",
            f"{node.op_type} in a QONNX file",
            remedy="convert the file from before qonnx-convert; a file has one quantisation style",
        )
    elif not _is_standard(node):
        why, remedy = why_not(node.domain, node.op_type)
        state.refuse(node, "DLA102", "unknown-operator", f"{node.op_type} {why}", remedy=remedy)


def _handler(node: ir.Node, layers: Mapping[str, Handler]) -> Handler | None:
    if not _is_standard(node):
        added = layers.get(f"{node.domain}::{node.op_type}") or layers.get(node.op_type)
        if added is not None:
            return added
    if node.domain == CHANNELS_LAST and node.op_type in channels_last.OPERATORS:
        return channels_last.channels_last
    return HANDLERS.get(node.op_type) if node.domain in GENERAL else None


def _is_standard(node: ir.Node) -> bool:
    import onnx

    return bool(node.domain == "" and onnx.defs.has(node.op_type, dialect.OPSET, ""))


def _refuse_plain(state: Import) -> None:
    state.diagnostics.error(
        "DLA101",
        "no-qonnx",
        "the file has no QONNX operator (Quant, BipolarQuant, Trunc)",
        location=provenance.location(None, state.model),
        help="use dlaconv from-onnx for plain ONNX and for QDQ files (export_onnx_qcdq)",
    )
