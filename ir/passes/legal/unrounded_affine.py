"""BN-1, EL-3, GR-3: factors, offsets and normalisations between an operator and its quantiser."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.passes.affine import AFFINE_OPS
from dlaconv.ir.passes.legal.channel_affine import affine_plan, rounds_twice, standalone_affine
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context


@legalisation(*AFFINE_OPS, rules=("BN-1", "EL-3", "GR-3"), exact=False)
def unrounded_affine(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """Factors and offsets on a value that is not rounded yet become a 1x1 convolution, too.

    Identity: That of channel_affine. The operator before, or the graph input, is rounded to a step
    of its own, which the source does not do, and the convolution behind it again.

    Conditions: Those of channel_affine. Behind a layer with weights the constants have been folded
    into it, which is exact.

    Cost: One multiplication per value, C if dense or fully connected.
    """
    chain = standalone_affine(node)
    if chain is None or not rounds_twice(chain, node):
        return None
    return affine_plan(node, chain, context)
