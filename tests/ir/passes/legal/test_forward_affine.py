"""Factors and offsets that go into the weights of the layer behind them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.passes.legal.forward_affine import forward_affine
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.support import constants, integers_of_conv

KERNEL = {"strides": [1, 1], "dilations": [1, 1]}


def conv(net, x, channels, *, pads=(0,) * 4, group=1, outputs=None, quantised=False, kernel=3):
    rng = np.random.default_rng(channels)
    outputs = outputs or channels
    shape = (outputs, channels // group, kernel, kernel)
    weights, bias = constants(net, rng, shape, outputs, quantised=quantised)
    return net.op(
        "Conv", x, weights, bias, kernel_shape=[kernel, kernel], pads=pads, group=group, **KERNEL
    )


def numbers(shape, seed, low=-2.0):
    return np.random.default_rng(seed).uniform(low, 2.0, shape).astype(np.float32)


@settings(max_examples=30)
@given(
    channels=st.integers(1, 6),
    chain=st.lists(st.sampled_from(["Mul", "Div", "Add", "Sub"]), min_size=1, max_size=4),
    per_channel=st.booleans(),
    depthwise=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_chain_goes_into_a_convolution_without_padding(
    channels, chain, per_channel, depthwise, seed
):
    net = Net(x=[1, channels, 5, 4])
    value = "x"
    for index, op_type in enumerate(chain):
        shape = (1, channels, 1, 1) if per_channel else ()
        constant = numbers(shape, seed + index, 0.5)
        operands = (value, constant) if op_type == "Div" or index % 2 else (constant, value)
        value = net.op(op_type, *operands)
    y = conv(net, value, channels, group=channels if depthwise else 1)
    after = run_pass(forward_affine.as_pass(), net.model(y))
    assert ops(after) == ["Conv"]


@given(groups=st.integers(1, 4), inputs=st.integers(1, 3), outputs=st.integers(1, 3))
def test_groups_take_the_numbers_of_their_own_channels(groups, inputs, outputs):
    channels = groups * inputs
    net = Net(x=[1, channels, 5, 4])
    value = net.op("Mul", "x", numbers((channels, 1, 1), 1))
    value = net.op("Add", value, numbers((channels, 1, 1), 2))
    y = conv(net, value, channels, group=groups, outputs=groups * outputs)
    assert ops(run_pass(forward_affine.as_pass(), net.model(y))) == ["Conv"]


def test_the_normalisation_of_images_goes_through_flatten_into_a_fully_connected_layer():
    net = Net(x=[1, 3, 4, 5])
    value = net.op("Sub", "x", numbers((1, 3, 4, 5), 0))  # a mean image
    value = net.op("Div", value, numbers((3, 1, 1), 1, 0.5))
    value = net.op("Transpose", value, perm=[0, 2, 3, 1])
    value = net.op("Reshape", value, np.array([1, 60]))
    y = net.op("Gemm", value, numbers((7, 60), 2), numbers(7, 3), transB=1)
    after = run_pass(forward_affine.as_pass(), net.model(y))
    assert ops(after) == ["Transpose", "Reshape", "Gemm"]


@pytest.mark.parametrize("pads", [(0,) * 4, (1, 0, 0, 1)])
@pytest.mark.parametrize("op_type", ["Mul", "Add"])
def test_padding_stops_offsets_only(pads, op_type):
    net = Net(x=[1, 4, 5, 4])
    y = conv(net, net.op(op_type, "x", numbers((4, 1, 1), 0)), 4, pads=pads)
    after = run_pass(forward_affine.as_pass(), net.model(y))
    assert len(ops(after)) == (2 if op_type == "Add" and any(pads) else 1)


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "GlobalAveragePool"])
@pytest.mark.parametrize("factor", [0.5, -0.5])
@pytest.mark.parametrize("pads", [(0,) * 4, (1, 1, 1, 1)])
def test_pools_commute_with_what_keeps_their_order(op_type, factor, pads):
    net = Net(x=[1, 4, 6, 6])
    value = net.op("Mul", "x", np.full((4, 1, 1), factor, np.float32))
    value = net.op("Add", value, numbers((4, 1, 1), 0))
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads}
    if op_type == "AveragePool":
        window["count_include_pad"] = 1
    value = net.op(op_type, value, **(window if op_type != "GlobalAveragePool" else {}))
    after = run_pass(forward_affine.as_pass(), net.model(conv(net, value, 4, kernel=1)))
    possible = factor > 0 if op_type == "MaxPool" else op_type[0] == "G" or not any(pads)
    assert len(ops(after)) == (2 if possible else 4)


@pytest.mark.parametrize(("shape", "kept"), [((), True), ((4, 1, 1), False)])
def test_integers_of_weights_are_kept_or_nothing_is_done(shape, kept):
    net = Net(x=[1, 4, 5, 4])
    value = net.op("Mul", net.quantize("x"), np.resize(np.float32([-0.5, 2, 4, 1]), shape))
    model = net.model(net.quantize(conv(net, value, 4, quantised=True)))
    before = integers_of_conv(model)
    after = run_pass(forward_affine.as_pass(), model, tolerance=0)
    assert ("Mul" not in ops(after)) == kept
    integers, steps = integers_of_conv(after)
    assert np.array_equal(integers, -before[0] if kept else before[0])
    assert np.array_equal(steps, before[1] * (0.5 if kept else 1))


def test_depth_wise_integers_take_a_number_per_channel():
    net = Net(x=[1, 4, 5, 4])
    factors = np.float32([-0.5, 2, 4, 1]).reshape(4, 1, 1)
    value = net.op("Sub", net.op("Mul", net.quantize("x"), factors), 2 * factors)
    model = net.model(net.quantize(conv(net, value, 4, group=4, quantised=True)))
    before = integers_of_conv(model)
    after = run_pass(forward_affine.as_pass(), model, tolerance=0)
    integers, steps = integers_of_conv(after)
    assert np.array_equal(integers, before[0] * np.sign(factors[:, None]))
    assert np.array_equal(steps, before[1] * np.abs(factors[:, None]))


def test_a_normalisation_that_others_read_too_goes_into_each_layer_that_reads_it():
    net = Net(x=[1, 4, 5, 4])
    parameters = [numbers(4, seed, 0.5) for seed in range(4)]
    value = net.op("BatchNormalization", "x", *parameters)
    after = run_pass(
        forward_affine.as_pass(), net.model(conv(net, value, 4), conv(net, value, 4, outputs=2))
    )
    assert ops(after) == ["Conv", "Conv"]


@pytest.mark.parametrize("op_type", ["Relu", "Sigmoid"])
def test_nothing_passes_an_activation(op_type):
    net = Net(x=[1, 4, 5, 4])
    value = net.op(op_type, net.op("Mul", "x", np.float32(2)))
    assert len(ops(run_pass(forward_affine.as_pass(), net.model(conv(net, value, 4))))) == 3


def test_a_quantiser_in_between_stays_where_it_is():
    net = Net(x=[1, 4, 5, 4])
    y = conv(net, net.quantize(net.op("Mul", "x", np.float32(3))), 4)
    assert len(ops(run_pass(forward_affine.as_pass(), net.model(y)))) == 3


def test_constants_without_a_finite_result_are_left_alone():
    net = Net(x=[1, 4, 5, 4])
    y = conv(net, net.op("Div", "x", np.float32(0)), 4)
    assert len(ops(run_pass(forward_affine.as_pass(), net.model(y)))) == 2


def test_it_costs_nothing():
    net, noted = Net(x=[1, 4, 5, 4]), context()
    after = run_pass(forward_affine.as_pass(), net.model(conv(net, net.op("Neg", "x"), 4)), noted)
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]
    assert noted.rewrites[0].exact
    assert not dialect.is_quantize(node_of(after, "Conv"))
