"""GR-3: SpaceToDepth by operators of the hardware."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, shape_of, sole_consumer
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.phases import space_to_depth as moved
from dlaconv.ir.passes.legal.picking import Picks, pick, windows_of
from dlaconv.ir.pipeline import Context


@legalisation("SpaceToDepth", rules=("GR-3",))
def space_to_depth(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """SpaceToDepth becomes a convolution of stride 2 that picks, or Reshape, Transpose and Reshape.

    Identity: Channel (a, b, c) of the result shows rows a + s i and columns b + s j of channel c.
    For s = 2 that is a 2 x 2 convolution of stride 2 with a single one in each kernel. Larger
    blocks are moved: rows and columns are split, and their inner parts moved before the channels.

    Conditions: The convolution is for maps with one step. Where the result is rounded, it is
    rounded in one way with one step.

    Cost: 4 x 4 x C^2 multiplications per block of 2 x 2; none for larger blocks.
    """
    x = node.inputs[0]
    shape = shape_of(x) if x is not None else None
    if x is None or shape is None or len(shape) != 4:
        return Blocked("the map has no rows and columns")
    size = int(attribute(node, "blocksize", 1))
    if size < 1 or shape[2] % size or shape[3] % size:
        return Blocked(f"a map of {shape[2]}x{shape[3]} has no whole blocks of {size}x{size}")
    phases = Picks.phases(shape[1], (size, size), (shape[2], shape[3]), "DCR")
    quantisation, builder = stored_quantisation(x), Builder(node)
    fits = not isinstance(windows_of(x, phases, context.target), Blocked)
    if fits and (quantisation is None or quantisation.per_tensor):
        value = pick(builder, x, phases, context)
        assert not isinstance(value, Blocked)
        if not dialect.is_quantize(sole_consumer(node.outputs[0])):
            builder.stored_like(value, x)
        detail = f"SpaceToDepth as a {size}x{size} convolution of stride {size} that picks"
        return builder.plan(detail)
    if (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    moved(builder, x, (size, size), "DCR")
    return builder.plan(f"SpaceToDepth of {size}x{size} blocks as Reshape, Transpose and Reshape")
