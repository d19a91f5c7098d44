"""Elements of a map that are multiplied by zero become zeros in the weights that read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    attribute,
    bypass,
    consumers,
    input_array,
    is_op,
    moved,
    shape_of,
    unique_name,
)
from dlaconv.ir.passes.linear_ops import set_weights, weights_of
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass


@ir_pass()
def masked_columns(model: ir.Model, context: Context) -> None:
    """Replaces ``Linear(x * mask, W)`` with ``Linear(x, W * mask)``, the mask of zeros and ones.

    Exact for whatever weights, and no multiplication of maps is left. The mask must be one of input
    channels (columns) for all layers that read the map; quantisers, ReLUs and operators that move
    values may stand in between. Maps on the way are not the source's any more, and get new names.
    """
    for node in list(model.graph):
        mask = _mask(node)
        if mask is None:
            continue
        found = _readers(node.outputs[0], mask)
        if found is None:
            continue
        layers, values = found
        for layer, columns in layers:
            weights = weights_of(layer)
            assert weights is not None
            array = (weights.array * columns).astype(weights.array.dtype)
            set_weights(layer, replace(weights, array=array))
        names = [provenance.location(layer).layer for layer, _ in layers]
        for value in values:
            value.name = unique_name(model.graph, f"{value.name}/unmasked")
        bypass(node)
        context.rewrites.append(
            Rewrite(
                "masked_columns",
                provenance.location(node).layer,
                f"zeros of a map are zeros in the weights of {', '.join(dict.fromkeys(names))}",
            )
        )


def _mask(node: ir.Node) -> np.ndarray | None:
    """The zeros and ones that a node multiplies a map by, in the map's rank; None for others."""
    array = input_array(node, 1) if is_op(node, "Mul") else None
    shape = shape_of(node.outputs[0])
    if array is None or shape is None or input_array(node, 0) is not None:
        return None
    if array.ndim > len(shape) or not ((array == 0) | (array == 1)).all():
        return None
    same = node.inputs[0] is not None and shape_of(node.inputs[0]) == shape
    return array.reshape((1,) * (len(shape) - array.ndim) + array.shape) if same else None


def _readers(
    value: ir.Value, mask: np.ndarray
) -> tuple[list[tuple[ir.Node, np.ndarray]], list[ir.Value]] | None:
    """The layers behind a masked map with what their weights are multiplied by, and maps between.

    None if anything else reads it.
    """
    layers: list[tuple[ir.Node, np.ndarray]] = []
    values: list[ir.Value] = []
    queue = [(value, mask)]
    while queue:
        value, mask = queue.pop()
        if value.is_graph_output():
            return None
        values.append(value)
        for reader in consumers(value):
            if sum(item is value for item in reader.inputs) != 1 or reader.inputs[0] is not value:
                return None
            if is_op(reader, "Conv", "Gemm"):
                columns = _columns(reader, mask)
                if columns is None:
                    return None
                layers.append((reader, columns))
            elif _moves(reader):
                queue.append((reader.outputs[0], moved(reader, mask)))
            elif _keeps_zero(reader):
                queue.append((reader.outputs[0], mask))
            else:
                return None
    return layers, values


def _columns(layer: ir.Node, mask: np.ndarray) -> np.ndarray | None:
    """A mask of input channels as one of weights ``[O, I, ...]``; None if it is none."""
    weights = weights_of(layer)
    if weights is None or mask.ndim < 2 or mask.size != mask.shape[1]:
        return None
    if is_op(layer, "Gemm") and (
        attribute(layer, "transA", 0) or not attribute(layer, "transB", 0)
    ):
        return None
    outputs, inputs = weights.array.shape[:2]
    groups = int(attribute(layer, "group", 1)) if is_op(layer, "Conv") else 1
    rows = np.broadcast_to(mask.reshape(-1), (inputs * groups,)).reshape(groups, inputs)
    spread = np.repeat(rows, outputs // groups, axis=0)
    return spread.reshape(*spread.shape, *(1,) * (weights.array.ndim - 2))


def _moves(node: ir.Node) -> bool:
    shapes = [shape_of(value) for value in (node.inputs[0], node.outputs[0]) if value is not None]
    if None in shapes:
        return False
    return is_op(node, "Transpose") or (is_op(node, "Reshape") and input_array(node, 1) is not None)


def _keeps_zero(node: ir.Node) -> bool:
    if not dialect.is_quantize(node):
        return is_op(node, "Relu")
    quantisation = dialect.quantisation_of(node)
    within = quantisation.qmin <= 0 <= quantisation.qmax
    return quantisation.per_tensor and quantisation.symmetric and within
