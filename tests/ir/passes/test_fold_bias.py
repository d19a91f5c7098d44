import numpy as np
import pytest
from harness import Net, ops, run_pass

from dlaconv.ir.passes.fold_bias import fold_bias

RNG = np.random.default_rng(2)
WEIGHTS = RNG.normal(size=(4, 3, 3, 3))
MATRIX = RNG.normal(size=(4, 5))
BIAS = RNG.normal(size=4)


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1)])
@pytest.mark.parametrize("bias", [[], [BIAS]])
@pytest.mark.parametrize("first", [True, False])
def test_an_added_constant_joins_the_bias_of_a_convolution(shape, bias, first):
    net = Net(x=[1, 3, 8, 8])
    constant = net.const(np.resize(BIAS, shape))
    value = net.op("Conv", "x", WEIGHTS, *bias)
    net.op("Add", *((value, constant) if first else (constant, value)), out="y")
    assert ops(run_pass(fold_bias, net.model("y"))) == ["Conv"]


@pytest.mark.parametrize("shape", [(), (4,), (1, 4)])
def test_an_added_constant_joins_the_bias_of_a_fully_connected_layer(shape):
    net = Net(x=[2, 5])
    value = net.op("Gemm", "x", MATRIX, BIAS, transB=1)
    net.op("Add", value, np.resize(BIAS, shape), out="y")
    assert ops(run_pass(fold_bias, net.model("y"))) == ["Gemm"]


def test_a_subtracted_constant_is_taken_off_the_bias():
    net = Net(x=[2, 5])
    net.op("Sub", net.op("Gemm", "x", MATRIX, BIAS, transB=1), BIAS * 3, out="y")
    assert ops(run_pass(fold_bias, net.model("y"))) == ["Gemm"]


def test_a_chain_of_additions_folds_in_one_sweep():
    net = Net(x=[1, 3, 8, 8])
    value = net.op("Conv", "x", WEIGHTS)
    for _ in range(4):
        value = net.op("Add", value, BIAS.reshape(4, 1, 1))
    net.op("Relu", value, out="y")
    assert ops(run_pass(fold_bias, net.model("y"))) == ["Conv", "Relu"]


def test_transposed_convolutions_fold_too():
    net = Net(x=[1, 3, 8, 8])
    value = net.op("ConvTranspose", "x", RNG.normal(size=(3, 4, 2, 2)), strides=[2, 2])
    net.op("Add", value, BIAS.reshape(4, 1, 1), out="y")
    assert ops(run_pass(fold_bias, net.model("y"))) == ["ConvTranspose"]


@pytest.mark.parametrize("shape", [(6,), (6, 6), (4, 6, 1), (2, 4, 1, 1), (1, 1, 4, 1, 1)])
def test_constants_that_are_no_bias_stay(shape):
    net = Net(x=[1, 3, 8, 8])
    net.op("Add", net.op("Conv", "x", WEIGHTS), np.resize(BIAS, shape), out="y")
    assert ops(run_pass(fold_bias, net.model("y"))) == ["Conv", "Add"]


def test_a_constant_minus_the_result_stays():
    net = Net(x=[2, 5])
    net.op("Sub", BIAS, net.op("Gemm", "x", MATRIX, transB=1), out="y")
    assert ops(run_pass(fold_bias, net.model("y"))) == ["Gemm", "Sub"]


@pytest.mark.parametrize("case", ["output", "second reader"])
def test_a_result_that_is_read_elsewhere_keeps_its_addition(case):
    net = Net(x=[2, 5])
    value = net.op("Gemm", "x", MATRIX, transB=1)
    net.op("Add", value, BIAS, out="y")
    net.op("Relu", value, out="z")
    model = net.model("y", value) if case == "output" else net.model("y", "z")
    assert "Add" in ops(run_pass(fold_bias, model))


def test_a_bias_that_is_no_constant_stays():
    net = Net(x=[2, 5], b=[4])
    net.op("Add", net.op("Gemm", "x", MATRIX, "b", transB=1), BIAS, out="y")
    assert ops(run_pass(fold_bias, net.model("y"))) == ["Gemm", "Add"]


def test_shared_biases_are_not_changed_in_place():
    net = Net(x=[2, 5])
    shared = net.const(BIAS)
    net.op("Add", net.op("Gemm", "x", MATRIX, shared, transB=1), shared, out="a")
    net.op("Gemm", "x", MATRIX * 2, shared, transB=1, out="b")
    assert ops(run_pass(fold_bias, net.model("a", "b"))) == ["Gemm", "Gemm"]


def test_a_graph_output_keeps_its_name():
    net = Net(x=[2, 5])
    net.op("Add", net.op("Gemm", "x", MATRIX, transB=1, out="product"), BIAS, out="y")
    model = run_pass(fold_bias, net.model("y"))
    assert [value.name for node in model.graph for value in node.outputs] == ["y"]
