import itertools

import numpy as np
import pytest
from harness import Net, context, node_of, ops, run_pass

from dlaconv.ir import dialect
from dlaconv.ir.passes.fold_batch_norm import fold_batch_norm
from dlaconv.ir.passes.linear_ops import weights_of

RNG = np.random.default_rng(3)
INTEGERS = RNG.integers(-127, 128, size=(4, 3, 3, 3)).astype(np.int8)
STEPS = np.array([0.01, 0.02, 0.03, 0.04]).reshape(4, 1, 1, 1)
GAMMA = np.array([1.5, -0.5, 2.0, 0.25])
BETA, MEAN = RNG.normal(size=(2, 4))
VARIANCE = RNG.uniform(0.1, 2.0, size=4)


def norm(net, x, gamma=GAMMA, out="y", variance=VARIANCE, **attributes):
    return net.op("BatchNormalization", x, gamma, BETA, MEAN, variance, out=out, **attributes)


def quantised_conv(net, integers=INTEGERS, step=STEPS, bias=True, out=None):
    weights = net.dequantize(
        net.const(integers, dtype=integers.dtype), step, out=f"w{len(net.nodes)}"
    )
    return net.op("Conv", "x", weights, *([BETA] if bias else []), out=out)


def folded_weights(model):
    return weights_of(node_of(model, "Conv"))


@pytest.mark.parametrize("step", [STEPS, np.float32(0.02)])
@pytest.mark.parametrize("bias", [True, False])
def test_integers_are_kept_and_change_sign_with_gamma(step, bias):
    net = Net(x=[1, 3, 8, 8])
    norm(net, quantised_conv(net, step=step, bias=bias))
    found = context()
    after = run_pass(fold_batch_norm, net.model("y"), found)
    weights = folded_weights(after)
    assert ops(after) == ["Dequantize", "Conv"]
    assert weights.array.dtype == np.int8
    signs = np.sign(GAMMA).astype(int).reshape(4, 1, 1, 1)
    assert np.array_equal(weights.array, INTEGERS * signs)
    factor = np.abs(GAMMA) / np.sqrt(VARIANCE + 1e-5)
    assert np.allclose(
        weights.steps, np.broadcast_to(step, (4, 1, 1, 1)).reshape(-1) * factor, 1e-6
    )
    assert "1 channels with a negative factor" in found.rewrites[0].detail


def test_minus_128_in_a_negated_channel_becomes_plus_128_in_int16():
    integers = INTEGERS.copy()
    integers[1, 0, 0, 0] = -128
    net = Net(x=[1, 3, 8, 8])
    norm(net, quantised_conv(net, integers))
    weights = folded_weights(run_pass(fold_batch_norm, net.model("y")))
    assert weights.array.dtype == np.int16
    assert weights.array[1, 0, 0, 0] == 128


def test_minus_128_elsewhere_stays_int8():
    integers = INTEGERS.copy()
    integers[0, 0, 0, 0] = -128
    net = Net(x=[1, 3, 8, 8])
    norm(net, quantised_conv(net, integers))
    weights = folded_weights(run_pass(fold_batch_norm, net.model("y")))
    assert weights.array.dtype == np.int8


@pytest.mark.parametrize("small", [0.0, 1e-42])
def test_a_dead_channel_gets_zero_weights_and_a_finite_step(small):
    net = Net(x=[1, 3, 8, 8])
    norm(net, quantised_conv(net), np.array([1.0, small, 1.0, -1.0]))
    weights = folded_weights(run_pass(fold_batch_norm, net.model("y")))
    assert not weights.array[1].any()
    assert np.isfinite(weights.steps).all()
    assert (weights.steps > 0).all()


def test_float_weights_are_folded_as_floats():
    net = Net(x=[1, 3, 8, 8])
    norm(net, net.op("Conv", "x", RNG.normal(size=(4, 3, 3, 3))))
    after = run_pass(fold_batch_norm, net.model("y"))
    assert ops(after) == ["Conv"]
    assert folded_weights(after).steps is None


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes"),
    [("Gemm", (4, 5), {"transB": 1}), ("Gemm", (5, 4), {}), ("ConvTranspose", (3, 4, 2, 2), {})],
)
def test_other_linear_operators_fold(op_type, shape, attributes):
    net = Net(x=[1, 3, 8, 8] if len(shape) == 4 else [2, 5])
    integers = RNG.integers(-127, 128, size=shape).astype(np.int8)
    weights = net.dequantize(net.const(integers, dtype=np.int8), 0.01, out="w")
    norm(net, net.op(op_type, "x", weights, **attributes))
    assert ops(run_pass(fold_batch_norm, net.model("y"))) == ["Dequantize", op_type]


def test_depthwise_convolutions_fold():
    net = Net(x=[1, 4, 8, 8])
    weights = net.dequantize(net.const(INTEGERS[:, :1], dtype=np.int8), STEPS, out="w")
    norm(net, net.op("Conv", "x", weights, group=4))
    assert ops(run_pass(fold_batch_norm, net.model("y"))) == ["Dequantize", "Conv"]


