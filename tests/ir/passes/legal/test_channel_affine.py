"""Factors, offsets and normalisations that stand alone, as layers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.channel_affine import channel_affine
from dlaconv.ir.passes.legal.unrounded_affine import unrounded_affine
from tests.ir.passes.harness import Net, context, node_of, run_pass
from tests.ir.passes.legal.support import integers_of_conv, operators


def numbers(shape, seed, low=-2.0):
    return np.random.default_rng(seed).uniform(low, 2.0, shape).astype(np.float32)


def normalised(net, x, channels, seed=0):
    parameters = [numbers(channels, seed + i, 0.1 if i == 3 else -2.0) for i in range(4)]
    return net.op("BatchNormalization", x, *parameters)


@settings(max_examples=30)
@given(
    channels=st.integers(1, 6),
    size=st.lists(st.integers(1, 7), max_size=3),
    chain=st.lists(
        st.sampled_from(["Mul", "Div", "Add", "Sub", "Neg", "BatchNormalization"]),
        min_size=1,
        max_size=4,
    ),
    per_channel=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_chain_becomes_one_layer(channels, size, chain, per_channel, seed):
    net = Net(x=[1, channels, *size])
    value = "x"
    for index, op_type in enumerate(chain):
        shape = (1, channels, *(1,) * len(size)) if per_channel else ()
        if op_type == "Neg":
            value = net.op("Neg", value)
        elif op_type == "BatchNormalization":
            value = normalised(net, value, channels, seed)
        else:
            constant = numbers(shape, seed + index, 0.5)
            left = op_type != "Div" and index % 2
            value = net.op(op_type, *((constant, value) if left else (value, constant)))
    after = run_pass(channel_affine.as_pass(), net.model(value))
    assert operators(after) == {0: ["Gemm"], 2: ["Conv"]}.get(
        len(size), ["Reshape", "Conv", "Reshape"]
    )


@pytest.mark.parametrize(
    ("shape", "group"),
    [([1, 16, 4, 4], 16), ([1, 16, 3, 4], 1), ([1, 8, 4, 4], 1), ([1, 16, 5, 3], 1)],
)
def test_it_is_depth_wise_where_the_hardware_has_it(shape, group):
    net = Net(x=shape)
    after = run_pass(channel_affine.as_pass(), net.model(normalised(net, "x", shape[1])))
    assert attribute(node_of(after, "Conv"), "group", 1) == group


def test_channels_of_computed_maps_need_not_fill_groups():
    net = Net(x=[1, 8, 4, 4])
    after = run_pass(channel_affine.as_pass(), net.model(normalised(net, net.op("Relu", "x"), 8)))
    assert attribute(node_of(after, "Conv"), "group", 1) == 8


@settings(max_examples=30)
@given(
    exponents=st.lists(st.integers(-3, 3), min_size=4, max_size=4),
    signs=st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4),
    size=st.sampled_from([2, 5]),
    seed=st.integers(0, 9),
)
def test_a_stored_map_is_rounded_once(exponents, signs, size, seed):
    factors = np.float32(signs) * np.exp2(exponents).astype(np.float32)
    net = Net(x=[1, 4, size, size])
    value = net.op("Mul", net.quantize("x", 2.0**-5), factors.reshape(4, 1, 1))
    value = net.quantize(net.op("Add", value, np.float32(0.375)), 2.0**-4)
    feeds = {"x": np.random.default_rng(seed).normal(size=(1, 4, size, size)).astype(np.float32)}
    after = run_pass(channel_affine.as_pass(), net.model(value), feeds=feeds, tolerance=0)
    integers, steps = integers_of_conv(after)
    assert integers.dtype == np.int8
    assert set(np.abs(integers).reshape(-1)) <= {0, 1}
    assert np.array_equal(np.broadcast_to(steps.reshape(-1), 4), np.abs(factors))


def test_an_activation_stays_behind_the_layer():
    net = Net(x=[1, 4, 5, 5])
    value = net.op("Relu", net.op("Mul", net.quantize("x"), np.float32(-0.5)))
    after = run_pass(channel_affine.as_pass(), net.model(net.quantize(value)), tolerance=0)
    assert operators(after)[-3:] == ["Conv", "Relu", "QuantizeHalfEven"]


def blocked(model, limits=None):
    noted = context()
    after = run_pass(channel_affine.as_pass(), model, noted)
    assert operators(after) == operators(model)
    [[reason]] = noted.blocked.values()
    return reason


def test_constants_along_rows_and_columns_are_told():
    net = Net(x=[1, 4, 5, 5])
    model = net.model(net.op("Add", "x", numbers((5, 5), 0)))
    assert "Add differ from position to position" in blocked(model)


@pytest.mark.parametrize(
    ("shape", "constant"),
    [
        ([1, 6, 4], (4,)),
        ([1, 6, 4], (1, 1, 4)),
        ([1, 2, 5, 4], (5, 1)),
        ([1, 5, 6, 4], (4,)),
        ([6, 4], (4,)),
        ([6, 4], ()),
        ([6, 4, 3], (3,)),
    ],
)
@pytest.mark.parametrize("quantised", [False, True])
def test_numbers_along_another_axis_are_turned_into_channels(shape, constant, quantised):
    net = Net(x=shape)
    value = net.op("Mul", net.quantize("x") if quantised else "x", numbers(constant, 0))
    model = net.model(value)
    after = run_pass(channel_affine.as_pass(), model)
    assert "Mul" not in operators(after)
    assert operators(after).count("Conv") == 1


def test_a_step_per_channel_cannot_move():
    net = Net(x=[1, 5, 4])
    value = net.op("Mul", net.quantize("x"), np.float32(0.3))
    steps = np.float32([0.5, 0.25, 1, 2, 4]).reshape(5, 1)
    model = net.model(net.quantize(value, steps))
    assert "one step per channel" in blocked(model)


def test_more_rows_than_a_map_has_are_told():
    net = Net(x=[1, 257, 4])
    model = net.model(net.op("Mul", "x", numbers((4,), 0)))
    assert "257 rows" in blocked(model)


def test_a_division_by_zero_is_told():
    net = Net(x=[1, 4, 5, 5])
    model = net.model(net.op("Div", "x", np.float32([1, 0, 1, 1]).reshape(4, 1, 1)))
    assert "zeros that divide" in blocked(model)


@pytest.mark.parametrize("size", [[], [1, 1]])
def test_as_many_channels_as_the_hardware_has_are_possible(size):
    for channels, possible in ((2048, True), (2064, False)):
        net = Net(x=[1, channels, *size])
        model = net.model(net.op("Mul", "x", numbers((1, channels, *(1,) * len(size)), 0)))
        if possible:
            assert len(operators(run_pass(channel_affine.as_pass(), model))) == 1
        else:
            assert "2064 channels are more than the 2048" in blocked(model)


def test_more_positions_than_a_map_has_are_told():
    net = Net(x=[1, 2, 257])
    assert "257 positions" in blocked(net.model(net.op("Mul", "x", np.float32(2))))


@pytest.mark.parametrize("constant", [np.ones((2, 4, 5, 5)), np.ones((1, 1, 1, 1, 1))])
def test_a_constant_that_makes_the_map_larger_is_left_alone(constant):
    net = Net(x=[1, 4, 5, 5])
    model = net.model(net.op("Add", "x", constant.astype(np.float32) * 2))
    assert operators(run_pass(channel_affine.as_pass(), model)) == ["Add"]


def test_operators_on_two_maps_are_left_alone():
    net = Net(x=[1, 4, 5, 5])
    model = net.model(net.op("Sub", net.op("Add", "x", "x"), "x"))
    assert operators(run_pass(channel_affine.as_pass(), model)) == ["Add", "Sub"]


@pytest.mark.parametrize("mode", ["exact", "all"])
def test_what_is_rounded_behind_only_needs_an_approximate_rewrite(mode):
    net = Net(x=[1, 4, 5, 5])
    pooled = net.op("MaxPool", "x", kernel_shape=[2, 2], strides=[1, 1], pads=[0] * 4)
    value = net.op("Relu", net.op("Mul", pooled, np.float32(0.3)))
    noted = context(legalise=mode)
    passes = [channel_affine.as_pass(), unrounded_affine.as_pass()]
    after = run_pass(passes, net.model(net.quantize(value)), noted)
    assert ("Conv" in operators(after)) == (mode == "all")
    assert [item.rule for item in noted.diagnostics] == (["DLA313"] if mode == "exact" else [])


def test_the_report_counts_the_multiplications():
    net, noted = Net(x=[1, 16, 5, 4]), context()
    run_pass(channel_affine.as_pass(), net.model(normalised(net, "x", 16)), noted)
    assert [rewrite.macs for rewrite in noted.rewrites] == [16 * 5 * 4]
