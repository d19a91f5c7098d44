"""Biases that make up for rounded weights where a layer's input is not centred on zero.

Rounding weights by e changes a result by ``e x``. Where x is far from zero on one side, as pixels
that are fed minus 128 are on a dark background, these changes add up. With x0 the value that the
source calls zero, ``e x = e (x - x0) + e x0``: the second part is a constant, which the bias takes,
so that rounding costs what it costs with the source's own values.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute, is_op, moved, producer, shape_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.scales.weights import LinearScaling, ScaledWeights


def centred_bias(
    node: ir.Node,
    weights: np.ndarray,
    bias: np.ndarray | None,
    scaled: ScaledWeights,
    scaling: LinearScaling,
    context: Context,
) -> np.ndarray | None:
    """The bias with which a layer computes the same at the centre of its input.

    Args:
        node: the layer.
        weights: ``[O, I, ...]`` real weights.
        bias: ``[O]`` real bias, None without one.
        scaled: what the hardware gets.
        scaling: the layer's maps.
        context: knows the centres of maps.

    Returns:
        float64 ``[O]``; ``bias`` itself where nothing is known of the input.
    """
    source = node.inputs[0]
    assert source is not None
    centre = _centre(source, context)
    if centre is None or not centre.any():
        return bias
    shape = (-1,) + (1,) * (weights.ndim - 1)
    rounded = scaled.integers * (scaled.steps / scaling.ratio).reshape(shape)
    lost = (rounded - weights).reshape(*weights.shape[:2], -1).sum(axis=2)
    channels = (shape_of(source) or (0, 0))[1]
    values = np.broadcast_to(centre.reshape(*centre.shape[:2], -1)[0, :, 0], (channels,))
    group = int(attribute(node, "group", 1))
    own = weights.shape[1]
    read = np.arange(own)[None, :]
    if group > 1:
        read = read + own * (np.arange(len(weights)) // (len(weights) // group))[:, None]
    shift: np.ndarray = (lost * values[read]).sum(axis=1)
    return -shift if bias is None else bias - shift


def _centre(value: ir.Value, context: Context) -> np.ndarray | None:
    """The centre of a map, or of what is moved from it; of its rank, broadcasts against it."""
    known = context.centres.get(value.name or "")
    node = producer(value)
    if known is not None or node is None or not is_op(node, "Transpose", "Reshape"):
        return known
    source = node.inputs[0]
    before = _centre(source, context) if source is not None else None
    return None if before is None else moved(node, before)
