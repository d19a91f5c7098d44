"""Padding of max pools at the top and left."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute, ints_attribute
from dlaconv.ir.passes.legal.max_pool_padding import max_pool_padding
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.pools import broken, pool, wide_feeds

PASS = max_pool_padding.as_pass()
STEM = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def legalised(model, noted=None, seed=0):
    return run_pass(PASS, model, noted, wide_feeds(model, seed), tolerance=0)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["relu", "signed", "unsigned"]),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(2, 3), st.integers(2, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_pool_computes_the_same(kind, size, kernel, strides, pads, channels, seed):
    model = pool(
        "MaxPool", (1, channels, *size), kind, kernel_shape=kernel, strides=strides, pads=pads
    )
    after = legalised(model, seed=seed)
    node = node_of(after, "MaxPool")
    assert max(ints_attribute(node, "pads")[2:], default=0) <= max(pads[2:])
    assert ("Conv" in ops(after)) == any(pads[:2])
    assert set(broken(after)) <= {"kernel"}


def test_the_stem_of_resnet_costs_one_multiplication_an_element():
    noted = context()
    after = legalised(pool("MaxPool", (1, 16, 12, 12), "relu", **STEM), noted)
    assert ops(after) == ["Relu", "Dequantize", "Conv", "MaxPool"]
    assert ints_attribute(node_of(after, "Conv"), "pads") == (1, 1, 1, 1)
    assert ints_attribute(node_of(after, "MaxPool"), "pads") == (0, 0, 0, 0)
    assert attribute(node_of(after, "Conv"), "group", 1) == 16
    [rewrite] = noted.rewrites
    assert rewrite.macs == 16 * 14 * 14
    assert rewrite.exact


@pytest.mark.parametrize(("size", "groups"), [(3, 1), (4, 16)])
def test_a_map_too_small_for_depth_wise_convolutions_gets_a_dense_one(size, groups):
    after = legalised(pool("MaxPool", (1, 16, size, size), "relu", **STEM))
    assert attribute(node_of(after, "Conv"), "group", 1) == groups


def test_a_float_map_that_may_be_negative_is_left_alone_with_the_reason():
    noted = context()
    after = legalised(pool("MaxPool", (1, 16, 8, 8), "float", **STEM), noted)
    assert ops(after) == ["MaxPool"]
    [[reason]] = noted.blocked.values()
    assert "may be negative" in reason


@pytest.mark.parametrize(("narrow", "bits"), [(False, 8), (True, 8), (False, 4), (True, 3)])
def test_the_border_of_a_signed_map_is_its_least_integer(narrow, bits):
    net = Net(x=[1, 4, 6, 6])
    x = net.quantize("x", 0.5, bits, narrow=narrow)
    y = net.op("MaxPool", x, dilations=[1, 1], **STEM)
    model = net.model(y)
    feeds = {"x": np.full((1, 4, 6, 6), -1e3, np.float32)}
    after = run_pass(PASS, model, feeds=feeds, tolerance=0)
    assert "Concat" in ops(after)
    assert broken(after) == []


def test_every_map_of_a_quantised_pool_is_on_its_grid():
    after = legalised(pool("MaxPool", (1, 4, 6, 6), "signed", **STEM))
    assert ops(after).count("QuantizeHalfEven") == 3


@pytest.mark.parametrize("zero_point", [3, 128])
def test_a_zero_point_moves_the_least_integer(zero_point):
    net = Net(x=[1, 4, 6, 6])
    x = net.quantize("x", 0.5, signed=False, zero_point=zero_point)
    model = net.model(net.op("MaxPool", x, dilations=[1, 1], **STEM))
    assert broken(legalised(model)) == []


def test_steps_per_channel_have_no_one_least_value():
    net = Net(x=[1, 2, 6, 6])
    x = net.quantize("x", np.array([0.5, 0.25], np.float32).reshape(1, 2, 1, 1))
    noted = context()
    legalised(net.model(net.op("MaxPool", x, dilations=[1, 1], **STEM)), noted)
    [[reason]] = noted.blocked.values()
    assert "no smallest value" in reason


def test_a_padded_map_that_could_not_be_stored_is_refused():
    noted = context()
    model = pool("MaxPool", (1, 1, 256, 8), "relu", **STEM)
    assert ops(legalised(model, noted)) == ["Relu", "MaxPool"]
    [[reason]] = noted.blocked.values()
    assert "1x258x10" in reason


def test_positions_of_maxima_are_nothing_for_the_hardware():
    net = Net(x=[1, 1, 6, 6])
    y = net.op("MaxPool", net.op("Relu", "x"), outputs=2, dilations=[1, 1], **STEM)
    net.values[f"{y}_1"].dtype = ir.DataType.INT64
    noted = context()
    after = run_pass(PASS, net.model(y, f"{y}_1"), noted)
    assert ops(after) == ["Relu", "MaxPool"]
    assert "positions" in noted.blocked[y][0]


@pytest.mark.parametrize(
    "change", [{"pads": [0, 0, 1, 1]}, {"ceil_mode": 1}, {"dilations": [2, 2]}]
)
def test_other_pools_are_left_alone(change):
    noted = context()
    model = pool("MaxPool", (1, 2, 8, 8), "relu", **{**STEM, **change})
    assert ops(legalised(model, noted)) == ["Relu", "MaxPool"]
    assert noted.blocked == {}


def test_both_ends_are_padded_alike_unless_that_makes_another_window():
    pads = {"strides": [1, 1], "pads": [1, 0, 0, 0]}
    after = legalised(pool("MaxPool", (1, 16, 8, 8), "relu", **{**STEM, **pads}))
    assert ints_attribute(node_of(after, "Conv"), "pads") == (1, 0, 0, 0)
    pads = {"strides": [2, 2], "pads": [1, 0, 0, 0]}
    after = legalised(pool("MaxPool", (1, 16, 8, 8), "relu", **{**STEM, **pads}))
    assert ints_attribute(node_of(after, "Conv"), "pads") == (1, 0, 1, 0)
