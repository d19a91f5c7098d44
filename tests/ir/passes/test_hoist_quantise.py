import numpy as np
import pytest
from harness import Net, node_of, ops, run_pass

from dlaconv.ir import dialect
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.rounding import Rounding

WEIGHTS = np.random.default_rng(5).normal(size=(4, 3, 3, 3))


def conv(net, x="x"):
    return net.op("Conv", x, WEIGHTS)


def quantised(model, *outputs):
    return [
        op.removesuffix("HalfEven") for op in ops(run_pass(hoist_quantise, model.model(*outputs)))
    ]


@pytest.mark.parametrize(
    ("op_type", "extra", "attributes"),
    [
        ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("Reshape", [np.array([1, 144])], {}),
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    ],
)
@pytest.mark.parametrize("rounding", list(Rounding))
def test_a_quantiser_moves_in_front_of_what_only_moves_values(op_type, extra, attributes, rounding):
    net = Net(x=[1, 3, 8, 8])
    value = net.op(op_type, net.op("Relu", conv(net)), *extra, **attributes)
    net.quantize(value, 0.25, out="q", rounding=rounding)
    after = run_pass(hoist_quantise, net.model("q"))
    assert [op.startswith("Quantize") for op in ops(after)] == [False, False, True, False]
    assert node_of(after, op_type).outputs[0].name == "q"


def test_a_quantiser_passes_a_whole_chain():
    net = Net(x=[1, 3, 8, 8])
    value = net.op("MaxPool", conv(net), kernel_shape=[2, 2])
    value = net.op("Reshape", net.op("Transpose", value, perm=[0, 2, 3, 1]), np.array([1, 100]))
    net.quantize(value, out="q")
    assert quantised(net, "q") == ["Conv", "Quantize", "MaxPool", "Transpose", "Reshape"]


def test_a_quantiser_reaches_the_graph_input():
    net = Net(x=[1, 8, 8, 3])
    net.op("Conv", net.quantize(net.op("Transpose", "x", perm=[0, 3, 1, 2])), WEIGHTS, out="y")
    assert quantised(net, "y") == ["Quantize", "Transpose", "Conv"]


def test_concat_gets_a_quantiser_on_every_operand():
    net = Net(x=[1, 3, 8, 8])
    pooled = net.op("MaxPool", conv(net), kernel_shape=[1, 1], strides=[1, 1])
    net.quantize(net.op("Concat", conv(net), pooled, axis=1), out="q")
    found = quantised(net, "q")
    assert found[-1] == "Concat"
    assert sorted(found[:-1]) == ["Conv", "Conv", "MaxPool", "Quantize", "Quantize"]
    assert "Quantize" in found[: found.index("MaxPool")]


def test_an_operand_that_is_joined_twice_is_quantised_once():
    net = Net(x=[1, 3, 8, 8])
    value = conv(net)
    net.quantize(net.op("Concat", value, value, axis=1), out="q")
    assert quantised(net, "q") == ["Conv", "Quantize", "Concat"]


def test_constant_operands_of_concat_become_quantised_constants():
    net = Net(x=[1, 3, 8, 8])
    shared = net.const(np.full((1, 4, 6, 6), 0.3))
    net.op("Add", net.op("Concat", conv(net), shared, axis=1, out="joined"), np.float32(1), out="s")
    net.quantize(net.op("Concat", conv(net), shared, axis=1), out="q")
    after = run_pass(hoist_quantise, net.model("q", "s"))
    assert sum(op == "QuantizeHalfEven" for op in ops(after)) == 1
    assert dialect.array_of(after.graph.initializers[shared]).max() == np.float32(0.3)


def test_concat_of_stored_maps_on_one_grid_keeps_its_requantiser():
    net = Net(x=[1, 3, 8, 8])
    joined = net.op("Concat", net.quantize(conv(net), 0.25), net.quantize(conv(net), 0.25), axis=1)
    net.quantize(joined, 0.5, out="q")
    assert quantised(net, "q")[-2:] == ["Concat", "Quantize"]


