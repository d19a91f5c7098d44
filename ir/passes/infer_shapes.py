"""Shapes and types of every value, by ONNX's own shape inference.

ONNX's inference works on a serialised model. Weights do not go there: they are declared as inputs,
so a network's weights are never copied and only constants that can matter for a shape are sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Diagnostics
from dlaconv.errors import ConversionError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.blocks import shape_tuple
from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes.misfits import misfits
from dlaconv.ir.pipeline import Context, ir_pass

if TYPE_CHECKING:
    import onnx

_SENT_BYTES = 1024
_FOLLOWED = 1 << 17
"""Numbers of a list that onnx follows through a graph in less than a second."""
_FAILED_NODE = re.compile(
    r"\(op_type:(?P<op>[^,)]*)(?:, node name: (?P<name>.*?))?\): *(?P<why>.*)"
)
_MARKS = re.compile(r"\[(?:ShapeInferenceError|TypeInferenceError)\] *")

Predicate = Callable[[ir.Node], bool]


@ir_pass()
def infer_shapes(model: ir.Model, context: Context) -> None:
    """Gives every value its static shape.

    Raises:
        ConversionError: if shapes contradict each other or are not static.
    """
    forget_shapes(model)
    found = Diagnostics(propagate_shapes(model))
    if not found.errors:
        found.extend(_dynamic(model))
    context.diagnostics.extend(found)
    if found.errors:
        raise ConversionError(context.diagnostics)


def forget_shapes(model: ir.Model) -> None:
    """Drops the shapes of all results: those that a file declares may be stale."""
    for node in model.graph.all_nodes():
        for output in node.outputs:
            output.shape = None


def propagate_shapes(
    model: ir.Model, *, transparent: Predicate | None = None, strict: bool = True
) -> list[Diagnostic]:
    """Notes every shape and type that follows from the graph inputs; unknown ones stay unknown.

    Args:
        model: standard operators of any one opset, and nodes of our dialect.
        transparent: further nodes whose output is shaped like their first input.
        strict: reports what contradicts itself; otherwise such values are left as they are.

    Returns:
        What contradicts itself, by node.
    """
    import onnx

    try:
        skeleton = _skeleton(model, transparent)
        inferred = onnx.shape_inference.infer_shapes(
            skeleton, check_type=strict, strict_mode=strict, data_prop=_has_short_lists(skeleton)
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        return list(_failures(model, str(error)))
    except Exception as error:  # the C++ inference raises RuntimeError and others
        if not strict:
            logging.getLogger(__name__).debug("shape inference failed", exc_info=error)
            return []
        return list(_failures(model, str(error)))
    known = {info.name: info.type for info in inferred.graph.value_info}
    known |= {info.name: info.type for info in inferred.graph.output}
    for node in model.graph:
        for output in node.outputs:
            if (found := known.get(output.name or "")) is None:
                continue
            shape = ir.serde.deserialize_type_proto_for_shape(found)
            kind = ir.serde.deserialize_type_proto_for_type(found)
            output.shape = output.shape if shape is None else shape
            output.type = output.type if kind is None else kind
    return [_failure(why, model, node) for node, why in misfits(model)] if strict else []


def _skeleton(model: ir.Model, transparent: Predicate | None) -> onnx.ModelProto:
    import onnx

    graph = model.graph
    proto = onnx.ModelProto(ir_version=dialect.IR_VERSION)
    for domain, version in graph.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    for domain in {node.domain for node in graph} - set(graph.opset_imports):
        proto.opset_import.add(domain=domain, version=1)
    proto.graph.name = "shapes"
    proto.graph.node.extend(_stand_in(node, transparent) for node in graph)
    constants = list(graph.initializers.values())
    given = set(graph.initializers)
    for value in graph.inputs:
        if value.name not in given:
            proto.graph.input.append(ir.serde.serialize_value(value))
    for value in constants:
        tensor = value.const_value
        if tensor is None:
            continue
        if tensor.nbytes <= _SENT_BYTES:
            sent = ir.serde.serialize_tensor(tensor)
            sent.name = value.name or ""
            proto.graph.initializer.append(sent)
        else:
            dims = shape_tuple(tensor)
            info = onnx.helper.make_tensor_value_info(value.name or "", int(tensor.dtype), dims)
            proto.graph.input.append(info)
    outputs = {value.name for value in graph.outputs}
    for node in graph:
        for value in node.outputs:
            if value.shape is not None and value.dtype is not None and value.name not in outputs:
                proto.graph.value_info.append(ir.serde.serialize_value(value))
    for value in graph.outputs:
        if value.dtype is not None:
            proto.graph.output.append(ir.serde.serialize_value(value))
        else:
            proto.graph.output.add(name=value.name)
    return proto


def _has_short_lists(skeleton: onnx.ModelProto) -> bool:
    """True if no list is too long for onnx to follow each of its numbers, which takes it long."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(skeleton).graph
    weights = {int(ir.DataType.FLOAT), int(ir.DataType.DOUBLE), int(ir.DataType.FLOAT16)}
    types = [info.type.tensor_type for info in graph.value_info]
    types += [t for info in graph.input if (t := info.type.tensor_type).elem_type not in weights]
    lists = (kind.shape.dim[0] for kind in types if len(kind.shape.dim) == 1)
    return all(length.dim_value <= _FOLLOWED for length in lists)


