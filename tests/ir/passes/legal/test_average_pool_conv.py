"""Average pools as convolutions."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import ints_attribute
from dlaconv.ir.passes.legal import REWRITES
from dlaconv.ir.passes.legal.average_pool_conv import average_pool_conv
from dlaconv.ir.rounding import Rounding
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.pools import assert_same_outputs, broken, source, wide_feeds
from tests.ir.passes.legal.support import integers_of_conv

PASS = average_pool_conv.as_pass()
PADDED = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}


def network(shape, kind="signed", step=2.0**-6, rounding=Rounding.HALF_EVEN, **attributes):
    """A pool whose result is quantised finely, but never between two integers."""
    net = Net(x=list(shape))
    attributes.setdefault("pads", [0] * 4)
    y = net.op("AveragePool", source(net, kind), **attributes)
    return net.model(y if kind == "float" else net.quantize(y, step, 24, rounding=rounding))


def legalised(model, noted=None, seed=0, near=1e-6):
    return run_pass(PASS, model, noted, wide_feeds(model, seed), tolerance=near)


def fully(model, noted=None, seed=0):
    """Behind all rewrites: of what convolutions the pool becomes is the matter of others."""
    feeds = wide_feeds(model, seed)
    after = run_pass(REWRITES, model, noted, feeds, tolerance=0.1)
    if any("Quantize" in op_type for op_type in ops(model)):
        assert_same_outputs(model, after, feeds)
    return after


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["signed", "float"]), seed=st.integers(0, 99))
def test_the_convolution_computes_the_same(data, kind, seed):
    size = data.draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    kernel = [data.draw(st.integers(1, min(n + 4, 10))) for n in size]
    strides = [data.draw(st.integers(1, 6)) for _ in size]
    pads = [data.draw(st.integers(0, max(0, min(k - 1, 5)))) for k in kernel * 2]
    assume(all(n + a + b >= k for n, k, a, b in zip(size, kernel, pads[:2], pads[2:], strict=True)))
    model = network(
        (1, 3, *size), kind,
        kernel_shape=kernel, strides=strides, pads=pads, count_include_pad=1,
    )  # fmt: skip
    noted = context()
    legalised(model, noted, seed, 0.1)
    covered = all(n <= k - a for n, k, a in zip(size, kernel, pads, strict=False))
    assert noted.blocked == {}
    after = fully(model, noted, seed)
    left = [why for reasons in noted.blocked.values() for why in reasons]
    assert broken(after) == [] or left or (covered and not any(pads))


@pytest.mark.parametrize("divisor", [3, 5, 7])
def test_weights_are_ones_in_steps_of_the_inverse(divisor):
    model = network((1, 16, 14, 14), kernel_shape=[divisor] * 2, strides=[2, 2],
                    pads=[1] * 4, count_include_pad=1)  # fmt: skip
    noted = context()
    after = legalised(model, noted)
    integers, steps = integers_of_conv(after)
    assert integers.shape == (16, 1, divisor, divisor)
    assert (integers == 1).all()
    assert np.allclose(steps, 1 / divisor**2)
    assert node_of(after, "Conv").name in noted.gains
    [rewrite] = noted.rewrites
    out = (14 + 2 - divisor) // 2 + 1
    assert rewrite.macs == 16 * out * out * divisor**2


@pytest.mark.parametrize(
    "window",
    [
        {"shape": (1, 16, 3, 3), "kernel_shape": [2, 2], "strides": [1, 1], "pads": [1] * 4},
        {"shape": (1, 32, 27, 27), "kernel_shape": [4, 4], "strides": [4, 4]},
        {"shape": (1, 16, 24, 24), "kernel_shape": [8, 8], "strides": [8, 8]},
        {"shape": (1, 16, 12, 12), "kernel_shape": [3, 3], "strides": [3, 3]},
        {"shape": (1, 16, 9, 9), "kernel_shape": [5, 5], "strides": [2, 2], "pads": [4] * 4},
    ],
)
def test_what_the_hardware_lacks_of_the_convolution_others_bring(window):
    assert broken(fully(network(**window, count_include_pad=1))) == []


def test_an_average_that_is_rounded_down_is_rounded_down_once():
    model = network((1, 16, 24, 24), rounding=Rounding.FLOOR, kernel_shape=[4, 4], strides=[4, 4])
    assert broken(fully(model)) == []


def strides_of(model):
    return [ints_attribute(node, "strides") for node in model.graph if node.op_type == "Conv"]


def test_a_stride_of_four_is_two_and_two_again():
    noted = context()
    after = legalised(
        network((1, 32, 27, 27), kernel_shape=[4, 4], strides=[4, 4]), noted, near=0.1
    )
    assert strides_of(after) == [(2, 2), (2, 2)]
    [rewrite] = noted.rewrites
    assert rewrite.macs == 32 * 12 * 12 * 16 + 32 * 6 * 6
    assert rewrite.exact


def test_what_is_rounded_down_must_not_be_rounded_twice():
    model = network((1, 16, 24, 24), rounding=Rounding.FLOOR, kernel_shape=[4, 4], strides=[4, 4])
    assert strides_of(legalised(model)) == [(4, 4)]


def test_what_is_rounded_behind_an_activation_must_not_be_rounded_twice():
    net = Net(x=[1, 16, 24, 24])
    window = {"kernel_shape": [4, 4], "strides": [4, 4], "pads": [0] * 4}
    y = net.op("Relu", net.op("AveragePool", net.quantize("x"), **window))
    assert strides_of(legalised(net.model(net.quantize(y, 2.0**-6, 24)))) == [(4, 4)]


def test_a_window_that_leaves_some_of_the_map_out_gets_zeros_there():
    after = legalised(network((1, 16, 6, 6), kernel_shape=[4, 4], strides=[4, 4]))
    integers, _ = integers_of_conv(after)
    assert integers.shape == (16, 1, 6, 6)
    assert integers.sum() == 16 * 16
    assert broken(after) == []


@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_windows_with_divisors_of_their_own_are_left_to_others(ceil_mode):
    noted = context()
    change = {"pads": [0] * 4} if ceil_mode else {"count_include_pad": 0}
    model = network((1, 16, 8, 8), ceil_mode=ceil_mode, **{**PADDED, **change})
    assert "AveragePool" in ops(legalised(model, noted))
    assert noted.blocked == {}


def test_uncounted_padding_of_which_every_window_has_the_same_is_fine():
    model = network((1, 16, 2, 2), kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    after = legalised(model)
    _, steps = integers_of_conv(after)
    assert np.allclose(steps, 1 / 4)


@pytest.mark.parametrize(("convention", "blocked"), [("guide", False), ("int-per-real", True)])
def test_the_grid_of_weights_must_hold_the_inverse(convention, blocked):
    noted = context(convention=convention)
    legalised(network((1, 16, 8, 8), **PADDED), noted)
    assert bool(noted.blocked) == blocked
    noted = context(convention=convention)
    legalised(network((1, 16, 8, 8), **{**PADDED, "kernel_shape": [2, 2]}), noted)
    assert noted.blocked == {}


@pytest.mark.parametrize(
    "change",
    [
        {"pads": [0, 0, 0, 0]},
        {"pads": [1, 1, 0, 0]},
        {"pads": [0] * 4, "kernel_shape": [3, 7]},
        {"pads": [0] * 4, "kernel_shape": [12, 12]},
    ],
)
def test_pools_of_the_hardware_and_of_whole_maps_are_left_alone(change):
    noted = context()
    after = legalised(network((1, 16, 12, 12), **{**PADDED, **change}), noted)
    assert "AveragePool" in ops(after)
    assert noted.rewrites == []
    assert noted.blocked == {}


def test_a_map_beyond_the_hardware_is_told_without_a_kernel_of_its_size():
    noted = context()
    net = Net(x=[1, 1, 1 << 20, 1])
    y = net.op("AveragePool", "x", kernel_shape=[1 << 19, 1], strides=[1 << 19, 1], pads=[0] * 4)
    PASS(net.model(y), noted)
    [[reason]] = noted.blocked.values()
    assert "larger than" in reason


def test_more_windows_than_any_hardware_has_are_not_looked_at():
    noted = context()
    net = Net(x=[1, 1, 1 << 20, 1])
    PASS(
        net.model(net.op("AveragePool", "x", kernel_shape=[2, 1], strides=[1, 1], pads=[0] * 4)),
        noted,
    )
    assert noted.rewrites == []
