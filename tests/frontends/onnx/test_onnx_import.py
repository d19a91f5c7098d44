"""Plain ONNX of every exporter and opset computes the same once it is imported."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlaconv.errors import ConversionError
from dlaconv.frontends.onnx import load_onnx
from dlaconv.ir import dialect
from dlaconv.ir.execution import run
from dlaconv.ir.graph import replace_node, shape_of
from tests.frontends import builders
from tests.frontends.builders import random
from tests.frontends.onnx.plain import (
    assert_same,
    canonical,
    load,
    operators,
    plain,
)

FILTERS, BIAS = random(8, 3, 3, 3, seed=1), random(8, seed=2)
BN = {"g": random(8, seed=3), "b": random(8, seed=4), "m": random(8, seed=5),
      "v": np.abs(random(8, seed=6)) + 0.1}  # fmt: skip


def small_network(opset):
    """Convolution, batch norm, ReLU6, pool, flatten and fully connected, as an opset has them."""
    clip = ("Clip", ["c"], ["d"], {"min": 0.0, "max": 6.0})
    constants = {"w": FILTERS, "bias": BIAS, **BN, "fc": random(32, 5, seed=7)}
    if opset >= 11:
        clip = ("Clip", ["c", "low", "high"], ["d"])
        constants |= {"low": np.float32(0), "high": np.float32(6)}
    nodes = [
        ("Conv", ["x", "w", "bias"], ["a"], {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", ["a", "g", "b", "m", "v"], ["c"]),
        clip,
        ("MaxPool", ["d"], ["e"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Flatten", ["e"], ["f"]),
        ("Gemm", ["f", "fc", "five"], ["y"]),
    ]
    return plain(nodes, constants | {"five": random(5, seed=8)}, opset=opset)


@pytest.mark.parametrize("opset", range(7, 22))
def test_a_network_of_any_opset_computes_the_same(tmp_path, opset):
    model = small_network(opset)
    before = assert_same(tmp_path, model, tolerance=1e-6, x=random(1, 3, 4, 4))
    assert before.graph.opset_imports[""] == dialect.OPSET
    assert all(node.metadata_props["dlaconv.layer"] for node in before.graph)


EXPORTS = {
    "constants in nodes": lambda model: constants_in_nodes(model),
    "constants as inputs": lambda model: constants_as_inputs(model),
    "no names": lambda model: without_names(model),
    "nodes in reverse": lambda model: reverse(model),
    "stale shapes": lambda model: stale_shapes(model),
    "ir version 3": lambda model: constants_as_inputs(model, ir_version=3),
}


def constants_in_nodes(model):
    made = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    del model.graph.initializer[:]
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def constants_as_inputs(model, ir_version=8):
    for tensor in model.graph.initializer:
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        model.graph.input.append(info)
    model.ir_version = ir_version


def without_names(model):
    for node in model.graph.node:
        node.name = ""


def reverse(model):
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def stale_shapes(model):
    model.graph.value_info.append(
        helper.make_tensor_value_info("a", TensorProto.FLOAT, [7, 8, 4, 4])
    )


@pytest.mark.parametrize("way", EXPORTS)
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_exporters_write_one_network_in_many_ways(tmp_path, way, opset):
    model = small_network(opset)
    x = random(1, 3, 4, 4)
    expected = builders.onnxruntime_outputs(model, x=x)[0]
    EXPORTS[way](model)
    imported = load(tmp_path, model)
    assert not imported.diagnostics.errors, str(imported.diagnostics)
    (got,) = run(imported.model, {"x": x}).values()
    assert np.allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_weights_beside_the_file_are_read(tmp_path):
    model = small_network(17)
    x = random(1, 3, 4, 4)
    expected = builders.onnxruntime_outputs(model, x=x)[0]
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.weights", size_threshold=0)
    (got,) = run(load_onnx(path).model, {"x": x}).values()
    assert np.allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_functions_of_the_model_are_inlined(tmp_path):
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    function = helper.make_function(
        "pkg.torch", "act", ["a"], ["c"], body, [helper.make_opsetid("", 18)]
    )
    node = helper.make_node("act", ["x"], ["y"], domain="pkg.torch", name="act")
    model = plain([node], functions=[function], domains=[("pkg.torch", 1)])
    assert operators(assert_same(tmp_path, model, x=random(1, 3, 4, 4))) == ["Relu", "Neg"]


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_a_channels_last_network_loses_its_transposes(tmp_path, opset):
    nodes = [
        ("Transpose", ["x"], ["a"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["a", "w", "bias"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("Transpose", ["c"], ["d"], {"perm": [0, 2, 3, 1]}),
        ("Relu", ["d"], ["e"]),
        ("Transpose", ["e"], ["f"], {"perm": [0, 3, 1, 2]}),
        ("MaxPool", ["f"], ["g"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Transpose", ["g"], ["h"], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["h", "flat"], ["i"]),
        ("MatMul", ["i", "fc"], ["y"]),
    ]
    constants = {"w": FILTERS, "bias": BIAS, "flat": np.array([-1, 32]), "fc": random(32, 5)}
    model = plain(nodes, constants, {"x": [1, 4, 4, 3]}, opset=opset)
    x = random(1, 4, 4, 3)
    assert_same(tmp_path, model, tolerance=1e-6, x=x)
    after = canonical(load(tmp_path, model))
    assert operators(after).count("Transpose") == 1
    assert [shape_of(value) for value in after.graph.inputs] == [(1, 4, 4, 3)]


def open_network(dims, height=4):
    nodes = [
        ("Conv", ["x", "w"], ["a"], {"pads": [1, 1, 1, 1]}),
        ("GlobalAveragePool", ["a"], ["b"]),
        ("Flatten", ["b"], ["y"]),
    ]
    return plain(nodes, {"w": FILTERS}, {"x": dims}, opset=17)


def test_an_open_batch_is_one_sample(tmp_path):
    after = canonical(load(tmp_path, open_network(["batch", 3, 4, 6])))
    assert shape_of(after.graph.inputs[0]) == (1, 3, 4, 6)
    assert shape_of(after.graph.outputs[0]) == (1, 8)


@pytest.mark.parametrize("batch", [1, "N"])
def test_an_open_height_and_width_must_be_given(tmp_path, batch):
    model = open_network([batch, 3, "h", None])
    with pytest.raises(ConversionError) as caught:
        canonical(load(tmp_path, model))
    assert [error.rule for error in caught.value.diagnostics.errors] == ["DLA311"]
    assert "--set-shape x=1,3,224,224" in caught.value.diagnostics.errors[0].help
    after = canonical(load(tmp_path, model), x=(1, 3, 10, 12))
    assert shape_of(after.graph.inputs[0]) == (1, 3, 10, 12)
    x = random(1, 3, 10, 12)
    (got,) = run(after, {"x": x}).values()
    assert np.allclose(got, builders.onnxruntime_outputs(model, x=x)[0], atol=1e-5)


def test_an_input_without_any_shape_takes_one_that_is_given(tmp_path):
    model = open_network([1, 3, 4, 4])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    after = canonical(load(tmp_path, model), x=(1, 3, 6, 6))
    assert shape_of(after.graph.inputs[0]) == (1, 3, 6, 6)


def test_a_target_shape_computed_from_the_input_becomes_a_constant(tmp_path):
    """TorchScript writes ``view(x.size(0), -1)`` as Shape, Gather, Unsqueeze, Concat."""
    nodes = [
        ("Shape", ["x"], ["s"]),
        ("Gather", ["s", "zero"], ["n"], {"axis": 0}),
        ("Unsqueeze", ["n", "axes"], ["n1"]),
        ("Concat", ["n1", "rest"], ["t"], {"axis": 0}),
        ("Reshape", ["x", "t"], ["f"]),
        ("MatMul", ["f", "w"], ["y"]),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]),
                 "w": random(48, 5)}  # fmt: skip
    model = plain(nodes, constants, {"x": ["N", 3, 4, 4]})
    assert_same(tmp_path, model, tolerance=1e-6, x=random(1, 3, 4, 4))
    assert operators(canonical(load(tmp_path, model))) == ["Reshape", "Gemm"]


def handler(node, state):
    """Replaces ``Swish2`` by what it computes."""
    import onnx_ir as ir

    x = node.inputs[0]
    gate = ir.node("Sigmoid", [x], name=f"{node.name}/gate")
    gate.outputs[0].name = f"{node.name}/gate"
    replace_node(node, gate, ir.node("Mul", [x, gate.outputs[0]], name=node.name))


@pytest.mark.parametrize("key", ["Swish2", "com.example::Swish2"])
def test_a_plugin_s_handler_reads_an_operator(tmp_path, key):
    node = helper.make_node("Swish2", ["x"], ["y"], domain="com.example", name="act")
    model = plain([node], domains=[("com.example", 1)])
    imported = load(tmp_path, model, layers={key: handler})
    x = random(1, 3, 4, 4)
    (got,) = builders.execute(imported, x=x)
    assert np.allclose(got, x / (1 + np.exp(-x)), atol=1e-6)
    assert {node.metadata_props["dlaconv.layer"] for node in imported.model.graph} == {"act"}


def test_a_plugin_cannot_replace_what_onnx_defines(tmp_path):
    def never(node, state):
        raise AssertionError

    imported = load(tmp_path, plain([("Relu", ["x"], ["y"])]), layers={"Relu": never})
    assert operators(imported.model) == ["Relu"]


def test_the_more_specific_handler_is_taken(tmp_path):
    def never(node, state):
        raise AssertionError

    node = helper.make_node("Swish2", ["x"], ["y"], domain="com.example", name="act")
    model = plain([node], domains=[("com.example", 1)])
    imported = load(tmp_path, model, layers={"Swish2": never, "com.example::Swish2": handler})
    assert operators(imported.model) == ["Sigmoid", "Mul"]


def test_a_value_that_is_no_number_in_a_constant_stays_what_it_is(tmp_path):
    value = numpy_helper.from_array(
        np.array([np.nan, np.inf, -np.inf], np.float32).reshape(3, 1, 1)
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=value),
        ("Add", ["x", "c"], ["y"]),
    ]
    imported = load(tmp_path, plain(nodes))
    (got,) = builders.execute(imported, x=np.zeros((1, 3, 4, 4), np.float32))
    assert np.isnan(got[0, 0]).all()
    assert np.isposinf(got[0, 1]).all()
