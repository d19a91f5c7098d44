"""Running QDQ twins: whole, and map by map on given integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from dlaconv.backends.access.reader import AccessFile, read_access
from dlaconv.backends.access.twin.ports import INTEGERS, Port
from dlaconv.backends.access.twin.qdq import qdq_twin
from dlaconv.backends.access.writer import write_access
from dlaconv.ir.layers import Network, network_of
from dlaconv.ir.target import Target

TARGET = Target.load()
PLAIN = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
FULL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def parsed(model: ir.Model) -> ir.Model:
    """A model as it is after being saved and loaded."""
    proto = onnx.ModelProto.FromString(ir.to_proto(model).SerializeToString())
    return ir.from_proto(proto)


def written(model: ir.Model, convention: str = "guide", facts=None) -> ir.Model:
    """The ACCESS file of a SCALED model."""
    facts = {} if facts is None else facts
    return parsed(write_access(model, TARGET, convention=convention, maps=facts))


def ports_of(network: Network, file: AccessFile) -> dict[str, Port]:
    """Inputs and outputs as the file's map table has them."""
    maps = {stored.name: stored for stored in network.inputs} | dict(network.outputs)
    return {
        name: Port(
            float(file.maps.get(stored.name, {}).get("real_step", stored.step)),
            stored.qmin,
            stored.qmax,
        )
        for name, stored in maps.items()
    }


def twin_of(file: ir.Model) -> tuple[Network, ir.Model]:
    """The network that a file holds, and its twin."""
    read = read_access(file, TARGET)
    network = network_of(read.model)
    return network, parsed(qdq_twin(file, TARGET, ports_of(network, read)))


def session(model: ir.Model, level=PLAIN) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)


def exposed(twin: ir.Model) -> ir.Model:
    """The twin with the integers of every map as graph outputs."""
    copy = twin.clone()
    for node in copy.graph:
        if node.op_type == "QuantizeLinear" and not node.outputs[0].is_graph_output():
            copy.graph.outputs.append(node.outputs[0])
    return copy


def cut(twin: ir.Model) -> ir.Model:
    """The twin with every map as a graph input of its integers, so that each layer stands alone.

    What a layer computes is the graph output of the map's name with `INTEGERS`.
    """
    copy = exposed(twin)
    for node in list(copy.graph):
        made_by = node.inputs[0].producer() if node.inputs else None
        if node.op_type != "DequantizeLinear" or made_by is None:
            continue
        integers = node.inputs[0]
        given = ir.val(f"{integers.name}/given", integers.dtype, integers.shape)
        copy.graph.inputs.append(given)
        node.replace_input_with(0, given)
    return copy


def run_cut(twin: ir.Model, maps: Mapping[str, np.ndarray], reals: Mapping[str, np.ndarray]):
    """What every layer of the twin makes of given integers, by map name."""
    ready = session(cut(twin))
    feeds = dict(reals)
    for item in ready.get_inputs():
        if item.name.endswith("/given"):
            integers = maps[item.name.removesuffix(f"{INTEGERS}/given")]
            feeds[item.name] = integers.astype(np.int8 if item.type == "tensor(int8)" else np.uint8)
    return integers_of(ready, feeds)


def integers_of(ready: onnxruntime.InferenceSession, feeds: Mapping[str, np.ndarray]):
    """The integers of every map that a session returns, by map name."""
    names = [item.name for item in ready.get_outputs()]
    found = dict(zip(names, ready.run(names, dict(feeds)), strict=True))
    return {
        name.removesuffix(INTEGERS): array.astype(np.int64)
        for name, array in found.items()
        if name.endswith(INTEGERS)
    }
