"""Writes out the ReLU that an unsigned quantiser is."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.calibration.bounds import IntervalBounds
from dlaconv.ir.graph import input_array, insert_before, is_op, producer
from dlaconv.ir.layers import PIPELINED
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass
from dlaconv.ir.quantisation import Quantisation


@ir_pass()
def implicit_relu(model: ir.Model, context: Context) -> None:
    """Puts a ReLU before each quantiser that clips at zero what may be negative.

    The hardware's maps are signed: without it negative values would be stored. The integers are
    the same, since rounding keeps zero and order. What the host feeds is clipped by the host.
    """
    nodes = [node for node in model.graph if dialect.is_quantize(node) and _clips_at_zero(node)]
    bounds = IntervalBounds()
    for node in nodes:
        x = node.inputs[0]
        assert x is not None
        rectified = _rectified(x)
        if rectified is None or bounds.of(rectified)[0] >= 0:
            continue
        relu = ir.node("Relu", [rectified], name=f"{node.name}/relu")
        result = relu.outputs[0]
        result.name, result.shape, result.dtype = (
            f"{x.name}/{node.name}/relu",
            x.shape,
            ir.DataType.FLOAT,
        )
        provenance.inherit(relu, node)
        insert_before(node, relu)
        node.replace_input_with(0, result)
        layer = provenance.location(node).layer
        detail = "a ReLU is the clip at zero of an unsigned quantiser"
        context.rewrites.append(Rewrite("implicit_relu", layer, detail))


def _rectified(x: ir.Value) -> ir.Value | None:
    """What the ReLU must read, None if nothing negative reaches the quantiser or the host clips it.

    Behind a leaky ReLU that is its input: the quantiser clips the negative side anyway.
    """
    activation = producer(x)
    if x.is_graph_input() or is_op(activation, "Relu"):
        return None
    if activation is None or not is_op(activation, *PIPELINED):
        return x
    slopes = input_array(activation, 1) if is_op(activation, "PRelu") else None
    alpha = activation.attributes.get_float("alpha", 0.01)
    lowest = alpha if slopes is None else float(slopes.min(initial=0))
    return activation.inputs[0] if lowest >= 0 else None


def _clips_at_zero(node: ir.Node) -> bool:
    quantisation: Quantisation = dialect.quantisation_of(node)
    return quantisation.per_tensor and float(quantisation.zero_point.max()) <= quantisation.qmin
