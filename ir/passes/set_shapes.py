"""Fixed shapes for the graph inputs: those asked for, and one sample where a batch is free."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import input_array, is_op, register_constants, shape_of
from dlaconv.ir.passes.infer_shapes import forget_shapes
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass


@ir_pass(tolerance=None)
def set_shapes(model: ir.Model, context: Context) -> None:
    """Applies ``context.shapes``, and sets a batch that is left open to 1.

    Constants of Reshape and Expand that carry the old batch size follow a new one.

    Raises:
        UsageError: if a shape is given for no input of the network, or does not fit its rank.
    """
    if found := _misfits(model, context.shapes):
        raise UsageError(found)
    changed = False
    for value in _true_inputs(model):
        name = value.name or ""
        wanted = context.shapes.get(name) or _with_batch(value)
        if wanted is None or wanted == shape_of(value):
            continue
        if name not in context.shapes:
            detail = f"the open batch size of {name!r} is 1"
            context.rewrites.append(Rewrite("set_shapes", name, detail))
        batch = value.shape[0] if value.shape is not None and len(value.shape) else None
        if isinstance(batch, int) and wanted and batch != wanted[0]:
            _follow_batch(model, batch, wanted[0], context)
        value.shape = ir.Shape(wanted)
        changed = True
    if changed:
        forget_shapes(model)


def _true_inputs(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.inputs if value.const_value is None]


def _misfits(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> list[Diagnostic]:
    inputs = {value.name: value for value in _true_inputs(model)}
    names = ", ".join(repr(name) for name in inputs)
    found = []
    for name, shape in shapes.items():
        value = inputs.get(name)
        if value is None:
            why = f"--set-shape {name}: the network has no such input"
            remedy = f"its inputs are {names}"
        elif any(size < 1 for size in shape):
            why = f"--set-shape {name}: {list(shape)} has a dimension below 1"
            remedy = "give positive sizes"
        elif value.shape is not None and len(value.shape) != len(shape):
            why = (
                f"--set-shape {name}: {len(shape)} dimensions given, "
                f"the input has {len(value.shape)}: {value.shape}"
            )
            remedy = "give one number per dimension, batch first"
        else:
            continue
        location = provenance.location(None, model)
        found.append(Diagnostic("DLA408", "set-shape", why, location=location, help=remedy))
    return found


def _with_batch(value: ir.Value) -> tuple[int, ...] | None:
    """The shape with an open batch set to 1, None if that does not make it static."""
    if value.shape is None or len(value.shape) == 0 or isinstance(value.shape[0], int):
        return None
    rest = [size for size in value.shape[1:] if isinstance(size, int)]
    return (1, *rest) if len(rest) == len(value.shape) - 1 else None


def _follow_batch(model: ir.Model, old: int, new: int, context: Context) -> None:
    """Puts the new batch size into Reshape and Expand targets that start with the old one.

    Only where the reshaped value starts with the batch too: elsewhere an equal number has another
    meaning.
    """
    for node in model.graph:
        if not is_op(node, "Reshape", "Expand"):
            continue
        target = input_array(node, 1)
        source = node.inputs[0]
        shape = shape_of(source) if source is not None else None
        if target is None or target.size == 0 or int(target.flat[0]) != old:
            continue
        if not shape or shape[0] != old:
            continue
        changed = np.array(target)
        changed.flat[0] = new
        node.replace_input_with(1, dialect.constant(f"{node.name}/shape", changed))
        register_constants(model.graph, [node])
        detail = f"batch size {old} -> {new} in the target shape"
        context.rewrites.append(Rewrite("set_shapes", node.name or "", detail))