def test_concat_of_stored_maps_on_different_grids_requantises_its_operands():
    net = Net(x=[1, 3, 8, 8])
    joined = net.op("Concat", net.quantize("x", 0.25), net.quantize("x", 0.5), axis=1)
    net.quantize(joined, 0.125, out="q")
    assert quantised(net, "q") == ["Quantize", "Quantize", "Quantize", "Quantize", "Concat"]


def test_a_requantiser_of_a_stored_map_stays():
    net = Net(x=[1, 3, 8, 8])
    pooled = net.op("MaxPool", net.quantize(conv(net), 0.25), kernel_shape=[2, 2])
    net.quantize(pooled, 0.5, out="q")
    assert quantised(net, "q") == ["Conv", "Quantize", "MaxPool", "Quantize"]


def test_relu_on_an_unrounded_value_stays_in_front_of_its_quantiser():
    net = Net(x=[1, 3, 8, 8])
    net.quantize(net.op("Relu", conv(net)), out="q")
    assert quantised(net, "q") == ["Conv", "Relu", "Quantize"]


@pytest.mark.parametrize(("signed", "moves"), [(True, True), (False, False)])
def test_relu_on_a_stored_map_commutes_with_a_signed_quantiser(signed, moves):
    net = Net(x=[1, 3, 8, 8])
    net.quantize(net.op("Relu", net.quantize("x", 0.25)), 0.5, out="q", signed=signed)
    after = ["Quantize", "Quantize", "Relu"] if moves else ["Quantize", "Relu", "Quantize"]
    assert quantised(net, "q") == after


@pytest.mark.parametrize("op_type", ["LeakyRelu", "AveragePool", "GlobalAveragePool", "Tanh"])
def test_operators_that_compute_do_not_commute(op_type):
    net = Net(x=[1, 3, 8, 8])
    attributes = {"kernel_shape": [2, 2]} if op_type == "AveragePool" else {}
    net.quantize(net.op(op_type, net.quantize("x"), **attributes), 0.5, out="q")
    assert quantised(net, "q") == ["Quantize", op_type, "Quantize"]


def test_quantisers_per_channel_stay():
    net = Net(x=[1, 3, 8, 8])
    steps = np.array([0.1, 0.2, 0.3, 0.4]).reshape(1, 4, 1, 1)
    net.quantize(net.op("MaxPool", conv(net), kernel_shape=[2, 2]), steps, out="q")
    assert quantised(net, "q") == ["Conv", "MaxPool", "Quantize"]


@pytest.mark.parametrize(
    "case", ["pool is output", "pool is read", "conv is read", "conv is output"]
)
def test_values_that_are_read_elsewhere_unrounded_hold_the_quantiser_back(case):
    net = Net(x=[1, 3, 8, 8])
    value = conv(net)
    pooled = net.op("MaxPool", value, kernel_shape=[2, 2])
    net.quantize(pooled, out="q")
    net.op(
        "Tanh",
        pooled if case == "pool is read" else value if case == "conv is read" else "x",
        out="t",
    )
    outputs = ["q", "t"]
    outputs += [pooled] if case == "pool is output" else [value] if case == "conv is output" else []
    found = quantised(net, *outputs)
    assert found.index("MaxPool") < found.index("Quantize")


def test_another_quantiser_on_the_same_value_does_not_hold_it_back():
    net = Net(x=[1, 3, 8, 8])
    value = conv(net)
    net.quantize(net.op("MaxPool", value, kernel_shape=[2, 2]), 0.25, out="q")
    net.quantize(value, 0.5, out="p")
    found = quantised(net, "q", "p")
    assert found.index("Quantize") < found.index("MaxPool")


def test_a_pool_whose_indices_are_read_holds_it_back():
    net = Net(x=[1, 3, 8, 8])
    net.op("MaxPool", conv(net), kernel_shape=[2, 2], out=["m", "i"], outputs=2)
    net.quantize("m", out="q")
    net.op("Cast", "i", to=1, out="f")
    assert quantised(net, "q", "f").index("MaxPool") == 1
