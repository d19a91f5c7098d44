"""Means over whole axes."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal import REWRITES
from dlaconv.ir.passes.legal.reduce_mean_conv import reduce_mean_conv
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.pools import assert_same_outputs, broken, source, wide_feeds
from tests.ir.passes.legal.support import integers_of_conv

PASS = reduce_mean_conv.as_pass()
AXES = [list(axes) for count in (1, 2, 3) for axes in combinations((1, 2, 3), count)]


def network(shape, *axes, kind="float", keepdims=1, step=2.0**-6):
    net = Net(x=list(shape))
    value = source(net, kind)
    for some in axes:
        value = net.op("ReduceMean", value, np.array(some), keepdims=keepdims)
    return net.model(value if kind == "float" else net.quantize(value, step, 24))


def legalised(model, noted=None):
    return run_pass(PASS, model, noted, wide_feeds(model), tolerance=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    axes=st.sampled_from(AXES),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12)),
    keepdims=st.integers(0, 1),
)
def test_the_layer_computes_the_same(axes, shape, keepdims):
    after = legalised(network((1, *shape), axes, keepdims=keepdims))
    assert "ReduceMean" not in ops(after)
    assert broken(run_pass(REWRITES, after, None, wide_feeds(after), tolerance=1e-5)) == []


@pytest.mark.parametrize("axes", AXES)
def test_no_integer_changes(axes):
    model = network((1, 4, 8, 16), axes, kind="signed")
    after = legalised(model)
    assert_same_outputs(model, after, wide_feeds(model))


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("order", [([2], [3]), ([3], [2]), ([1], [2])])
def test_means_one_after_another_are_one(order, keepdims):
    if not keepdims:
        order = (order[0], [axis - (axis > order[0][0]) for axis in order[1]])
    after = legalised(network((1, 4, 6, 5), *order, keepdims=keepdims))
    assert "ReduceMean" not in ops(after)
    layers = [op for op in ops(after) if op in {"Conv", "GlobalAveragePool"}]
    assert len(layers) == 1


def test_means_with_a_rounding_in_between_are_two():
    net = Net(x=[1, 4, 8, 8])
    first = net.quantize(net.op("ReduceMean", net.quantize("x"), np.array([2]), keepdims=1))
    y = net.quantize(net.op("ReduceMean", first, np.array([3]), keepdims=1))
    assert ops(legalised(net.model(y))).count("Conv") == 2


def test_a_mean_that_others_read_is_not_taken_along():
    net = Net(x=[1, 4, 8, 8])
    first = net.op("ReduceMean", "x", np.array([2]), keepdims=1)
    y = net.op("ReduceMean", first, np.array([3]), keepdims=1)
    assert ops(legalised(net.model(first, y))).count("Conv") == 2


def test_means_over_channels_have_one_output_channel():
    noted = context()
    after = legalised(network((1, 48, 6, 6), [1]), noted)
    integers, steps = integers_of_conv(after)
    assert integers.shape == (1, 48, 1, 1)
    assert np.allclose(steps, 1 / 48)
    assert attribute(node_of(after, "Conv"), "group", 1) == 1
    assert [rewrite.macs for rewrite in noted.rewrites] == [48 * 36]


def test_means_of_vectors_are_fully_connected():
    assert ops(legalised(network((1, 12), [1]))) == ["Dequantize", "Gemm"]


def test_means_over_the_whole_map_are_pools():
    assert ops(legalised(network((1, 4, 6, 6), [2, 3], keepdims=0))) == [
        "GlobalAveragePool",
        "Reshape",
    ]


@pytest.mark.parametrize(("shape", "axes"), [((1, 4, 6), [2]), ((1, 2, 3, 4, 5), [4])])
def test_other_ranks_are_told_and_left_alone(shape, axes):
    noted = context()
    assert ops(legalised(network(shape, axes), noted)) == ["ReduceMean"]
    [[reason]] = noted.blocked.values()
    assert "no map" in reason


def test_means_over_the_batch_are_nobodys_business():
    noted = context()
    assert ops(legalised(network((2, 4, 6, 6), [0]), noted)) == ["ReduceMean"]
    assert noted.blocked == {}


def test_the_grid_of_weights_must_hold_the_inverse_of_quantised_means():
    noted = context()
    legalised(network((1, 257, 4, 4), [1], kind="signed"), noted)
    [[reason]] = noted.blocked.values()
    assert "1/257" in reason


def test_a_map_beyond_the_hardware_is_told_without_weights_of_its_size():
    noted = context()
    PASS(network((1, 1 << 20, 1 << 20, 1), [1, 2]), noted)
    [[reason]] = noted.blocked.values()
    assert "larger than" in reason
