"""Averages that divide by less at the border."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.uncounted_average import uncounted_average
from dlaconv.ir.rounding import Rounding
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.pools import assert_same_outputs, broken, source, wide_feeds
from tests.ir.passes.legal.support import integers_of_conv

PASS = uncounted_average.as_pass()
SAME = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1], "count_include_pad": 0}


def network(shape, kind="signed", rounding=Rounding.HALF_EVEN, behind=(), **attributes):
    net = Net(x=list(shape))
    y = net.op("AveragePool", source(net, kind), **{**SAME, **attributes})
    for op_type in behind:
        y = net.op(op_type, y)
    return net.model(y if kind == "float" else net.quantize(y, 2.0**-6, 24, rounding=rounding))


def legalised(model, noted=None, seed=0):
    feeds = wide_feeds(model, seed)
    quantised = any(op_type.startswith("Quantize") for op_type in ops(model))
    near = 0.1 if quantised else 1e-5  # an average that is cut is rounded before
    after = run_pass([PASS, hoist_quantise], model, noted, feeds, tolerance=near)
    if quantised:
        assert_same_outputs(model, after, feeds)
    return after


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["signed", "float"]), seed=st.integers(0, 99))
def test_the_matrix_computes_the_same(data, kind, seed):
    size = data.draw(st.tuples(st.integers(3, 12), st.integers(3, 12)))
    kernel = [data.draw(st.integers(2, min(n, 5))) for n in size]
    strides = [data.draw(st.integers(1, 3)) for _ in size]
    pads = [data.draw(st.integers(0, k - 1)) for k in kernel * 2]
    ceil = data.draw(st.integers(0, 1))
    last = [
        -(-(n + a + b - k) // s) * s - n - a
        for n, a, b, k, s in zip(size, pads[:2], pads[2:], kernel, strides, strict=True)
    ]
    assume(not ceil or max(last) < 0)
    model = network(
        (1, 3, *size), kind, kernel_shape=kernel, strides=strides, pads=pads,
        ceil_mode=ceil, count_include_pad=data.draw(st.integers(0, 1)),
    )  # fmt: skip
    noted = context()
    after = legalised(model, noted, seed)
    assert "AveragePool" in ops(after) or broken(after) == []
    assert all("positions" in why for reasons in noted.blocked.values() for why in reasons)


def test_every_window_has_its_own_divisor():
    noted = context()
    after = legalised(network((1, 16, 8, 8)), noted)
    integers, steps = integers_of_conv(after)
    assert integers.shape == (64, 64, 1, 1)
    assert np.allclose(np.unique(steps), [1 / 9, 1 / 6, 1 / 4])
    assert np.allclose(integers.sum((1, 2, 3)) * steps.reshape(-1), 1)
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == 64 * 64 * 16


def test_channels_and_positions_are_multiples_of_sixteen():
    after = legalised(network((1, 512, 17, 17), "float"))
    maps = [
        tuple(value.shape)
        for node in after.graph
        for value in node.outputs
        if node.op_type in {"Conv", "Transpose", "Reshape"}
    ]
    assert all(shape[1] % 16 == 0 for shape in maps)
    assert all(max(shape[1:2]) <= 2048 for shape in maps)


def test_a_map_of_too_many_positions_is_told():
    noted = context()
    assert "AveragePool" in ops(legalised(network((1, 2, 46, 46), "float"), noted))
    [[reason]] = noted.blocked.values()
    assert "46x46 positions" in reason


@pytest.mark.parametrize("change", [{"rounding": Rounding.FLOOR}, {"behind": ["Relu"]}])
def test_a_result_that_is_cut_must_be_rounded_to_nearest_right_away(change):
    noted = context()
    assert "AveragePool" in ops(legalised(network((1, 2, 7, 7), **change), noted))
    [[reason]] = noted.blocked.values()
    assert "right away" in reason
    noted = context()
    legalised(network((1, 2, 8, 8), behind=change.get("behind", ())), noted)
    assert noted.blocked == {}


def test_the_grid_of_weights_must_hold_the_inverses():
    noted = context(convention="int-per-real")
    legalised(network((1, 2, 8, 8)), noted)
    [[reason]] = noted.blocked.values()
    assert "grid of weight steps" in reason


def test_averages_that_all_divide_by_one_number_are_left_to_others():
    noted = context()
    assert "AveragePool" in ops(legalised(network((1, 2, 8, 8), count_include_pad=1), noted))
    assert noted.blocked == {}


@pytest.mark.parametrize("kind", ["signed", "float"])
def test_channels_that_become_positions_fill_whole_groups_before(kind):
    after = legalised(network((1, 5, 8, 8), kind))
    swapped = [node for node in after.graph if node.op_type == "Transpose"]
    assert [tuple(node.outputs[0].shape)[1:3] for node in swapped] == [(64, 16), (16, 64)]
    assert tuple(after.graph.outputs[0].shape) == (1, 5, 8, 8)


def test_a_result_that_cannot_be_cut_keeps_its_channels():
    after = legalised(network((1, 5, 8, 8), behind=["Relu"]))
    swapped = [node for node in after.graph if node.op_type == "Transpose"]
    assert [tuple(node.outputs[0].shape)[1:3] for node in swapped] == [(64, 5), (5, 64)]
