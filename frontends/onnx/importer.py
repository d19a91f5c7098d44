"""From a plain ONNX file to stage IMPORTED."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir

from dlaconv.frontends import Imported
from dlaconv.frontends.handlers import Handler
from dlaconv.frontends.onnx import moving
from dlaconv.frontends.onnx.finish import finish
from dlaconv.frontends.onnx.integers import OnnxImport, refuse_arithmetic
from dlaconv.frontends.onnx.interface import adopt_inputs, note_interface, real_outputs
from dlaconv.frontends.onnx.operators import DYNAMIC, HANDLERS, why_not
from dlaconv.frontends.onnx.opset import report_control_flow, to_opset_18
from dlaconv.frontends.onnx.qoperator.attributes import usable
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.frontends.qonnx.operators import is_qonnx
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import is_op
from dlaconv.ir.passes.fold_constants import fold
from dlaconv.ir.passes.infer_shapes import propagate_shapes

_NAMED = 5


def import_file(
    path: Path,
    layers: Mapping[str, Handler],
    read_back: Callable[..., Imported | None] | None = None,
) -> Imported:
    """Reads a plain ONNX file; see `dlaconv.frontends.onnx.load_onnx`."""
    if read_back is not None:
        found = read_back(path, lambda model: import_model(model, path, layers))
        if found is not None:
            return found
    return import_model(read_onnx(path), path, layers)


def import_model(model: ir.Model, path: Path, layers: Mapping[str, Handler]) -> Imported:
    """Imports a model that was read from ONNX; it becomes the result.

    Args:
        model: what `dlaconv.frontends.onnx.reader.read_onnx` gave.
        path: the file that messages name.
        layers: handlers of plugins by operator.
    """
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    notes = {"producer": producer}
    provenance.mark_all(model, str(path))
    state = OnnxImport(model)
    if _refuse_other_styles(state, layers):
        return Imported(model, state.diagnostics, notes)
    propagate_shapes(model, strict=False)
    to_opset_18(model, state.diagnostics)
    provenance.mark_all(model, str(path))
    fold(model)
    report_control_flow(model, state.diagnostics)
    _note_dynamic(state)
    nodes = list(model.graph)
    adopt_inputs(state)
    for node in nodes:
        _lower(node, state, layers)
    if not state.diagnostics.errors:
        real_outputs(state)
        _drop(state)
        finish(state)
        note_interface(state)
    return Imported(model, state.diagnostics, notes)


def _refuse_other_styles(state: OnnxImport, layers: Mapping[str, Handler]) -> bool:
    """Refuses files that this frontend is not for, in one finding."""
    nodes = [node for node in state.model.graph if _added(node, layers) is None]
    qonnx = [node for node in nodes if is_qonnx(node.domain, node.op_type)]
    if qonnx:
        state.refuse(
            qonnx[0],
            "DLA121",
            "qonnx-file",
            f"the file holds QONNX operators: {_counted(qonnx)}",
            remedy="use dlaconv from-qonnx",
        )
    return bool(qonnx)


def _note_dynamic(state: OnnxImport) -> None:
    """Says, once, that the scales of maps are not in the file."""
    nodes = [node for node in state.model.graph if node.op_type in DYNAMIC.get(node.domain, {})]
    if nodes:
        state.diagnostics.warning(
            "DLA122",
            "dynamic-quantisation",
            f"maps are quantised by what they hold at run time: {_counted(nodes)}; here their "
            "weights keep their integers, and maps are quantised anew",
            location=provenance.location(nodes[0], state.model),
            help="give representative inputs with --calibrate",
            notes=("such a file has no scales of maps; the accelerator's steps are constants",),
        )


def _counted(nodes: list[ir.Node]) -> str:
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    shown = [f"{op} ({count})" for op, count in list(counts.items())[:_NAMED]]
    return ", ".join(shown)


def _lower(node: ir.Node, state: OnnxImport, layers: Mapping[str, Handler]) -> None:
    before = len(state.diagnostics)
    if not any(value in state.unknown for value in node.inputs if value is not None):
        _lower_known(node, state, layers)
        if len(state.diagnostics) == before:
            return
    state.unknown.update(node.outputs)  # what reads them needs no finding of its own


def _lower_known(node: ir.Node, state: OnnxImport, layers: Mapping[str, Handler]) -> None:
    added = _added(node, layers)
    handler = HANDLERS.get(node.domain, {}).get(node.op_type)
    if added is not None:
        added(node, state)
    elif handler is not None:
        if node.domain == "" or usable(node, state):
            handler(node, state)
    elif not _is_standard(node):
        why, remedy = why_not(node.domain, node.op_type)
        state.refuse(node, "DLA102", "unknown-operator", f"{node.op_type} {why}", remedy=remedy)
    elif is_op(node, *moving.OPERATORS):
        moving.move(node, state)
    else:
        for value in node.inputs:
            if value in state.stored:
                assert value is not None
                refuse_arithmetic(node, value, state)
                return


def _added(node: ir.Node, layers: Mapping[str, Handler]) -> Handler | None:
    """The handler of a plugin for an operator that ONNX does not define."""
    if _is_standard(node):
        return None
    return layers.get(f"{node.domain}::{node.op_type}") or layers.get(node.op_type)


def _is_standard(node: ir.Node) -> bool:
    import onnx

    return bool(node.domain == "" and onnx.defs.has(node.op_type, dialect.OPSET, ""))


def _drop(state: OnnxImport) -> None:
    """Takes away the nodes of the source that others have replaced, and quantisers behind none."""
    graph = state.model.graph
    for node in reversed(state.replaced):
        graph.remove(node, safe=True)
    for node in reversed(graph):
        result = node.outputs[0]
        if node.domain == dialect.DOMAIN and not (result.uses() or result.is_graph_output()):
            graph.remove(node, safe=True)
