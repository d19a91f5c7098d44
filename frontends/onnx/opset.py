"""Bringing models of ai.onnx opset 7 to 21 to opset 18, node by node.

ONNX's own version converter is not used: it copies the weights, and stops at operators of other
domains.
"""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostics
from dlaconv.frontends.onnx.normalise import normalise
from dlaconv.frontends.onnx.versions import NEWER, OLDER, SAME, InexpressibleError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import is_constant

OLDEST, NEWEST = 7, 21


def to_opset_18(model: ir.Model, diagnostics: Diagnostics) -> None:
    """Turns a model into opset 18 in place, with names, order and inputs normalised.

    Functions of the model are inlined. Nodes of other domains stay as they are.

    Args:
        model: as `dlaconv.frontends.onnx.reader.read_onnx` returns it.
        diagnostics: takes an error for every node that opset 18 cannot express.
    """
    _inline(model, diagnostics)
    normalise(model)
    opset = model.graph.opset_imports.get("", dialect.OPSET)
    if not OLDEST <= opset <= NEWEST:
        diagnostics.error(
            "DLA110",
            "unsupported-opset",
            f"the model is written in ONNX opset {opset}",
            location=provenance.location(None, model),
            help=f"export it again with an opset from {OLDEST} to {NEWEST}; 18 is best",
        )
        return
    _constants_of_nodes(model.graph)
    if opset != dialect.OPSET:
        for node in list(model.graph):
            _convert(node, opset, model, diagnostics)
    model.graph.opset_imports[""] = dialect.OPSET
    model.ir_version = dialect.IR_VERSION


def report_control_flow(model: ir.Model, diagnostics: Diagnostics) -> None:
    """Adds an error for every node that has graphs inside (If, Loop, Scan)."""
    for node in model.graph:
        kinds = {attribute.type for attribute in node.attributes.values()}
        if kinds & {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}:
            diagnostics.error(
                "DLA111",
                "control-flow",
                f"{node.op_type} decides at run time what is computed",
                location=provenance.location(node, model),
                help="export the network for inference with a fixed input shape",
                notes=("the accelerator runs one fixed sequence of layers",),
            )


def _inline(model: ir.Model, diagnostics: Diagnostics) -> None:
    if not model.functions:
        return
    from onnx_ir.passes.common import InlinePass

    try:
        InlinePass()(model)
    except Exception as error:  # different opsets in function and model, say
        diagnostics.error(
            "DLA113",
            "model-functions",
            f"the functions of the model cannot be inlined: {error}",
            location=provenance.location(None, model),
            help="inline them before: onnx.inliner.inline_local_functions",
        )
    model.functions.clear()


def _constants_of_nodes(graph: ir.Graph) -> None:
    """Lets the conversions see the tensors of Constant nodes."""
    for node in graph:
        if node.op_type == "Constant" and node.domain == "" and "value" in node.attributes:
            value = node.outputs[0]
            if not is_constant(value):
                value.const_value = node.attributes["value"].as_tensor()


def _convert(node: ir.Node, opset: int, model: ir.Model, diagnostics: Diagnostics) -> None:
    import onnx

    if node.domain != "" or not onnx.defs.has(node.op_type, ""):
        return
    try:
        if not _exists(node.op_type, dialect.OPSET) and node.op_type not in OLDER:
            raise InexpressibleError(f"{node.op_type}, which is not part of opset 18")
        if _since(node.op_type, opset) == _since(node.op_type, dialect.OPSET):
            return
        change = (OLDER if opset < dialect.OPSET else NEWER).get(node.op_type)
        if change is not None:
            change(node, opset)
        elif node.op_type not in SAME:
            raise InexpressibleError(f"{node.op_type} as opset {opset} defines it")
    except InexpressibleError as error:
        diagnostics.error(
            "DLA112",
            "opset-conversion",
            f"the node cannot be written in opset 18: {error}",
            location=provenance.location(node, model),
            help="export the network with opset 18",
        )


def _exists(op_type: str, opset: int) -> bool:
    import onnx

    return bool(
        onnx.defs.has(op_type, opset, "")
        and not onnx.defs.get_schema(op_type, opset, "").deprecated
    )


def _since(op_type: str, opset: int) -> int:
    import onnx

    if not onnx.defs.has(op_type, opset, ""):
        return 0
    return int(onnx.defs.get_schema(op_type, opset, "").since_version)
