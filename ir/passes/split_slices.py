"""One operator for every part of a map: Slice."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, insert_before, is_op, remove, shape_of, take_over
from dlaconv.ir.passes.linear_ops import stem
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass()
def split_slices(model: ir.Model, context: Context) -> None:
    """Replaces Split with a Slice for each of its results that is used.

    A result of Split is one of several of one node; the passes behind this one look at nodes with
    one result.
    """
    del context
    for node in list(model.graph):
        if is_op(node, "Split"):
            _slice(node)


def _slice(split: ir.Node) -> None:
    x, shapes = split.inputs[0], [shape_of(value) for value in split.outputs]
    known = [shape for shape in shapes if shape is not None]
    if x is None or len(known) < len(shapes) or not known[0]:
        return
    axis = int(attribute(split, "axis", 0)) % len(known[0])
    start = 0
    for index, (value, shape) in enumerate(zip(list(split.outputs), known, strict=True)):
        end = start + shape[axis]
        if value.uses() or value.is_graph_output():
            name = f"{stem(split)}/{index}"
            bounds = [
                dialect.constant(f"{name}/{word}", np.array([number], np.int64))
                for word, number in (("starts", start), ("ends", end), ("axes", axis))
            ]
            part = ir.node("Slice", [x, *bounds], name=name)
            part.outputs[0].dtype = value.dtype or ir.DataType.FLOAT
            part.outputs[0].shape = ir.Shape(shape)
            insert_before(split, part)
            take_over(value, part.outputs[0])
        start = end
    remove(split)
