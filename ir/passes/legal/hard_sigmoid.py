"""GR-3: HardSigmoid as a factor, an offset and a clip."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context


@legalisation("HardSigmoid", rules=("GR-3",))
def hard_sigmoid(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A HardSigmoid becomes a factor, an offset and a Clip, for which there are rewrites.

    Identity: It is clip(alpha x + beta, 0, 1). Factor and offset go into the layer before it, or
    into a layer of their own.

    Conditions: None.

    Cost: None, unless factor and offset need a layer of their own.
    """
    del context
    shape = shape_of(node.outputs[0]) or ()
    builder = Builder(node)
    alpha, beta, low, high = (
        builder.constant(word, np.array(number, np.float32))
        for word, number in (
            ("alpha", float(attribute(node, "alpha", 0.2))),
            ("beta", float(attribute(node, "beta", 0.5))),
            ("min", 0.0),
            ("max", 1.0),
        )
    )
    value = builder.op("Add", [builder.op("Mul", [builder.x, alpha], shape), beta], shape)
    builder.op("Clip", [value, low, high], shape)
    return builder.plan("clip(alpha x + beta, 0, 1)")
