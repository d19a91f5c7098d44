import numpy as np
import pytest
from harness import Net, node_of, ops, run_pass

from dlaconv.ir import dialect
from dlaconv.ir.passes.one_shape_op import one_shape_op
from dlaconv.ir.passes.reshape_transposes import reshape_transposes


@pytest.mark.parametrize(
    ("op_type", "extra", "attributes", "shape"),
    [
        ("Flatten", [], {}, [2, 24]),
        ("Flatten", [], {"axis": 2}, [6, 8]),
        ("Reshape", [np.array([0, -1])], {}, [2, 24]),
        ("Reshape", [np.array([2, 24])], {"allowzero": 1}, [2, 24]),
        ("Unsqueeze", [np.array([0, 4])], {}, [1, 2, 3, 8, 1, 1]),
        ("Squeeze", [np.array([3])], {}, [2, 3, 8]),
        ("Squeeze", [], {}, [2, 3, 8]),
    ],
)
def test_every_change_of_shape_becomes_a_static_reshape(op_type, extra, attributes, shape):
    net = Net(x=[2, 3, 8, 1])
    net.op(op_type, "x", *extra, **attributes, out="y")
    after = run_pass(one_shape_op, net.model("y"))
    assert ops(after) == ["Reshape"]
    node = node_of(after, "Reshape")
    assert dialect.array_of(node.inputs[1]).tolist() == shape
    assert "allowzero" not in node.attributes


def test_a_chain_becomes_one_reshape_of_the_first_value():
    net = Net(x=[1, 3, 4, 4])
    value = net.op("Flatten", net.op("Relu", "x"))
    value = net.op("Unsqueeze", value, np.array([0]))
    net.op("Reshape", value, np.array([3, 16]), out="y")
    assert ops(run_pass(one_shape_op, net.model("y"))) == ["Relu", "Reshape"]


def test_a_chain_that_returns_to_its_shape_goes():
    net = Net(x=[1, 3, 1, 1])
    value = net.op("Squeeze", net.op("Relu", "x"), np.array([2, 3]))
    net.op("Tanh", net.op("Unsqueeze", value, np.array([2, 3])), out="y")
    assert ops(run_pass(one_shape_op, net.model("y"))) == ["Relu", "Tanh"]


def test_an_intermediate_shape_that_is_read_elsewhere_stays():
    net = Net(x=[1, 3, 4, 4])
    net.op("Flatten", "x", out="flat")
    net.op("Reshape", "flat", np.array([3, 16]), out="y")
    net.op("Relu", "flat", out="z")
    assert sorted(ops(run_pass(one_shape_op, net.model("y", "z")))) == [
        "Relu",
        "Reshape",
        "Reshape",
    ]


def test_an_intermediate_shape_that_is_a_graph_output_stays():
    net = Net(x=[1, 3, 4, 4])
    net.op("Flatten", "x", out="flat")
    net.op("Reshape", "flat", np.array([3, 16]), out="y")
    assert ops(run_pass(one_shape_op, net.model("y", "flat"))) == ["Reshape", "Reshape"]


def test_a_reshape_that_only_copies_an_input_to_an_output_stays():
    net = Net(x=[1, 3])
    net.op("Reshape", "x", np.array([1, 3]), out="y")
    assert ops(run_pass(one_shape_op, net.model("y"))) == ["Reshape"]


def test_long_chains_leave_nothing_behind():
    net = Net(x=[1, 3, 4, 4])
    value = net.op("Relu", "x")
    for index in range(30):
        value = net.op("Reshape", value, np.array([[3, 16], [16, 3]][index % 2]))
    net.op("Tanh", value, out="y")
    assert ops(run_pass(one_shape_op, net.model("y"))) == ["Relu", "Reshape", "Tanh"]


@pytest.mark.parametrize(
    ("shape", "perm", "result"),
    [
        ((1, 8, 1, 1), [0, 2, 3, 1], "Reshape"),
        ((1, 1, 4, 5), [0, 2, 3, 1], "Reshape"),
        ((1, 2, 4, 5), [0, 2, 3, 1], "Transpose"),
        ((2, 1, 3), [2, 1, 0], "Transpose"),
    ],
)
def test_a_transpose_that_moves_no_value_becomes_a_reshape(shape, perm, result):
    net = Net(x=shape)
    net.op("Tanh", net.op("Transpose", net.op("Relu", "x"), perm=perm), out="y")
    assert ops(run_pass(reshape_transposes, net.model("y"))) == ["Relu", result, "Tanh"]


def test_a_transpose_at_the_border_stays():
    net = Net(x=[1, 1, 4, 4])
    value = net.op("Relu", net.op("Transpose", "x", perm=[0, 2, 3, 1]))
    net.op("Transpose", value, perm=[0, 3, 1, 2], out="y")
    assert ops(run_pass(reshape_transposes, net.model("y"))) == ["Transpose", "Relu", "Transpose"]
