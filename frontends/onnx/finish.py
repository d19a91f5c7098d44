"""The last step of every frontend that reads ONNX: shapes, and nothing left of the source's own."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.handlers import Import
from dlaconv.ir import dialect
from dlaconv.ir.graph import register_constants, shape_of
from dlaconv.ir.passes.fold_constants import fold
from dlaconv.ir.passes.infer_shapes import forget_shapes, propagate_shapes


def finish(state: Import) -> None:
    """Infers shapes anew, gives steps the rank of what they quantise, and installs the dialect.

    Args:
        state: a model of standard operators and dialect nodes; takes an error for every shape that
            contradicts another.
    """
    model = state.model
    forget_shapes(model)
    state.diagnostics.extend(propagate_shapes(model))
    if state.diagnostics.errors:
        return
    if fold(model):
        propagate_shapes(model)
    for node in model.graph:
        if node.domain == dialect.DOMAIN:
            _fit(node, state)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
    opsets = model.graph.opset_imports
    for domain in set(opsets) - {"", dialect.DOMAIN}:
        del opsets[domain]
    dialect.install(model)


def _fit(node: ir.Node, state: Import) -> None:
    """Gives per-channel parameters the rank of what they quantise, and checks that they fit."""
    x = node.inputs[0]
    if x is None:
        return
    shape = shape_of(x)
    for index in range(1, len(node.inputs)):
        array = dialect.array_of(node.inputs[index])
        if array.size == 1 or x.shape is None:
            continue
        wanted = (1,) * (len(x.shape) - array.ndim) + array.shape
        if shape is not None and not _broadcasts(array.shape, shape):
            state.refuse(
                node,
                "DLA118",
                "scale-shape",
                f"a scale of shape {list(array.shape)} on a tensor of shape {list(shape)}",
                remedy="one scale per tensor, or per channel with a 1 for every other axis",
            )
        elif wanted != array.shape:
            named = dialect.constant(f"{node.name}/parameter", array.reshape(wanted))
            node.replace_input_with(index, named)
            register_constants(state.model.graph, [node])


def _broadcasts(array: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(array, shape) == shape
    except ValueError:
        return False