def _stand_in(node: ir.Node, transparent: Predicate | None) -> onnx.NodeProto:
    """A node as shape inference gets to see it: those of our dialect keep their input's shape."""
    import onnx

    if node.domain == dialect.DOMAIN or (transparent is not None and transparent(node)):
        first = node.inputs[0] if node.inputs else None
        source = [(first.name if first is not None else "") or ""]
        result = [node.outputs[0].name or ""]
        if dialect.is_dequantize(node):
            return onnx.helper.make_node("Cast", source, result, name=node.name, to=1)
        return onnx.helper.make_node("Identity", source, result, name=node.name)
    return ir.serde.serialize_node(node)


def _failures(model: ir.Model, text: str) -> Iterator[Diagnostic]:
    nodes = {node.name: node for node in model.graph}
    for line in text.splitlines():
        match = _FAILED_NODE.search(line)
        if match is None:
            continue
        node = nodes.get(match["name"])
        why = _MARKS.sub("", match["why"]).strip()
        yield _failure(f"{match['op']}: {why}" if node is None else why, model, node)
    if _FAILED_NODE.search(text) is None:
        yield _failure(_MARKS.sub("", text.strip().partition("\n")[0]), model, None)


def _failure(why: str, model: ir.Model, node: ir.Node | None) -> Diagnostic:
    return Diagnostic(
        "DLA310",
        "contradicting-shapes",
        f"the shapes do not fit: {why}",
        location=provenance.location(node, model),
        help="check the exported network, and any shape given with --set-shape",
    )


def _dynamic(model: ir.Model) -> Iterator[Diagnostic]:
    """What keeps the shapes from being static: graph inputs, else the first nodes."""
    reported = False
    for value in model.graph.inputs:
        if shape_of(value) is None:
            reported = True
            dims = "unknown" if value.shape is None else _dims(value.shape)
            yield Diagnostic(
                "DLA311",
                "open-input-shape",
                f"the shape of graph input {value.name!r} is not static: {dims}",
                location=provenance.location(None, model),
                help=f"give it, such as --set-shape {value.name}={_example(value.shape)}",
                notes=("the accelerator runs a network for one fixed input size",),
            )
    if reported:
        return
    for node in model.graph:
        unknown = [value for value in node.outputs if value.uses() and shape_of(value) is None]
        sources = [value for value in node.inputs if value is not None]
        if unknown and all(shape_of(value) is not None for value in sources):
            yield Diagnostic(
                "DLA312",
                "data-dependent-shape",
                f"the shape of {unknown[0].name!r} depends on the data",
                location=provenance.location(node, model),
                help="replace the operator by one whose result has a fixed shape",
                notes=("the accelerator runs a network for one fixed input size",),
            )


def _dims(shape: ir.Shape) -> str:
    return "[" + ", ".join(_dim(dim) for dim in shape) + "]"


def _dim(dim: int | ir.SymbolicDim) -> str:
    return str(dim) if isinstance(dim, int) else dim.value or "?"


def _example(shape: ir.Shape | None) -> str:
    if shape is None:
        return "1,3,224,224"
    typical = {2: "32", 3: "32", 1: "3", 0: "1"}
    if len(shape) == 4:
        typical |= {2: "224", 3: "224"}
    return ",".join(
        str(dim) if isinstance(dim, int) else typical.get(axis, "1")
        for axis, dim in enumerate(shape)
    )
