"""QuantizeLinear and DequantizeLinear, against onnxruntime: scales, zero points, refusals."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from dlaconv.ir.execution import run
from tests.frontends.builders import random, rules, tensor
from tests.frontends.onnx.pairs import IMAGE, numbers, qdq, quantisers, ties
from tests.frontends.onnx.plain import (
    assert_same,
    contrib,
    load,
    operators,
    plain,
)

TYPES = [(np.int8, -128, 127), (np.uint8, 0, 255), (np.int16, -32768, 32767), (np.uint16, 0, 65535)]


@pytest.mark.parametrize(("kind", "low", "high"), TYPES[:2])
@pytest.mark.parametrize("zero", [0, 1, 3, 100, 127])
@pytest.mark.parametrize("opset", [10, 13, 18, 19, 21])
def test_a_pair_computes_the_same_ties_included(tmp_path, kind, low, high, zero, opset):
    model = plain(qdq("x", "y"), numbers(0.25, zero, kind), opset=opset)
    before = assert_same(tmp_path, model, x=ties())
    (quantisation,) = quantisers(before)
    assert quantisation.symmetric
    assert (quantisation.qmin, quantisation.qmax) == (low - zero, high - zero)


@pytest.mark.parametrize(("kind", "low", "high"), TYPES)
@pytest.mark.parametrize("scale", [0.1, 0.037, 3e-5, 1e4])
def test_float_scales_and_every_type_compute_the_same(tmp_path, kind, low, high, scale):
    zero = 5 if low == 0 else -7
    model = plain(qdq("x", "y"), numbers(scale, zero, kind), opset=21)
    x = random(*IMAGE, spread=scale * high)
    before = assert_same(tmp_path, model, x=x)
    assert (quantisers(before)[0].qmin, quantisers(before)[0].qmax) == (low - zero, high - zero)


@pytest.mark.parametrize(("kind", "low", "high"), [("INT4", -8, 7), ("UINT4", 0, 15)])
def test_types_of_four_bits(tmp_path, kind, low, high):
    model = plain(qdq("x", "y"), {"s": np.float32(0.25)}, opset=21)
    kind = getattr(TensorProto, kind)
    model.graph.initializer.append(helper.make_tensor("z", kind, [], [3]))
    x = ties(spread=40)
    imported = load(tmp_path, model)
    (got,) = run(imported.model, {"x": x}).values()
    expected = (np.clip(np.rint(x / np.float32(0.25)) + 3, low, high) - 3) * np.float32(0.25)
    assert np.array_equal(got, expected)


def test_values_out_of_range_and_infinite_ones_saturate(tmp_path):
    x = np.array([1e30, -1e30, np.inf, -np.inf, 0.0, -0.0], np.float32).reshape(1, 6)
    model = plain(qdq("x", "y"), numbers(0.5, -3), {"x": [1, 6]})
    assert_same(tmp_path, model, x=x)


@pytest.mark.parametrize("zero", [None, "z"])
def test_an_absent_zero_point_is_0_of_uint8(tmp_path, zero):
    constants = numbers(0.25, 0, np.uint8)
    before = assert_same(tmp_path, plain(qdq("x", "y", zero=zero), constants), x=ties())
    assert (quantisers(before)[0].qmin, quantisers(before)[0].qmax) == (0, 255)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_parameters_of_shape_1_are_per_tensor(tmp_path, shape):
    constants = numbers(np.full(shape, 0.25), np.full(shape, 4), np.uint8)
    before = assert_same(tmp_path, plain(qdq("x", "y"), constants), x=ties())
    assert quantisers(before)[0].step.shape == ()


@pytest.mark.parametrize(("axis", "shape"), [(1, (3, 1, 1)), (-3, (3, 1, 1)), (3, (4,)), (0, ())])
def test_scales_per_channel_lie_on_their_axis(tmp_path, axis, shape):
    size = IMAGE[axis]
    scales = (0.25 * 2.0 ** np.arange(size)).astype(np.float32)
    model = plain(qdq("x", "y", axis=axis), numbers(scales, np.zeros(size)))
    before = assert_same(tmp_path, model, stages=("imported",), x=ties())
    step = quantisers(before)[0].step
    assert step.shape[-len(shape) :] == shape if shape else step.size == 1


def test_several_readers_of_one_tensor_share_its_quantiser(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("DequantizeLinear", ["q", "s", "z"], ["a"]),
        ("DequantizeLinear", ["q", "s", "z"], ["b"]),
        ("Add", ["a", "b"], ["y"]),
    ]
    before = assert_same(tmp_path, plain(nodes, numbers(0.25, 3)), x=ties())
    assert operators(before) == ["QuantizeHalfEven", "Add"]


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_onnxruntime_s_own_pair_is_read(tmp_path, domain):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], domain=domain, name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], domain=domain, name="d"),
    ]
    model = plain(nodes, numbers(0.25, 9, np.uint16), opset=21, domains=[("com.microsoft", 1)])
    assert_same(tmp_path, model, x=ties(spread=9000))


def test_an_output_keeps_its_name_and_the_layer_its_origin(tmp_path):
    nodes = [*qdq("x", "a"), ("Relu", ["a"], ["c"]), *qdq("c", "y")]
    imported = load(tmp_path, plain(nodes, numbers()))
    assert [value.name for value in imported.model.graph.outputs] == ["y"]
    assert [node.metadata_props["dlaconv.layer"] for node in imported.model.graph][:3] == [
        "quantizelinear_a_q", "relu_c", "quantizelinear_y_q",
    ]  # fmt: skip
    values = {value.name for node in imported.model.graph for value in node.outputs}
    assert {"a_q", "y_q"} <= values


def test_a_map_that_is_two_outputs_is_given_twice(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ("DequantizeLinear", ["q", "s", "z"], ["v"]),
    ]
    model = plain(nodes, numbers(0.25, 3), outputs=("y", "v"))
    assert_same(tmp_path, model, x=ties())


REREAD = {
    "another scale": (0.5, 3),
    "another zero point": (0.25, -5),
    "both": (0.75, 20),
}


@pytest.mark.parametrize("case", REREAD)
def test_integers_read_on_another_grid_are_worth_something_else(tmp_path, case):
    scale, zero = REREAD[case]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("DequantizeLinear", ["q", "s2", "z2"], ["y"]),
    ]
    constants = numbers(0.25, 3) | {"s2": np.float32(scale), "z2": np.int8(zero)}
    assert_same(tmp_path, plain(nodes, constants), tolerance=1e-6, x=ties())


REFUSED = {
    "zero scale": (numbers(0.0), {}, "DLA105"),
    "negative scale": (numbers(-1.0), {}, "DLA105"),
    "nan scale": (numbers(np.nan), {}, "DLA105"),
    "huge scale": (numbers(3e38), {}, "DLA105"),
    "scales of another channel count": (numbers(np.ones(2), np.zeros(2)), {}, "DLA118"),
    "an axis out of range": (numbers(np.ones(3), np.zeros(3)), {"axis": 7}, "DLA118"),
    "blocks": (numbers(np.ones((1, 3, 2, 4)), np.zeros((1, 3, 2, 4))), {}, "DLA118"),
    "zero points that differ": (numbers(np.ones(3), [0, 1, 2]), {}, "DLA106"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parameters_that_make_no_grid_are_refused(tmp_path, case):
    constants, attributes, rule = REFUSED[case]
    found = load(tmp_path, plain(qdq("x", "y", **attributes), constants)).diagnostics
    assert set(rules(found)) == {rule}
    assert all(error.help for error in found.errors)
    assert found.errors[0].location.op in {"QuantizeLinear", "DequantizeLinear"}


def test_blocks_of_opset_21_are_refused(tmp_path):
    constants = numbers(np.ones((1, 3, 2, 4)), np.zeros((1, 3, 2, 4)))
    model = plain(qdq("x", "y", axis=2, block_size=2), constants, opset=21)
    assert set(rules(load(tmp_path, model))) <= {"DLA112", "DLA118"}
    assert rules(load(tmp_path, model))


@pytest.mark.parametrize("name", ["s", "z"])
def test_parameters_from_the_data_are_refused(tmp_path, name):
    constants = numbers()
    del constants[name]
    kind = TensorProto.FLOAT if name == "s" else TensorProto.INT8
    nodes = [
        ("ReduceMax", ["x"], ["m"], {"keepdims": 0}),
        ("Cast", ["m"], [name], {"to": kind}),
        *qdq("x", "y"),
    ]
    assert set(rules(load(tmp_path, plain(nodes, constants)))) == {"DLA104"}


def test_double_maps_are_not_quantised(tmp_path):
    nodes = [("Cast", ["x"], ["d"], {"to": TensorProto.DOUBLE}), *qdq("d", "y")]
    model = plain(nodes, numbers() | {"s": np.float64(0.25)})
    assert "DLA117" in rules(load(tmp_path, model))


def test_everything_wrong_is_said_in_one_run(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "bad", "z"], ["a"]),
        ("DequantizeLinear", ["a", "bad", "z"], ["b"]),
        ("QuantizeLinear", ["b", "s", "z"], ["c"]),
        ("Add", ["c", "c"], ["d"]),
        ("DequantizeLinear", ["d", "s", "z"], ["e"]),
        contrib("Frobnicate", ["x"], ["f"]),
        ("Add", ["e", "f"], ["y"]),
    ]
    constants = numbers() | {"bad": np.float32(0)}
    model = plain(nodes, constants, domains=[("com.microsoft", 1)])
    assert sorted(set(rules(load(tmp_path, model)))) == ["DLA102", "DLA105"]


def test_a_zero_point_beyond_float_s_integers_is_no_crash(tmp_path):
    model = plain(qdq("x", "y"), {"s": np.float32(0.25)})
    model.graph.initializer.append(tensor("z", np.int32(2**31 - 1)))
    found = load(tmp_path, model)
    assert found.diagnostics.errors or found.model
