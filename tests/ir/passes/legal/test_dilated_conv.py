"""Dilated convolutions as ones with zeros in the kernel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.graph import ints_attribute
from dlaconv.ir.passes.legal.dilated_conv import dilated_conv
from tests.ir.passes.harness import context, node_of, ops, run_pass
from tests.ir.passes.legal.support import conv_model, integers_of_conv


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilations=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.integers(1, 2),
    depthwise=st.booleans(),
    quantised=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_kernel_with_zeros_computes_the_same(
    kernel, dilations, stride, depthwise, quantised, seed
):
    size = (13, 15)
    extents = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    if any(extent > s for extent, s in zip(extents, size, strict=True)):
        return
    model = conv_model(
        channels=3, outputs=3, size=size, kernel=kernel, strides=(stride, 1), pads=(1, 0, 2, 1),
        dilations=dilations, group=3 if depthwise else 1, quantised=quantised, seed=seed,
    )  # fmt: skip
    noted = context()
    after = node_of(
        run_pass(dilated_conv.as_pass(), model, noted, tolerance=0 if quantised else None), "Conv"
    )
    fits = max(extents) <= 7
    assert ints_attribute(after, "dilations") == ((1, 1) if fits else dilations)
    assert ints_attribute(after, "kernel_shape") == (extents if fits else kernel)
    assert bool(noted.blocked) == (not fits and max(dilations) > 1)


def test_integers_and_steps_of_quantised_weights_stay():
    model = conv_model(kernel=(3, 3), dilations=(2, 3), quantised=True)
    before, steps = integers_of_conv(model)
    after, kept = integers_of_conv(run_pass(dilated_conv.as_pass(), model))
    assert after.dtype == np.int8
    assert np.array_equal(after[:, :, ::2, ::3], before)
    assert np.count_nonzero(after) == np.count_nonzero(before)
    assert np.array_equal(kept, steps)


def test_the_report_counts_the_multiplications_by_the_new_zeros():
    model, noted = conv_model(channels=2, outputs=4, size=(9, 9), dilations=(2, 2)), context()
    run_pass(dilated_conv.as_pass(), model, noted)
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == (25 - 9) * 2 * 4 * (5 * 5)
    assert "3x3 kernel as a 5x5" in rewrite.detail


@pytest.mark.parametrize(("dilation", "extent"), [(3, 7), (4, 9)])
def test_the_kernel_grows_up_to_the_limit(dilation, extent):
    noted = context()
    model = conv_model(size=(12, 12), dilations=(dilation, dilation))
    after = node_of(run_pass(dilated_conv.as_pass(), model, noted), "Conv")
    if extent == 7:
        assert ints_attribute(after, "kernel_shape") == (7, 7)
    else:
        assert ints_attribute(after, "dilations") == (4, 4)
        [[reason]] = noted.blocked.values()
        assert "9x9, the limit is 7" in reason


def test_a_dilation_of_a_single_tap_means_nothing():
    after = run_pass(dilated_conv.as_pass(), conv_model(kernel=(1, 1), dilations=(9, 2)))
    assert ints_attribute(node_of(after, "Conv"), "dilations") == (1, 1)


def test_computed_weights_are_told_and_left_alone():
    noted = context()
    model = conv_model(dilations=(2, 2), computed=True)
    assert ops(run_pass(dilated_conv.as_pass(), model, noted)) == ["Conv"]
    [[reason]] = noted.blocked.values()
    assert "no constants" in reason
