"""EL-3, BN-1, GR-3: factors and offsets before a layer with weights, folded into its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir.blocks import row_blocks
from dlaconv.ir.graph import attribute, ints_attribute, is_op, producer, shape_of
from dlaconv.ir.passes.affine import affine_chain, one_per_channel
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Plan, legalisation
from dlaconv.ir.passes.linear_ops import Weights, bias_of, scaled, weights_of
from dlaconv.ir.pipeline import Context

_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")


@legalisation("Conv", "Gemm", rules=("EL-3", "BN-1", "GR-3"))
def forward_affine(node: ir.Node, context: Context) -> Plan | None:
    """Factors, offsets and normalisations before a layer with weights go into its weights.

    Identity: sum W (g x + h) + b = sum (W g) x + (b + sum W h), for one g and h per input channel
    of a convolution, or per input of a fully connected layer. Reshapes and Transposes in between
    move g and h along; a pool in between commutes with them (max pools if g > 0, average pools
    without padding).

    Conditions: With h other than zero the convolution has no padding, since zeros are padded behind
    the offset. Integer weights keep their integers: g is one number for each output channel.

    Cost: None.
    """
    weights = weights_of(node)
    found = _behind_affine(node.inputs[0])
    if weights is None or found is None:
        return None
    terms = _per_input(node, found)
    bias = bias_of(node, weights.channels)
    if terms is None or bias is None:
        return None
    scale, offset = terms
    if offset.any() and any(ints_attribute(node, "pads")):
        return None
    group = int(attribute(node, "group", 1))
    folded = _scaled_inputs(weights, scale.reshape(group, -1))
    if folded is None:
        return None
    builder = Builder(node)
    x = found.source
    for move in found.moves:
        x = builder.again(move, x)
    if offset.any():
        bias = bias + _weighted(weights, offset.reshape(group, -1))
    builder.op(
        node.op_type,
        [x, builder.weights(folded), builder.constant("bias", bias.astype(np.float32))],
        shape_of(node.outputs[0]) or (),
        **dict(node.attributes),
    )
    return builder.plan(f"{found.words} folded into the weights of the {node.op_type} behind")


@dataclass(frozen=True, eq=False)
class _Before:
    """Affine operators, and what moves or pools their result.

    Attributes:
        source: the map that they read.
        scale: the factor, of the shape that the layer reads or broadcasting against it.
        offset: likewise.
        moves: the operators in between, the first one first.
        words: the affine operators.
    """

    source: ir.Value
    scale: np.ndarray
    offset: np.ndarray
    moves: Sequence[ir.Node]
    words: str


def _behind_affine(x: ir.Value | None) -> _Before | None:
    moves: list[ir.Node] = []
    maker = producer(x)
    while is_op(maker, "Reshape", "Transpose", *_POOLS) and maker is not None:
        moves.insert(0, maker)
        maker = producer(maker.inputs[0])
    chain = affine_chain(maker) if maker is not None else None
    if chain is None or not chain.finite:
        return None
    scale, offset = chain.scale, chain.offset
    for move in moves:
        before, after = shape_of(move.inputs[0] or move.outputs[0]), shape_of(move.outputs[0])
        if before is None or after is None:
            return None
        if is_op(move, *_POOLS):
            per_channel = [one_per_channel(array, before[1]) for array in (scale, offset)]
            if per_channel[0] is None or per_channel[1] is None:
                return None
            if not _commutes(move, per_channel[0], per_channel[1]):
                return None
            shape = (1, -1) + (1,) * (len(after) - 2)
            scale, offset = (array.reshape(shape) for array in per_channel if array is not None)
        else:
            scale, offset = (_moved(array, move, before, after) for array in (scale, offset))
    return _Before(chain.source, scale, offset, moves, chain.words)


def _commutes(pool: ir.Node, scale: np.ndarray, offset: np.ndarray) -> bool:
    if len(pool.outputs) > 1:  # the positions of the largest values
        return False
    if is_op(pool, "MaxPool"):
        return bool((scale > 0).all())
    padded = any(ints_attribute(pool, "pads")) or bool(attribute(pool, "ceil_mode", 0))
    return not padded or not offset.any()


def _moved(
    array: np.ndarray, move: ir.Node, before: tuple[int, ...], after: tuple[int, ...]
) -> np.ndarray:
    if array.size == 1:
        return array.reshape((1,) * len(after))
    if is_op(move, "Transpose"):
        return array.transpose(ints_attribute(move, "perm", range(len(before))[::-1]))
    return np.broadcast_to(array, before).reshape(after)


def _per_input(node: ir.Node, found: _Before) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and offset of each input channel of a layer, None if there is no such number."""
    shape = shape_of(node.inputs[0] or node.outputs[0])
    if shape is None or len(shape) < 2:
        return None
    scale, offset = (one_per_channel(array, shape[1]) for array in (found.scale, found.offset))
    return None if scale is None or offset is None else (scale, offset)


def _scaled_inputs(weights: Weights, groups: np.ndarray) -> Weights | None:
    """Weights times one number per input channel; None if integers would change.

    Args:
        weights: their output channels are the first axis.
        groups: the numbers by group, ``[groups, I / groups]``.
    """
    if (groups == groups[:, :1]).all():
        return scaled(weights, np.repeat(groups[:, 0], weights.channels // len(groups)))
    if weights.steps is not None:
        return None
    array = np.empty_like(weights.array)
    for rows, block in row_blocks(weights.array):
        array[rows] = block * _along_rows(groups, rows, weights)
    return replace(weights, array=array) if np.isfinite(array).all() else None


def _weighted(weights: Weights, groups: np.ndarray) -> np.ndarray:
    """The sums ``[O]`` of weights times one number per input channel; arguments as above."""
    sums = np.empty(weights.channels)
    for rows, block in row_blocks(weights.array):
        products = block * _along_rows(groups, rows, weights)
        sums[rows] = products.reshape(len(block), -1).sum(axis=1)
    return sums if weights.steps is None else sums * weights.steps


def _along_rows(groups: np.ndarray, rows: slice, weights: Weights) -> np.ndarray:
    """The numbers of the inputs of some rows, in a shape that broadcasts against them."""
    each = weights.channels // len(groups)
    found = groups[np.arange(weights.channels)[rows] // each] if len(groups) > 1 else groups
    return found.reshape(*found.shape, *(1,) * (weights.array.ndim - 2))
