"""Averages that become depth-wise convolutions, from the file to the proof."""

import numpy as np
import onnx
import pytest
from onnx import helper

import dlaconv
from dlaconv.options import Options
from tests.frontends.builders import network, parameters, quant, save


@pytest.mark.parametrize(("size", "group"), [(2, 1), (3, 1), (4, 16)])
def test_an_average_over_a_small_map_is_a_layer_that_the_hardware_has(tmp_path, size, group):
    """A depth-wise convolution needs a map of 4x4."""
    nodes = [quant("x", "a"), ("GlobalAveragePool", ["a"], ["mean"]), quant("mean", "y", "t")]
    constants = parameters(0.031) | {"t": np.float32(0.0123)}
    source = save(tmp_path, network(nodes, constants, {"x": [1, 16, size, size]}))
    file = tmp_path / "net.dla.onnx"
    report = dlaconv.convert(source, file, options=Options(io="absorb")).report
    assert report["verification"]["passed"]
    [linear] = [node for node in onnx.load(file).graph.node if node.op_type == "Conv"]
    attributes = {item.name: helper.get_attribute_value(item) for item in linear.attribute}
    assert attributes["group"] == group
    assert [row["class"] for row in report["tensors"] if row["kind"] == "map"] == ["exact"] * 2


@pytest.mark.parametrize(("size", "stride"), [((9, 9), 3), ((7, 8), 2), ((7, 7), 1)])
def test_a_single_window_stays_one_even_if_the_map_is_larger(tmp_path, size, stride):
    """7x7 by 7 on 9x9: a convolution that moved by 1 would have nine windows."""
    nodes = [
        quant("x", "a"),
        ("AveragePool", ["a"], ["mean"], {"kernel_shape": [7, 7], "strides": [7, 7]}),
        quant("mean", "y", "t"),
    ]
    constants = parameters(0.031) | {"t": np.float32(0.0123)}
    source = save(tmp_path, network(nodes, constants, {"x": [1, 16, *size]}))
    file = tmp_path / "net.dla.onnx"
    options = Options(io="absorb", allow_violations=True, legalise="off")
    assert dlaconv.convert(source, file, options=options).report["verification"]["passed"]
    [linear] = [node for node in onnx.load(file).graph.node if node.op_type == "Conv"]
    attributes = {item.name: helper.get_attribute_value(item) for item in linear.attribute}
    assert attributes["strides"] == [stride] * 2
    assert dlaconv.verify(source, file, samples=2).outputs == ("y",)
