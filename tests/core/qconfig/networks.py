"""What the tests of ``--qconfig`` share: a random generator, other networks, readers of results."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dlaconv.errors import UsageError

RNG = np.random.default_rng(0)


def refused(convert, entries, **options):
    """The errors of a conversion that must not write anything: rule, line, message."""
    with pytest.raises(UsageError) as caught:
        convert(entries, **options)
    found = caught.value.diagnostics.errors
    assert all(item.location.file.endswith("net.yaml") for item in found)
    return [(item.rule, item.location.line, item.message) for item in found]


def integers(model, name):
    """The integers and scales of a layer of the converted file."""
    [node] = [node for node in model.graph.node if node.name == name]
    tensors = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    values = tensors[node.input[1]].astype(np.float64)
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    scales = np.array(attributes["weight_ch_scales"], np.float64).reshape(-1, 1, 1, 1)
    return np.rint(values / scales), scales


def quantised(source, tmp_path):
    """The network with QuantizeLinear and DequantizeLinear behind conv1 and around its weights."""
    model = onnx.load(source)
    constants = {"qs": np.float32(0.05), "qz": np.int8(0), "ws": np.float32(0.01)}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants.items())
    node = helper.make_node
    nodes = []
    for item in model.graph.node:
        if item.name == "conv1":
            nodes.append(node("QuantizeLinear", ["w1", "ws", "qz"], ["wq"], "quantise_w"))
            nodes.append(node("DequantizeLinear", ["wq", "ws", "qz"], ["wd"], "dequantise_w"))
            item.input[1] = "wd"
        if item.name == "relu1":
            item.output[0] = "real"
        nodes.append(item)
        if item.name == "relu1":
            nodes.append(node("QuantizeLinear", ["real", "qs", "qz"], ["rq"], "quantise"))
            nodes.append(node("DequantizeLinear", ["rq", "qs", "qz"], ["r1"], "dequantise"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path = tmp_path / "mixed.onnx"
    onnx.save(model, path)
    return path


def bad_file(tmp_path, data):
    path = tmp_path / "bad.yaml"
    path.write_bytes(data)
    return path
