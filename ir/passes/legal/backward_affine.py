"""EL-3, BN-1, GR-3: factors and offsets behind a layer with weights, folded into its weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import ints_attribute, is_op, producer, shape_of, sole_consumer
from dlaconv.ir.passes.affine import AFFINE_OPS, one_per_channel
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.channel_affine import standalone_affine
from dlaconv.ir.passes.legal.legalisation import Plan, legalisation
from dlaconv.ir.passes.linear_ops import LINEAR, bias_of, scaled, weights_of
from dlaconv.ir.pipeline import Context


@legalisation(*AFFINE_OPS, rules=("EL-3", "BN-1", "GR-3"))
def backward_affine(node: ir.Node, context: Context) -> Plan | None:
    """Factors, offsets and normalisations behind a layer with weights go into its weights.

    Identity: g (W x + b) + h = (g W) x + (g b + h), with one g and h per output channel. Reshapes
    and Transposes in between move g and h along.

    Conditions: Nothing else reads the result of the layer. The integers of weights stay: their step
    takes |g|, and they change sign where g is negative.

    Cost: None.
    """
    del context
    chain = standalone_affine(node)
    if chain is None or not chain.finite:
        return None
    moves: list[ir.Node] = []
    value, reader = chain.source, chain.nodes[0]
    scale, offset = chain.scale, chain.offset
    while (maker := producer(value)) is not None and sole_consumer(value) is reader:
        if not is_op(maker, "Reshape", "Transpose"):
            break
        before, after = shape_of(maker.inputs[0] or value), shape_of(value)
        if before is None or after is None or maker.inputs[0] is None:
            return None
        scale, offset = (_back(array, maker, before, after) for array in (scale, offset))
        moves.insert(0, maker)
        value, reader = maker.inputs[0], maker
    if maker is None or not is_op(maker, *LINEAR) or sole_consumer(value) is not reader:
        return None
    return _folded(node, maker, moves, scale, offset, chain.words)


def _back(
    array: np.ndarray, move: ir.Node, before: tuple[int, ...], after: tuple[int, ...]
) -> np.ndarray:
    """Numbers of what ``move`` makes as numbers of what it reads."""
    if array.size == 1:
        return array.reshape((1,) * len(before))
    if is_op(move, "Transpose"):
        return array.transpose(np.argsort(ints_attribute(move, "perm", range(len(after))[::-1])))
    return np.broadcast_to(array, after).reshape(before)


def _folded(
    node: ir.Node,
    linear: ir.Node,
    moves: list[ir.Node],
    scale: np.ndarray,
    offset: np.ndarray,
    words: str,
) -> Plan | None:
    weights = weights_of(linear)
    bias = bias_of(linear, weights.channels) if weights is not None else None
    if weights is None or bias is None or scale.ndim < 2:
        return None
    factors = one_per_channel(scale, weights.channels)
    offsets = one_per_channel(offset, weights.channels)
    if factors is None or offsets is None:
        return None
    folded = scaled(weights, factors)
    total = bias * factors + offsets
    if folded is None or not (np.abs(total) <= np.finfo(np.float32).max).all():
        return None
    if folded.steps is not None and folded.array.dtype.itemsize > 4:
        return None
    builder = Builder(node)
    value = builder.op(
        linear.op_type,
        [linear.inputs[0], builder.weights(folded), builder.constant("bias", total.astype("f4"))],
        shape_of(linear.outputs[0]) or (),
        **dict(linear.attributes),
    )
    for move in moves:
        value = builder.again(move, value)
    return builder.plan(f"{words} folded into the weights of the {linear.op_type} before", [linear])
