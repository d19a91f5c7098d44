"""Parts of a network that are fed with a value of the source in another shape."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

import dlaconv
from tests.core.test_partition import Converted


def on_a_line(*, quantised, channels=6):
    """A convolution of what is [1, L, C], which the host turns and gives a column."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(16, channels, 5)).astype(np.float32) / 5
    constants = [
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.float32(1 / 16), "step"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["sound", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]),
        helper.make_node("Transpose", ["dq"], ["t"], name="in", perm=[0, 2, 1]),
        helper.make_node("Conv", ["t", "w"], ["c"], name="conv", pads=[2, 2], strides=[2]),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    if not quantised:
        nodes, constants = nodes[2:], constants[:1]
        nodes[0].input[0] = "sound"
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("sound", 1, [1, 32, channels])],
        [helper.make_tensor_value_info("y", 1, None)],
        constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)


def test_a_part_behind_a_reshape_keeps_the_integers_it_is_fed(tmp_path):
    made = Converted(tmp_path, on_a_line(quantised=True))
    assert "net.head.onnx" in made.files
    found = dlaconv.verify(made.source, tmp_path / "net.dla.onnx", inputs=tmp_path / "data.npz")
    [fed, *_] = found.rows
    assert (fed.about.fidelity, fed.accumulated.differing) == ("exact", 0)
    assert found.passed


@pytest.mark.parametrize("quantised", [True, False])
def test_a_part_behind_a_reshape_is_compared_with_the_source(tmp_path, quantised):
    made = Converted(tmp_path, on_a_line(quantised=quantised))
    assert dlaconv.verify(made.source, tmp_path / "net.dla.onnx").passed
    compared = dlaconv.compare(made.source, tmp_path / "net.dla.onnx", tmp_path / "data.npz")
    assert compared.samples == 8
    [output] = compared.outputs.values()
    assert output["qsnr_db"] > 30
