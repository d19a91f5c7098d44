"""Depth-wise convolutions on maps that are too small for them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.small_depthwise import small_depthwise
from tests.ir.passes.harness import context, node_of, ops, run_pass
from tests.ir.passes.legal.support import conv_model, integers_of_conv


def depthwise(channels, size, **more):
    return conv_model(channels=channels, outputs=channels, group=channels, size=size, **more)


@given(
    channels=st.integers(2, 5),
    size=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    stride=st.integers(1, 2),
    quantised=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_dense_convolution_computes_the_same(channels, size, stride, quantised, seed):
    model = depthwise(
        channels, size, kernel=(3, 2), strides=(stride, stride), pads=(1, 0, 1, 1),
        quantised=quantised, seed=seed,
    )  # fmt: skip
    tolerance = 0 if quantised else None
    after = run_pass(small_depthwise.as_pass(), model, tolerance=tolerance)
    small = min(size) < 4
    assert attribute(node_of(after, "Conv"), "group", 1) == (1 if small else channels)


@pytest.mark.parametrize(("size", "group"), [((4, 4), 3), ((3, 4), 1), ((9, 3), 1)])
def test_both_sides_have_to_reach_the_smallest_size(size, group):
    after = run_pass(small_depthwise.as_pass(), depthwise(3, size))
    assert attribute(node_of(after, "Conv"), "group", 1) == group


def test_integers_and_steps_of_quantised_weights_stay():
    model = depthwise(4, (3, 3), quantised=True)
    before, steps = integers_of_conv(model)
    after, kept = integers_of_conv(run_pass(small_depthwise.as_pass(), model))
    assert after.dtype == np.int8
    assert np.array_equal(after[np.arange(4), np.arange(4)], before[:, 0])
    assert np.count_nonzero(after) == np.count_nonzero(before)
    assert np.array_equal(kept, steps)


def test_the_report_counts_the_multiplications_by_zeros():
    noted = context()
    run_pass(small_depthwise.as_pass(), depthwise(6, (3, 3)), noted)
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == 5 * 6 * 9 * (1 * 1)


@pytest.mark.parametrize("dilated", [False, True])
def test_dilation_stays(dilated):
    dilations = (2, 1) if dilated else (1, 1)
    model = depthwise(2, (3, 3), kernel=(2, 2), dilations=dilations)
    after = run_pass(small_depthwise.as_pass(), model)
    assert tuple(node_of(after, "Conv").attributes["dilations"].value) == dilations


def test_other_convolutions_on_small_maps_stay():
    model = conv_model(channels=4, outputs=4, group=2, size=(3, 3))
    noted = context()
    assert (
        attribute(node_of(run_pass(small_depthwise.as_pass(), model, noted), "Conv"), "group", 1)
        == 2
    )
    assert not noted.blocked


def test_too_many_channels_and_computed_weights_are_told():
    noted = context()
    model = depthwise(2049, (3, 3), kernel=(1, 1))
    assert (
        attribute(node_of(run_pass(small_depthwise.as_pass(), model, noted), "Conv"), "group", 1)
        == 2049
    )
    [[reason]] = noted.blocked.values()
    assert "at most 2048 channels, not 2049" in reason
    noted = context()
    assert ops(run_pass(small_depthwise.as_pass(), depthwise(2, (3, 3), computed=True), noted)) == [
        "Conv"
    ]
    assert "no constants" in next(iter(noted.blocked.values()))[0]
