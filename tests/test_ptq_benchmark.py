"""What the comparison with other tools computes by itself: scores, a float network, its table."""

import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.ptq.floating import without_quantisers
from benchmarks.ptq.install import PEERS, find_peer
from benchmarks.ptq.methods import METHODS
from benchmarks.ptq.scores import scores
from benchmarks.ptq.table import markdown


def test_scores_are_paired():
    floats = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]
    outputs = np.eye(4, dtype=np.float32)[[0, 1, 3, 0]]
    found = scores(outputs, floats, np.array([0, 2, 2, 0]))
    assert found["agreement"] == 0.5
    assert found["top1"] == 0.5
    assert (found["lost"], found["gained"]) == (1, 1)
    assert found["difference"] == 0
    assert found["error"] == pytest.approx(100 * math.sqrt(2) / 4)
    assert found["qsnr_db"] == pytest.approx(0)


def test_images_without_labels_have_no_accuracy():
    floats = np.ones((2, 3), np.float32)
    found = scores(floats * 0.9, floats, np.empty(0, np.int64))
    assert set(found) == {"agreement", "qsnr_db"}
    assert found["qsnr_db"] == pytest.approx(20)


def quantised_network(step_in, top):
    """A convolution between quantisers; that of the result is uint8 and ends at ``top``."""
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8)
    steps = generator.uniform(0.001, 0.01, 4).astype(np.float32)
    bias = generator.integers(-500, 500, 4).astype(np.int32)
    constants = {
        "w": weights, "ws": steps, "wz": np.zeros(4, np.int8),
        "b": bias, "bs": steps * np.float32(step_in), "bz": np.zeros(4, np.int32),
        "s": np.float32(step_in), "z": np.int8(0),
        "ys": np.float32(top / 255), "yz": np.uint8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], axis=0),
        helper.make_node("Conv", ["xd", "wd", "bd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(("top", "activation"), [(6.0, "Clip"), (40.0, "Relu")])
def test_a_network_without_its_quantisers_differs_by_their_roundings_only(top, activation):
    step = 2 / 127
    quantised = quantised_network(step, top)
    floating = without_quantisers(quantised)
    onnx.checker.check_model(floating)
    operators = {node.op_type for node in floating.graph.node}
    assert operators == {"Identity", "Conv", activation}
    # integers of the input, and results inside the clip: all that is left is the last rounding
    x = (np.random.default_rng(1).integers(-40, 41, (1, 2, 6, 6)) * step).astype(np.float32)
    y, z = (
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": x}
        )[0]
        for model in (quantised, floating)
    )
    assert y.max() > 0.9
    assert np.abs(y - z).max() <= top / 255 * 0.501


def test_a_peer_that_is_not_there_is_said_to_be_missing(tmp_path):
    for name in PEERS:
        peer = find_peer(name, tmp_path)
        assert peer.python is None
        assert "benchmarks.ptq.install" in peer.problem


def test_every_method_has_a_peer_that_can_be_installed():
    assert {method.peer for method in METHODS if method.peer} == set(PEERS)


def test_the_table_has_a_row_for_what_failed():
    rows = [
        {
            "method": "one",
            "qsnr_db": 20.04,
            "agreement": 0.5,
            "seconds": 1,
            "cpu": 2,
            "megabytes": 3,
        },
        {"method": "other", "problem": "not installed"},
    ]
    text = markdown([{"network": "net", "images": 7, "rows": rows}]).splitlines()
    assert text[2] == "| net (7) | one |  |  | 50.00 | 20.0 | 1.0 | 2.0 | 3 |"
    assert "not installed" in text[3]
    assert len({line.count("|") for line in text}) == 1
