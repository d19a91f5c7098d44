"""GR-3: SiLU by HardSwish."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.graph import is_op, producer, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context


@legalisation("Mul", rules=("GR-3",), exact=False, tolerance=0.15)
def silu(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A SiLU (Swish), x * sigmoid(x), becomes the HardSwish that resembles it.

    Identity: None: x * clip(x / 6 + 1/2, 0, 1) is off by 0.142 at most (at 3 and -3), which
    networks that were not trained with it notice.

    Conditions: A product of a value and its own Sigmoid.

    Cost: None.
    """
    del context
    for x, gate in (node.inputs, node.inputs[::-1]):
        sigmoid = producer(gate)
        if is_op(sigmoid, "Sigmoid") and sigmoid is not None and sigmoid.inputs[0] is x:
            builder = Builder(node)
            builder.op("HardSwish", [x], shape_of(node.outputs[0]) or ())
            return builder.plan("a HardSwish in place of a SiLU")
    return None
