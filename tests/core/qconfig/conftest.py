"""A network and its data for the tests of ``--qconfig``."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlaconv
from dlaconv.options import Options
from tests.core.qconfig.networks import RNG


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A float network: a chain, a clip, an Add, a pool, a Concat and a Tanh."""
    weights = {
        name: RNG.normal(size=size) * np.sqrt(2 / np.prod(size[1:]))
        for name, size in {
            "w0": (16, 3, 3, 3), "w1": (16, 16, 3, 3), "w2": (16, 16, 3, 3),
            "w3": (16, 16, 3, 3), "w4": (16, 16, 1, 1), "w5": (16, 16, 1, 1), "w6": (16, 32, 1, 1),
        }.items()
    }  # fmt: skip
    weights["w1"][3] *= 8  # a channel unlike the others
    weights |= {"zero": np.array(0), "one": np.array(1)}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "stem", pads=[1] * 4),
        node("Relu", ["c0"], ["r0"], "stem.relu"),
        node("Conv", ["r0", "w1"], ["c1"], "conv1", pads=[1] * 4),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2"], ["c2"], "block.conv2", pads=[1] * 4),
        node("Clip", ["c2", "zero", "one"], ["r2"], "block.clip"),
        node("Conv", ["r2", "w3"], ["c3"], "block.conv3", pads=[1] * 4),
        node("Add", ["c3", "r1"], ["s"], "block.add"),
        node("MaxPool", ["s"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w4"], ["c4"], "left"),
        node("Conv", ["p", "w5"], ["c5"], "right"),
        node("Concat", ["c4", "c5"], ["both"], "concat", axis=1),
        node("Conv", ["both", "w6"], ["c6"], "last"),
        node("Tanh", ["c6"], ["y"], "tanh"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", 1, [1, 16, 8, 8])],
        [numpy_helper.from_array(np.float32(array), name) for name, array in weights.items()],
    )
    path = tmp_path_factory.mktemp("source") / "net.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x=RNG.normal(size=(8, 3, 16, 16)).astype(np.float32))
    return path


@pytest.fixture
def convert(source, data, tmp_path):
    """Converts with overrides; returns the report's rows of maps and weights by name."""

    def call(entries, *, calibrate=data, file=source, **options):
        path = tmp_path / "net.yaml"
        path.write_text(json.dumps({"version": 1, "nodes": entries}, indent=1))
        options = Options(qconfig=str(path), calibrate=calibrate, **{"samples": 1} | options)
        target = tmp_path / "net.dla.onnx"
        found = dlaconv.convert(file, target, options=options)
        call.diagnostics, call.model = found.diagnostics, onnx.load(target)
        return {row["name"]: row for row in found.report["tensors"]}

    return call
