import numpy as np
import pytest
from harness import Net, node_of, ops, run_pass

from dlaconv.ir.passes.clean import clean


@pytest.mark.parametrize(
    ("op_type", "extra", "attributes"),
    [
        ("Identity", [], {}),
        ("Dropout", [], {}),
        ("Dropout", [np.float32(0.5), np.array(False)], {}),
        ("Cast", [], {"to": 1}),
        ("Pad", [np.zeros(8, np.int64)], {}),
        ("Reshape", [np.array([0, -1, 8, 8])], {}),
        ("Transpose", [], {"perm": [0, 1, 2, 3]}),
        ("Concat", [], {"axis": 1}),
        ("AveragePool", [], {"kernel_shape": [1, 1]}),
        ("MaxPool", [], {"kernel_shape": [1, 1], "strides": [1, 1]}),
        ("Mul", [np.ones((1, 3, 1, 1))], {}),
        ("Div", [np.float32(1)], {}),
        ("Sum", [], {}),
        ("Expand", [np.array([1, 3, 8, 8])], {}),
        ("Clip", [], {}),
        ("Clip", [np.float32(-np.inf), np.finfo(np.float32).max], {}),
        ("Tile", [np.ones(4, np.int64)], {}),
        ("Pow", [np.float32(1)], {}),
        ("Slice", [np.array([0, -8]), np.array([9, 99]), np.array([1, 2])], {}),
        ("Resize", [None, np.ones(4, np.float32)], {"mode": "linear"}),
        ("Resize", [None, None, np.array([1, 3, 8, 8])], {"mode": "nearest"}),
        ("Split", [], {"axis": 1, "num_outputs": 1}),
        ("DepthToSpace", [], {"blocksize": 1}),
        ("SpaceToDepth", [], {"blocksize": 1}),
        ("ReduceMean", [np.array([0])], {}),
        ("ReduceSum", [np.array([0])], {"keepdims": 1}),
    ],
)
def test_a_node_that_does_nothing_goes(op_type, extra, attributes):
    net = Net(x=[1, 3, 8, 8])
    value = net.op(op_type, net.op("Relu", "x"), *extra, **attributes)
    net.op("Tanh", value, out="y")
    assert ops(run_pass(clean, net.model("y"))) == ["Relu", "Tanh"]


