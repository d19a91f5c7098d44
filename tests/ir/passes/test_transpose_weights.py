import numpy as np
import pytest
from harness import Net, ops, run_pass

from dlaconv.ir import dialect
from dlaconv.ir.passes.transpose_weights import transpose_weights

W = np.float32(np.random.default_rng(0).normal(size=(4, 6)))
PER_ROW = np.float32([0.1, 0.2, 0.3, 0.4]).reshape(4, 1)


def quantise_of(model):
    (node,) = [node for node in model.graph if node.domain == dialect.DOMAIN]
    return node


@pytest.mark.parametrize("step", [0.25, PER_ROW])
def test_a_transpose_moves_in_front_of_the_quantisation(step):
    net = Net(x=[1, 6])
    net.op("MatMul", "x", net.op("Transpose", net.quantize(W, step), perm=[1, 0], out="w"), out="y")
    after = run_pass(transpose_weights, net.model("y"))
    assert ops(after) == ["QuantizeHalfEven", "MatMul"]
    node = quantise_of(after)
    assert node.outputs[0].name == "w"
    assert np.array_equal(dialect.array_of(node.inputs[0]), W.T)
    expected = () if np.ndim(step) == 0 else (1, 4)
    assert dialect.quantisation_of(node).step.shape == expected
    assert len(after.graph.initializers) == 3


def test_zero_points_turn_along():
    zero = np.float32([1, 2, 3, 4]).reshape(4, 1)
    net = Net(x=[1, 6])
    w = net.quantize(W, PER_ROW, zero_point=zero)
    net.op("MatMul", "x", net.op("Transpose", w, perm=[1, 0]), out="y")
    node = quantise_of(run_pass(transpose_weights, net.model("y")))
    assert dialect.quantisation_of(node).zero_point.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("op_type", "extra", "attributes", "shape", "step_shape"),
    [
        ("Reshape", [np.array([1, 4, 6, 1])], {}, (1, 4, 6, 1), (1, 4, 1, 1)),
        ("Reshape", [np.array([2, 2, 6])], {}, (2, 2, 6), (2, 2, 1)),
        ("Reshape", [np.array([24])], {}, (24,), (24,)),
        ("Unsqueeze", [np.array([0, 3])], {}, (1, 4, 6, 1), (1, 4, 1, 1)),
        ("Flatten", [], {"axis": 1}, (4, 6), (4, 1)),
        ("Identity", [], {}, (4, 6), (4, 1)),
        ("Cast", [], {"to": 1}, (4, 6), (4, 1)),
    ],
)
def test_other_layout_operators_move_too(op_type, extra, attributes, shape, step_shape):
    net = Net(x=[1])
    net.op("Add", "x", net.op(op_type, net.quantize(W, PER_ROW), *extra, **attributes), out="y")
    after = run_pass(transpose_weights, net.model("y"))
    assert ops(after) == ["QuantizeHalfEven", "Add"]
    node = quantise_of(after)
    assert dialect.array_of(node.inputs[0]).shape == shape
    assert dialect.quantisation_of(node).step.shape == step_shape


def test_several_of_them_move_one_after_the_other():
    net = Net(x=[1, 6])
    w = net.op("Reshape", net.quantize(W.reshape(4, 6, 1, 1), 0.25), np.array([4, 6]))
    net.op("MatMul", "x", net.op("Transpose", w, perm=[1, 0]), out="y")
    after = run_pass(transpose_weights, net.model("y"))
    assert ops(after) == ["QuantizeHalfEven", "MatMul"]


def test_weights_that_are_also_read_as_they_are_stay_for_those_readers():
    net = Net(x=[1, 6])
    q = net.quantize(W, PER_ROW, out="q")
    net.op("MatMul", "x", net.op("Transpose", q, perm=[1, 0]), out="m")
    net.op("MatMul", "m", q, out="y")
    after = run_pass(transpose_weights, net.model("y"))
    assert sorted(ops(after)) == ["MatMul", "MatMul", "QuantizeHalfEven", "QuantizeHalfEven"]


def test_signs_and_integers_move_too():
    net = Net(x=[1, 6])
    net.op("MatMul", "x", net.op("Transpose", net.bipolar(W, PER_ROW), perm=[1, 0]), out="a")
    q = net.const(np.arange(24, dtype=np.int8).reshape(4, 6), "q", np.int8)
    net.op("MatMul", "x", net.op("Transpose", net.dequantize(q, PER_ROW), perm=[1, 0]), out="b")
    net.op("Add", "a", "b", out="y")
    after = run_pass(transpose_weights, net.model("y"))
    assert sorted(ops(after)) == ["Add", "Bipolar", "Dequantize", "MatMul", "MatMul"]


def test_maps_are_left_alone():
    net = Net(x=[4, 6])
    net.op("Transpose", net.quantize("x"), perm=[1, 0], out="y")
    assert ops(run_pass(transpose_weights, net.model("y"))) == ["QuantizeHalfEven", "Transpose"]


def test_a_graph_output_keeps_its_node():
    net = Net(x=[6, 4])
    net.op("Transpose", net.quantize(W), perm=[1, 0], out="t")
    net.op("Add", "x", "t", out="y")
    after = run_pass(transpose_weights, net.model("y", "t"))
    assert "Transpose" in ops(after)


def test_a_cast_to_another_type_stays():
    net = Net(x=[4, 6])
    net.op("Add", "x", net.op("Cast", net.op("Cast", net.quantize(W), to=7), to=1), out="y")
    assert ops(run_pass(transpose_weights, net.model("y"))).count("Cast") == 2


def test_a_quantised_weight_that_is_a_graph_output_keeps_its_node():
    net = Net(x=[6, 4])
    net.op("Add", "x", net.op("Transpose", net.quantize(W, out="w"), perm=[1, 0]), out="y")
    after = run_pass(transpose_weights, net.model("y", "w"))
    assert ops(after).count("QuantizeHalfEven") == 2
