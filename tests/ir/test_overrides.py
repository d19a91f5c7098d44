import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import provenance
from dlaconv.ir.calibration.histogram import Histogram
from dlaconv.ir.overrides import Entry, MapRange, Overrides, SourceLayer, source_layers

RANGE = MapRange("threshold 1", threshold=1.0)


def entry(match="", op=""):
    return Entry(1, match, op, RANGE)


@pytest.mark.parametrize(
    ("match", "name", "found"),
    [
        ("conv1", "conv1", True),
        ("conv1", "conv10", False),
        ("conv", "conv1", False),
        ("conv*", "conv10", True),
        ("conv?", "conv10", False),
        ("*", "/layer1/conv/Conv_output_0", True),
        ("/layer1/*", "/layer1/0/conv", True),
        ("Conv1", "conv1", False),
        ("layers[0]", "layers[0]", True),
        ("layers[0]", "layers0", False),
        ("layers[0-9]", "layers5", False),
        ("a.c", "abc", False),
        ("*" * 30 + "b", "a" * 200, False),
    ],
)
def test_patterns_are_those_of_a_shell_but_for_brackets(match, name, found):
    assert entry(match).matches(SourceLayer("value", name, "Conv")) is found
    assert entry(match).matches(SourceLayer(name)) is found


def test_name_and_operator_must_hold_for_one_layer():
    layers = [SourceLayer("r", "relu1", "Relu"), SourceLayer("c", "conv1", "Conv")]
    assert [entry("*1", "Relu").matches(layer) for layer in layers] == [True, False]
    overrides = Overrides(entries=[entry("conv1", "Relu")])
    assert overrides.of_map(layers) is None


@pytest.fixture
def model():
    """conv -> Mul by a constant -> relu, beside which conv is read by an Add."""
    x, k = (ir.val(name, dtype=ir.DataType.FLOAT, shape=[1, 4]) for name in ("x", "k"))
    nodes = []

    def add(op, *inputs, name):
        node = provenance.mark(ir.node(op, list(inputs), name=name), name, op)
        node.outputs[0].name = f"{name}_out"
        nodes.append(node)
        return node.outputs[0]

    c = add("Conv", x, k, name="conv")
    m = add("Mul", c, add("Constant", name="two"), name="mul")
    r = add("Relu", m, name="relu")
    s = add("Add", r, add("Relu", add("Conv", r, k, name="conv2"), name="relu2"), name="add")
    graph = ir.Graph([x], [s], nodes=nodes, name="net")
    return ir.Model(graph, ir_version=10)


def names(layers):
    return [layer.layer for layer in layers]


def test_a_map_stands_for_its_layers_up_to_the_map_before(model):
    overrides = Overrides(source=source_layers(model))
    assert names(overrides.layers_of("relu_out", {"x"})) == ["relu", "mul", "conv"]
    assert names(overrides.layers_of("relu_out", {"x", "mul_out"})) == ["relu"]
    assert names(overrides.layers_of("relu2_out", {"relu_out"})) == ["relu2", "conv2"]
    assert names(overrides.layers_of("add_out", {"relu_out"})) == ["add"]


def test_constants_are_no_layers(model):
    assert set(source_layers(model)) == {
        "x", "conv_out", "mul_out", "relu_out", "conv2_out", "relu2_out", "add_out"
    }  # fmt: skip


def test_maps_in_another_layout_and_maps_of_ours(model):
    overrides = Overrides(source=source_layers(model))
    found = overrides.layers_of("conv2_out/layout_0_2_3_1", set())
    assert names(found) == ["conv2"]
    assert overrides.layers_of("conv/part1", set()) == [SourceLayer("conv/part1")]


def test_ranges_are_given_or_measured():
    seen = Histogram()
    seen.add(np.arange(1, 101, dtype=np.float32))
    assert MapRange("", threshold=3.0).magnitude(127, seen) == 3.0
    assert MapRange("", step=0.5).magnitude(127) == 63.5
    assert MapRange("", method="minmax").magnitude(127, seen) == 100.0
    assert MapRange("", share=1.0).magnitude(127, seen) == 100.0
    assert 49 <= MapRange("", share=0.5).magnitude(127, seen) <= 51