@pytest.mark.parametrize(
    ("op_type", "extra", "attributes"),
    [
        ("Cast", [], {"to": 10}),
        ("Pad", [np.array([0, 0, 0, 0, 0, 0, 0, 1])], {}),
        ("Reshape", [np.array([1, 24, 8])], {}),
        ("Transpose", [], {"perm": [0, 1, 3, 2]}),
        ("AveragePool", [], {"kernel_shape": [1, 1], "strides": [2, 2]}),
        ("Mul", [np.ones((2, 3, 1, 1))], {}),
        ("Mul", [np.float32(1.5)], {}),
        ("Add", [np.float32(0)], {}),
        ("Clip", [np.float32(0)], {}),
        ("Clip", [None, np.float32(6)], {}),
        ("Tile", [np.array([1, 1, 2, 1])], {}),
        ("Pow", [np.float32(2)], {}),
        ("Slice", [np.array([-1]), np.array([-99]), np.array([3]), np.array([-1])], {}),
        ("Resize", [None, np.float32([1, 1, 1.1, 1])], {"mode": "nearest"}),
        (
            "Resize",
            [None, np.ones(4, np.float32)],
            {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"},
        ),
        ("ReduceMean", [np.array([1])], {}),
        ("ReduceSum", [np.array([0])], {"keepdims": 0}),
    ],
)
def test_a_node_that_does_something_stays(op_type, extra, attributes):
    net = Net(x=[1, 3, 8, 8])
    value = net.op(op_type, net.op("Relu", "x"), *extra, **attributes)
    net.op("Cast", net.op("Tanh", value), to=1, out="y")
    assert op_type in ops(run_pass(clean, net.model("y")))


def test_dropout_in_training_mode_stays():
    net = Net(x=[1, 4])
    net.op("Dropout", "x", np.float32(0.0), np.array(True), out="d")
    net.op("Relu", "d", out="y")
    assert ops(run_pass(clean, net.model("y"))) == ["Dropout", "Relu"]


def test_dropout_whose_mask_is_read_stays():
    net = Net(x=[1, 4])
    net.op("Dropout", "x", out=["d", "mask"], outputs=2)
    net.op("Where", "mask", "d", np.float32(3), out="y")
    assert "Dropout" in ops(run_pass(clean, net.model("y")))


def test_a_copy_of_an_input_to_an_output_stays_with_both_names():
    net = Net(x=[1, 4])
    net.op("Identity", "x", out="y")
    assert ops(run_pass(clean, net.model("y"))) == ["Identity"]


def test_one_value_under_two_output_names_keeps_both():
    net = Net(x=[1, 4])
    net.op("Relu", "x", out="a")
    net.op("Identity", "a", out="b")
    model = run_pass(clean, net.model("a", "b"))
    assert ops(model) == ["Relu", "Identity"]


def test_an_output_name_moves_to_the_node_in_front_of_an_identity():
    net = Net(x=[1, 4])
    net.op("Relu", "x", out="a")
    net.op("Tanh", "a", out="t")
    net.op("Identity", "a", out="b")
    model = run_pass(clean, net.model("b", "t"))
    assert ops(model) == ["Relu", "Tanh"]
    assert node_of(model, "Relu").outputs[0].name == "b"


def test_a_chain_of_identities_goes_in_one_sweep():
    net = Net(x=[1, 4])
    value = net.op("Relu", "x")
    for _ in range(20):
        value = net.op("Identity", value)
    net.op("Tanh", value, out="y")
    assert ops(run_pass(clean, net.model("y"))) == ["Relu", "Tanh"]


def test_dead_nodes_and_their_constants_go_back_to_the_root():
    net = Net(x=[1, 4])
    net.op("Add", net.op("Mul", "x", np.ones(4) * 2), np.ones(4))
    net.op("Relu", "x", out="y")
    model = run_pass(clean, net.model("y"))
    assert ops(model) == ["Relu"]
    assert not model.graph.initializers


def test_an_unused_optional_output_is_trimmed():
    net = Net(x=[1, 3, 8, 8])
    net.op("MaxPool", "x", kernel_shape=[2, 2], out=["y", "indices"], outputs=2)
    model = run_pass(clean, net.model("y"))
    assert len(node_of(model, "MaxPool").outputs) == 1


def test_unused_graph_inputs_stay():
    net = Net(x=[1, 4], unused=[1, 2])
    net.op("Relu", "x", out="y")
    assert [value.name for value in run_pass(clean, net.model("y")).graph.inputs] == ["x", "unused"]


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool", "ReduceMax"])
def test_reducing_one_value_does_nothing(op_type):
    net = Net(x=[1, 3, 1, 1])
    axes = [np.array([2, 3])] if op_type == "ReduceMax" else []
    net.op("Tanh", net.op(op_type, net.op("Relu", "x"), *axes), out="y")
    assert ops(run_pass(clean, net.model("y"))) == ["Relu", "Tanh"]


@pytest.mark.parametrize(("there", "gone"), [(11, True), (10, False)])
def test_a_detour_through_a_wider_type_is_left_out(there, gone):
    net = Net(x=[1, 3])
    value = net.op("Cast", net.op("Cast", net.op("Relu", "x"), to=there), to=1)
    net.op("Tanh", value, out="y")
    after = ops(run_pass(clean, net.model("y")))
    assert after == ["Relu", *([] if gone else ["Cast", "Cast"]), "Tanh"]


def test_bounds_that_are_computed_are_not_judged():
    net = Net(x=[1, 3], low=[])
    net.op("Clip", "x", "low", out="y")
    assert ops(run_pass(clean, net.model("y"))) == ["Clip"]
