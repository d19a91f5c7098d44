"""A float network out of a QDQ file, where no float file is to be had."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

_CEILING = 6.0


def without_quantisers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Takes the quantisers of a QDQ network out and leaves its weights, as floats.

    onnxruntime removes the activation in front of a quantiser that clips as it does. So a quantiser
    that starts at zero and ends at most a step above 6 becomes ``Clip(0, 6)`` (ReLU6 was there),
    any other that starts at zero a ``Relu``; the rest goes.

    Args:
        model: weights and biases as integers behind a DequantizeLinear, maps between a
            QuantizeLinear and a DequantizeLinear.
    """
    known = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    made: dict[str, np.ndarray] = {"ceiling": np.float32(_CEILING), "floor": np.float32(0)}
    same: dict[str, str] = {}
    for node in model.graph.node:
        name = same.get(node.input[0], node.input[0]) if node.input else ""
        if node.op_type == "QuantizeLinear":
            found = _activation(node, name, *(known[name] for name in node.input[1:3]))
            if found is None:
                same[node.output[0]] = name
            else:
                nodes.append(found)
        elif node.op_type == "DequantizeLinear" and node.input[0] in known:
            made[node.output[0]] = _values(node, *(known[name] for name in node.input))
        elif node.op_type == "DequantizeLinear":
            same[node.output[0]] = name
        else:
            kept = onnx.NodeProto()
            kept.CopyFrom(node)
            kept.input[:] = [same.get(item, item) for item in node.input]
            nodes.append(kept)
    nodes += [
        helper.make_node("Identity", [same[output.name]], [output.name])
        for output in model.graph.output
        if output.name in same
    ]
    used = {name for node in nodes for name in node.input}
    weights = [item for item in model.graph.initializer if item.name in used]
    constants = [
        numpy_helper.from_array(value, name) for name, value in made.items() if name in used
    ]
    graph = helper.make_graph(
        nodes, model.graph.name, model.graph.input, model.graph.output, [*weights, *constants]
    )
    opsets = [item for item in model.opset_import if item.domain in {"", "ai.onnx"}]
    return helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)


def _activation(
    node: onnx.NodeProto, source: str, step: np.ndarray, zero: np.ndarray
) -> onnx.NodeProto | None:
    limits = np.iinfo(zero.dtype)
    if int(zero) != limits.min:
        return None
    if float(step) * (limits.max - limits.min) <= _CEILING + float(step):
        return helper.make_node("Clip", [source, "floor", "ceiling"], node.output)
    return helper.make_node("Relu", [source], node.output)


def _values(node: onnx.NodeProto, q: np.ndarray, step: np.ndarray, zero: np.ndarray) -> np.ndarray:
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if step.size > 1:
        shape = [1] * q.ndim
        shape[axis] = -1
        step, zero = step.reshape(shape), zero.reshape(shape)
    return ((q.astype(np.float64) - zero) * step).astype(np.float32)
