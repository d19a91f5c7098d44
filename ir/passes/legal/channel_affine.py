"""BN-1, EL-3, GR-3: factors, offsets and normalisations that stand alone, as layers."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import consumers, is_op, shape_of, sole_consumer
from dlaconv.ir.layers import MOVING, PIPELINED
from dlaconv.ir.passes.affine import AFFINE_OPS, Affine, affine_chain, affine_of
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.diagonal import diagonal_layer
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.rows import Rows
from dlaconv.ir.pipeline import Context


@legalisation(*AFFINE_OPS, rules=("BN-1", "EL-3", "GR-3"))
def channel_affine(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """Factors, offsets and normalisations that stand alone become a 1x1 convolution.

    Identity: g x + h, with one g and h per channel, is a depth-wise 1x1 convolution with the
    weights g and the bias h. Several such operators in a row are one.

    Conditions: The constants are numbers or vectors along the channels, or along another axis that
    Transposes can put there. The convolution is dense where the map is too small for a depth-wise
    one, or a graph input of a few channels; vectors get a fully connected layer. The weights are
    ones, worth g, and the sum is rounded once. What is not stored but quantised behind would be
    rounded twice: see unrounded_affine.

    Cost: One multiplication per value, C if dense or fully connected.
    """
    chain = standalone_affine(node)
    if chain is None or rounds_twice(chain, node):
        return None
    return affine_plan(node, chain, context)


def standalone_affine(node: ir.Node) -> Affine | None:
    """What a node computes together with those before it, None if another one takes it along."""
    following = sole_consumer(node.outputs[0])
    if following is not None and (taken := affine_of(following)) is not None and taken.finite:
        return None
    return affine_chain(node)


def rounds_twice(chain: Affine, node: ir.Node) -> bool:
    """True if the source rounds only behind the operators, the hardware also before them."""
    return stored_quantisation(chain.source) is None and quantised_behind(node.outputs[0])


def affine_plan(node: ir.Node, chain: Affine, context: Context) -> Plan | Blocked:
    """The layer in place of the operators of a chain that ends in ``node``."""
    if not chain.finite:
        return Blocked(f"the constants of {chain.words} are not finite, or zeros that divide")
    shape = shape_of(chain.source) or ()
    axes = [axis for axis in range(1, len(shape)) if chain.per_channel(axis) is not None]
    if not axes:
        return Blocked(f"the constants of {chain.words} differ from position to position")
    builder, axis = Builder(node), axes[0]
    terms = chain.per_channel(axis)
    assert terms is not None
    plain = axis == 1 and (shape[0] == 1 or len(shape) > 2)
    rows = None if plain else Rows.of(shape, axis, context.target)
    if not plain and rows is None:
        count = math.prod(shape) // shape[axis]
        return Blocked(f"{count} rows make no map that is small enough")
    moved = rows is not None or len(shape) not in {2, 4}
    if moved and (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    source = chain.source if rows is None else rows.to_map(builder, chain.source)
    result = diagonal_layer(builder, source, *terms, context.target)
    if isinstance(result, Blocked):
        return result
    if rows is not None:
        rows.back(builder, result, shape)
    return builder.plan(f"{chain.words} as a layer with one weight per channel")


def quantised_behind(value: ir.Value) -> bool:
    """True if a value is quantised, at most after operators that keep it."""
    queue, seen = [value], {value}
    while queue:
        for reader in consumers(queue.pop()):
            if dialect.is_quantize(reader):
                return True
            if is_op(reader, *MOVING, *PIPELINED) and reader.outputs[0] not in seen:
                seen.add(reader.outputs[0])
                queue.append(reader.outputs[0])
    return False
