"""Graphs whose inputs take pixels, in front of what their source takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError
from dlaconv.ir import dialect
from dlaconv.ir.graph import insert_before, ints_attribute, is_op, shape_of, unique_name
from dlaconv.ir.pixels import MARK, TO_FIRST, Pixels, pads_behind

_MOVING = ("Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
_PICTURE = 4
"""Axes of an input with channels."""
_FAR = 1 << 31
_ARITHMETIC = ("Mul", "Div", "Add", "Sub", "BatchNormalization", "Neg")


def let_take_pixels(model: ir.Model, pixels: Mapping[str, Pixels]) -> None:
    """Puts what happens to pixels in front of a model, so that its inputs take pixels.

    What the host feeds has the name of the graph input with `MARK` behind it.
    """
    graph = model.graph
    for value in graph.inputs:
        how, first = pixels.get(value.name or ""), next(iter(graph), None)
        if how is None or first is None:
            continue
        if value.shape is not None and not how.fits(_sizes(value.shape)):
            raise UsageError(_unrelated(value.name or "", value.shape))
        uses, name = list(value.uses()), unique_name(graph, f"{value.name}{MARK}")
        _feed(value, how, name, first)
        result = value
        if how.reverse and how.axis is not None:
            ends = zip(("start", "end", "axis", "step"), (-1, -_FAR, how.axis, -1), strict=True)
            where = [dialect.constant(f"{name}/{end}", np.array([at])) for end, at in ends]
            turned = _made("Slice", result, where[0], f"{name}/reversed", *where[1:])
            insert_before(first, turned)
            result = turned.outputs[0]
        rank = _PICTURE if how.axis is not None else 0
        for op_type, array in zip(("Mul", "Add"), how.affine(rank), strict=True):
            constant = dialect.constant(f"{name}/{op_type}", array.astype(np.float32))
            node = _made(op_type, result, constant, f"{name}/{op_type.lower()}")
            insert_before(first, node)
            result = node.outputs[0]
        for use in uses:
            use.node.replace_input_with(use.idx, result)


def let_take_fed(model: ir.Model, pixels: Mapping[str, Pixels]) -> None:
    """The same for a model whose inputs take what the host feeds."""
    for value in model.graph.inputs:
        how, first = pixels.get(value.name or ""), next(iter(model.graph), None)
        shape = shape_of(value)
        if how is None or first is None or shape is None:
            continue
        uses, name = list(value.uses()), unique_name(model.graph, f"{value.name}{MARK}/fed")
        value.shape = ir.Shape(how.picture(shape))
        fed = _feed(value, how, name, first)
        for use in uses:
            use.node.replace_input_with(use.idx, fed)


def _feed(value: ir.Value, how: Pixels, name: str, before: ir.Node) -> ir.Value:
    """What the host makes of pixels, under a name; sizes of the input may be unknown."""
    zero = dialect.constant(f"{name}/zero", np.array(how.zero, np.float32))
    nodes = [_made("Sub", value, zero, f"{name}/shift")]
    if how.further:
        pads = dialect.constant(f"{name}/pads", pads_behind(how.axis, _PICTURE, how.further))
        border = dialect.constant(f"{name}/border", np.array(how.border, np.float32))
        nodes.append(ir.node("Pad", [nodes[-1].outputs[0], pads, border], name=f"{name}/further"))
    if how.turn:
        turned = {"perm": TO_FIRST}
        nodes.append(ir.node("Transpose", [nodes[-1].outputs[0]], turned, name=f"{name}/turn"))
    insert_before(before, *nodes)
    result = nodes[-1].outputs[0]
    shape = shape_of(value)
    result.name, result.dtype = name, ir.DataType.FLOAT
    result.shape = None if shape is None else ir.Shape(how.stored(shape))
    return result


def _sizes(shape: ir.Shape) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def begins_with_turn(value: ir.Value) -> bool:
    """True if all that reads a graph input puts its last axis behind the first one.

    Arithmetic and quantisers may come first.
    """
    queue, found = [value], False
    for _ in range(64):
        if not queue:
            return found
        for use in queue.pop().uses():
            node = use.node
            if is_op(node, "Transpose"):
                if ints_attribute(node, "perm") != TO_FIRST:
                    return False
                found = True
            elif is_op(node, "Identity", "Cast", *_ARITHMETIC) or dialect.rounds(node):
                queue.append(node.outputs[0])
            else:
                return False
    return False


def begins_with_arithmetic(value: ir.Value) -> bool:
    """True if all that reads a graph input scales and shifts it, as one does with pixels.

    A quantiser that keeps integers as they are is looked through.
    """
    queue, seen = [value], 0
    while queue and seen < 64:
        current = queue.pop()
        for use in current.uses():
            node, seen = use.node, seen + 1
            whole = dialect.is_quantize(node) and _keeps_integers(node)
            if whole or is_op(node, *_MOVING):
                queue.append(node.outputs[0])
            elif not is_op(node, *_ARITHMETIC):
                return False
    return seen > 0


def _keeps_integers(node: ir.Node) -> bool:
    quantisation = dialect.quantisation_of(node)
    return quantisation.per_tensor and quantisation.scalar_step == 1


def _made(op_type: str, x: ir.Value, y: ir.Value, name: str, *more: ir.Value) -> ir.Node:
    node = ir.node(op_type, [x, y, *more], name=name)
    node.outputs[0].name = name
    node.outputs[0].shape = x.shape
    node.outputs[0].dtype = ir.DataType.FLOAT
    return node


def _unrelated(name: str, shape: ir.Shape) -> Diagnostic:
    return Diagnostic(
        "DLA903",
        "unrelated-files",
        f"graph input {name!r} has shape {shape}, and the file says something else of its pixels",
        help="give the file that this one was converted from",
    )
