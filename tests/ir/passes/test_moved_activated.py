import numpy as np
import pytest
from harness import Net, ops, run_pass

from dlaconv.ir.passes.moved_activated import moved_activated

SLOPES = np.float32([0.5, 0.0, 0.25])


def flattened(net, x="x", shape=(1, 3)):
    return net.op("Reshape", x, np.array(shape))


def swapped(net, *outputs):
    return ops(run_pass(moved_activated, net.model(*outputs)))


@pytest.mark.parametrize(
    ("op_type", "slopes", "attributes"),
    [
        ("Relu", [], {}),
        ("LeakyRelu", [], {"alpha": 0.1}),
        ("Clip", [np.float32(0), np.float32(6)], {}),
        ("Clip", [None, np.float32(0.5)], {}),
        ("PRelu", [np.float32(0.25)], {}),
        ("PRelu", [SLOPES], {}),
        ("PRelu", [SLOPES.reshape(1, 3)], {}),
    ],
)
def test_an_activation_goes_before_a_reshape(op_type, slopes, attributes):
    net = Net(x=[1, 3, 1, 1])
    y = net.op(op_type, flattened(net), *slopes, out="y", **attributes)
    assert swapped(net, y) == [op_type, "Reshape"]


@pytest.mark.parametrize(
    ("slopes", "moves"),
    [(SLOPES, True), (SLOPES.reshape(1, 1, 3), True), (SLOPES[:2].reshape(2, 1), False)],
)
def test_slopes_move_along_with_a_transpose(slopes, moves):
    net = Net(x=[1, 3, 2, 2])
    y = net.op("PRelu", net.op("Transpose", "x", perm=[0, 2, 3, 1]), slopes)
    assert (swapped(net, y) == ["PRelu", "Transpose"]) == moves


def test_slopes_that_differ_within_a_channel_stay():
    net = Net(x=[1, 3, 2, 1])
    y = net.op("PRelu", flattened(net, shape=(1, 6)), np.arange(6, dtype=np.float32))
    assert swapped(net, y) == ["Reshape", "PRelu"]


def test_it_goes_before_all_of_several_moves():
    net = Net(x=[1, 3, 4, 1])
    value = flattened(net, net.op("Transpose", "x", perm=[0, 2, 3, 1]), (1, 12))
    assert swapped(net, net.op("Relu", value)) == ["Relu", "Transpose", "Reshape"]


@pytest.mark.parametrize("returned", [True, False])
def test_what_others_read_stays(returned):
    net = Net(x=[1, 3, 1, 1])
    value = flattened(net)
    outputs = [net.op("Relu", value), value if returned else net.op("Tanh", value)]
    assert swapped(net, *outputs)[0] == "Reshape"


@pytest.mark.parametrize("op_type", ["Sigmoid", "Tanh"])
def test_tables_stay(op_type):
    net = Net(x=[1, 3, 1, 1])
    assert swapped(net, net.op(op_type, flattened(net))) == ["Reshape", op_type]


@pytest.mark.parametrize(
    ("op_type", "slopes"),
    [
        ("Relu", []),
        ("Clip", [np.float32(0), np.float32(6)]),
        ("PRelu", [np.arange(7, dtype=np.float32)]),
    ],
)
def test_it_goes_before_a_concat_of_layers(op_type, slopes):
    net = Net(x=[1, 5])
    rng = np.random.default_rng(0)
    parts = [net.op("Gemm", "x", rng.normal(size=(rows, 5)), transB=1) for rows in (3, 4)]
    y = net.op(op_type, net.op("Concat", *parts, axis=1), *slopes)
    assert swapped(net, y) == ["Gemm", "Gemm", op_type, op_type, "Concat"]


def test_it_goes_before_a_concat_of_layers_that_are_rounded_first():
    net = Net(x=[1, 5])
    parts = [net.quantize(net.op("Gemm", "x", n * np.eye(5), transB=1)) for n in (1, 2)]
    found = swapped(net, net.op("Relu", net.op("Concat", *parts, axis=1)))
    assert found[-3:] == ["Relu", "Relu", "Concat"]
    assert found.count("QuantizeHalfEven") == 2


def test_it_stays_behind_a_concat_of_stored_maps():
    net = Net(x=[1, 5])
    gemm = net.op("Gemm", "x", np.eye(5), transB=1)
    y = net.op("Relu", net.op("Concat", gemm, net.quantize("x"), axis=1))
    assert swapped(net, y)[-2:] == ["Concat", "Relu"]


def test_slopes_of_an_operand_that_is_there_twice_may_differ():
    net = Net(x=[1, 5])
    gemm = net.op("Gemm", "x", np.eye(5), transB=1)
    value = net.op("Concat", gemm, gemm, axis=1)
    y = net.op("PRelu", value, np.arange(10, dtype=np.float32))
    assert swapped(net, y) == ["Gemm", "PRelu", "PRelu", "Concat"]
