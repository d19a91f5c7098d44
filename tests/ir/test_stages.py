import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

sys.path.insert(0, str(Path(__file__).parent / "passes"))
from harness import Net

from dlaconv.ir.stages import SPEC, Stage, broken_invariants


def broken(net, *outputs, stage=Stage.CANONICAL):
    return broken_in(net.model(*outputs), stage)


def broken_in(model, stage):
    return {problem.split("'")[1] for _, problem in broken_invariants(model, stage)}


def test_later_stages_include_the_invariants_of_earlier_ones():
    net = Net(x=[1, 4])
    net.op("Dropout", net.op("Relu", "x"), out="y")
    model = net.model("y")
    assert broken_in(model, Stage.IMPORTED) == set()
    for stage in (Stage.CANONICAL, Stage.LEGAL, Stage.MAPPED, Stage.SCALED):
        assert "no Identity, Dropout or Constant node is left" in broken_in(model, stage)


def test_every_row_has_words_of_its_own():
    words = [row.words for rows in SPEC.values() for row in rows]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("words", "build"),
    [
        ("windows are explicit", lambda net: net.op("Conv", "x", np.ones((1, 2, 1, 1)))),
        ("windows are explicit", lambda net: net.op("MaxPool", "x", kernel_shape=[2, 2])),
        ("shapes change by Reshape with a constant shape", lambda net: net.op("Flatten", "x")),
        (
            "shapes change by Reshape with a constant shape",
            lambda net: net.op("Reshape", "x", net.op("Shape", "x")),
        ),
        (
            "constants are integers or floats, not quantised at run time",
            lambda net: net.op("Add", "x", net.quantize(net.const(np.ones(4)), 0.5)),
        ),
        (
            "no Identity, Dropout or Constant node is left",
            lambda net: net.op("Identity", net.op("Relu", "x")),
        ),
        (
            "fully connected layers are Gemm with transB",
            lambda net: net.op("Gemm", net.op("Flatten", "x"), np.ones((32, 3))),
        ),
        (
            "fully connected layers are Gemm with transB",
            lambda net: net.op(
                "Gemm", net.op("Flatten", "x"), np.ones((3, 32)), transB=1, alpha=2.0
            ),
        ),
    ],
)
def test_a_broken_invariant_is_found(words, build):
    net = Net(x=[1, 2, 4, 4])
    value = build(net)
    net.op("Relu", value, out="y")
    assert words in broken(net, "y")


def test_a_canonical_graph_breaks_nothing():
    net = Net(x=[1, 2, 4, 4])
    window = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1]}
    value = net.op("Conv", net.quantize("x"), np.ones((1, 2, 1, 1)), group=1, **window)
    value = net.op("Reshape", value, np.array([1, 16]))
    net.op("Gemm", value, np.ones((3, 16)), transB=1, out="y")
    assert broken(net, "y") == set()


def test_an_identity_between_graph_input_and_output_is_allowed():
    net = Net(x=[1, 2])
    net.op("Identity", "x", out="y")
    assert broken(net, "y") == set()


def test_an_unknown_shape_is_found():
    net = Net(x=[1, 2])
    net.op("Tanh", net.op("Relu", "x"), out="y")
    model = net.model("y")
    next(iter(model.graph)).outputs[0].shape = ir.Shape([1, None])
    assert ("n0", "'shapes are static' does not hold") in list(
        broken_invariants(model, Stage.CANONICAL)
    )


@pytest.mark.parametrize(("step", "holds"), [(0.25, True), (0.3, False)])
def test_map_steps_are_powers_of_two_when_scaled(step, holds):
    net = Net(x=[1, 2])
    net.quantize("x", step, out="y")
    model = net.model("y")
    assert ("map steps are powers of two" in broken_in(model, Stage.SCALED)) is not holds
    assert broken_in(model, Stage.MAPPED) == set()


def rounded_twice(net, x):
    net.quantize(x, 0.5)
    return net.quantize(x, 0.25)


@pytest.mark.parametrize(
    ("build", "holds"),
    [
        (lambda net: net.quantize(net.op("Tanh", "x"), 0.25), True),
        (lambda net: net.quantize(net.op("Relu", net.op("Add", "x", "x")), 0.25), True),
        (lambda net: net.op("Tanh", "x"), False),
        (lambda net: net.op("Reshape", net.op("Tanh", "x"), np.array([2])), False),
        (lambda net: rounded_twice(net, net.op("Tanh", "x")), False),
    ],
    ids=["rounded", "activated", "output", "moved", "rounded twice"],
)
def test_each_result_of_a_layer_goes_to_one_quantise_node_when_legal(build, holds):
    net = Net(x=[1, 2])
    model = net.model(build(net))
    words = "each result of a layer goes to one quantise node"
    assert (words in broken_in(model, Stage.MAPPED)) is not holds
    assert words not in broken_in(model, Stage.CANONICAL)


@pytest.mark.parametrize(
    ("weights", "bias", "holds"),
    [(np.int8, np.int32, True), (np.int8, None, True), (np.int16, None, False),
     (np.int8, np.int16, False), (None, None, False), (np.int8, np.float32, False)],
)  # fmt: skip
def test_weights_and_biases_are_integers_when_scaled(weights, bias, holds):
    def constant(net, shape, dtype):
        array = np.ones(shape, dtype or np.float32)
        return array if dtype in {None, np.float32} else net.dequantize(array, 0.5)

    net = Net(x=[1, 2])
    inputs = [constant(net, (3, 2), weights)]
    inputs += [constant(net, (3,), bias)] if bias else []
    net.quantize(net.op("Gemm", "x", *inputs, transB=1), 0.25, out="y")
    found = broken_in(net.model("y"), Stage.SCALED)
    assert ("weights are int8 and biases int32, with their steps" in found) is not holds