def test_shared_weights_are_not_changed_in_place():
    net = Net(x=[1, 3, 8, 8])
    weights = net.dequantize(net.const(INTEGERS, dtype=np.int8), STEPS, out="w")
    norm(net, net.op("Conv", "x", weights), out="a")
    norm(net, net.op("Conv", "x", weights), -GAMMA, out="b")
    net.op("Conv", "x", weights, out="c")
    after = run_pass(fold_batch_norm, net.model("a", "b", "c"))
    assert ops(after).count("Dequantize") == 3
    assert np.array_equal(dialect.array_of(after.graph.initializers["c0"]), INTEGERS)


@pytest.mark.parametrize(
    ("op_type", "shape"),
    [("Mul", (1, 4, 1, 1)), ("Mul", ()), ("Div", (4, 1, 1)), ("Mul", (4, 1, 1))],
)
def test_factors_per_channel_fold(op_type, shape):
    net = Net(x=[1, 3, 8, 8])
    net.op(op_type, quantised_conv(net), np.resize(GAMMA, shape), out="y")
    assert ops(run_pass(fold_batch_norm, net.model("y"))) == ["Dequantize", "Conv"]


def test_a_norm_and_a_factor_fold_in_one_sweep():
    net = Net(x=[1, 3, 8, 8])
    value = norm(net, quantised_conv(net), out="n")
    net.op("Mul", GAMMA.reshape(4, 1, 1), norm(net, value, out="m"), out="y")
    assert ops(run_pass(fold_batch_norm, net.model("y"))) == ["Dequantize", "Conv"]


def test_one_divided_by_the_result_and_division_by_zero_stay():
    net = Net(x=[1, 3, 8, 8])
    net.op("Div", GAMMA.reshape(4, 1, 1), quantised_conv(net), out="a")
    net.op("Div", quantised_conv(net), np.array([1, 0, 1, 1.0]).reshape(4, 1, 1), out="b")
    assert ops(run_pass(fold_batch_norm, net.model("a", "b"))).count("Div") == 2


def test_a_factor_per_row_stays():
    net = Net(x=[1, 3, 8, 8])
    net.op("Mul", quantised_conv(net), RNG.normal(size=6), out="y")
    assert "Mul" in ops(run_pass(fold_batch_norm, net.model("y")))


@pytest.mark.parametrize("between", ["Relu", "output", "reader"])
def test_a_norm_that_does_not_directly_follow_stays(between):
    net = Net(x=[1, 3, 8, 8])
    value = quantised_conv(net)
    if between == "Relu":
        norm(net, net.op("Relu", value))
    else:
        norm(net, value)
        net.op("Relu", value, out="z")
    outputs = {"Relu": ["y"], "output": ["y", value], "reader": ["y", "z"]}[between]
    assert "BatchNormalization" in ops(run_pass(fold_batch_norm, net.model(*outputs)))


def test_a_norm_of_a_quantised_result_stays():
    net = Net(x=[1, 3, 8, 8])
    norm(net, net.quantize(quantised_conv(net)))
    assert "BatchNormalization" in ops(run_pass(fold_batch_norm, net.model("y")))


@pytest.mark.parametrize(
    ("gamma", "variance"),
    [(GAMMA * np.inf, VARIANCE), (GAMMA, VARIANCE * np.nan), (GAMMA, -VARIANCE)],
)
def test_a_norm_with_parameters_that_are_not_finite_stays(gamma, variance):
    net = Net(x=[1, 3, 8, 8])
    norm(net, quantised_conv(net), gamma, variance=variance)
    assert "BatchNormalization" in ops(run_pass(fold_batch_norm, net.model("y")))


def test_a_norm_of_computed_weights_stays():
    net = Net(x=[1, 3, 8, 8], w=[4, 3, 3, 3])
    norm(net, net.op("Conv", "x", "w"))
    assert "BatchNormalization" in ops(run_pass(fold_batch_norm, net.model("y")))


@pytest.mark.parametrize("order", list(itertools.permutations(["Mul", "Add", "Sub", "Div"])))
def test_a_chain_of_constants_folds_whole(order):
    net = Net(x=[1, 3, 8, 8])
    value = quantised_conv(net)
    for op_type in (*order, *order):
        value = net.op(op_type, value, GAMMA.reshape(1, 4, 1, 1) + 2)
    after = run_pass(fold_batch_norm, net.model(value))
    assert ops(after) == ["Dequantize", "Conv"]
    assert np.array_equal(folded_weights(after).array, INTEGERS)


def test_a_negation_changes_the_signs():
    net = Net(x=[1, 3, 8, 8])
    net.op("Sub", np.float32(3), net.op("Neg", quantised_conv(net)), out="y")
    after = run_pass(fold_batch_norm, net.model("y"))
    assert ops(after) == ["Dequantize", "Conv"]
    assert np.array_equal(folded_weights(after).array, INTEGERS)
    net = Net(x=[1, 3, 8, 8])
    net.op("Sub", np.float32(3), quantised_conv(net), out="y")
    assert np.array_equal(
        folded_weights(run_pass(fold_batch_norm, net.model("y"))).array, -INTEGERS
    )


def test_shared_weights_stay_shared_where_only_an_offset_is_folded():
    net = Net(x=[1, 3, 8, 8])
    weights = net.const(INTEGERS * 0.5, dtype=np.float32)
    values = [net.op("Add", net.op("Conv", "x", weights), np.float32(i)) for i in (1, 2)]
    after = run_pass(fold_batch_norm, net.model(*values))
    one, other = (node for node in after.graph if node.op_type == "Conv")
    assert one.inputs[1] is other.inputs[1]
