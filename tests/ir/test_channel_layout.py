"""Positions of channels among others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.channel_layout import ChannelLayout

masks = st.lists(st.booleans(), min_size=1, max_size=12).map(lambda m: [True, *m])


def of(mask):
    return ChannelLayout.at(np.flatnonzero(mask), len(mask))


@given(mask=masks)
def test_channels_come_back_from_where_they_were_put(mask):
    layout, rng = of(mask), np.random.default_rng(0)
    array = rng.normal(size=(2, sum(mask), 3))
    for axis, moved in ((1, array), (0, array.swapaxes(0, 1)), (-1, array.swapaxes(1, 2))):
        spread = layout.spread(moved, axis)
        assert spread.shape[axis] == layout.count == len(mask)
        assert np.array_equal(layout.select(spread, axis), moved)
        assert spread.sum() == pytest.approx(moved.sum())
    assert np.array_equal(layout.own, mask)
    assert layout.channels == sum(mask)
    assert layout.is_dense == all(mask)


@given(mask=masks)
def test_others_are_like_the_channel_before(mask):
    values, expected = np.arange(sum(mask)), []
    for own in mask:
        expected.append(expected[-1] + 1 if own and expected else expected[-1] if expected else 0)
    assert of(mask).repeat(values, 0).tolist() == expected


@given(one=masks, other=masks)
def test_joined_layouts_are_those_of_the_concatenation(one, other):
    assert ChannelLayout.joined([of(one), of(other)]) == of(one + other)


@given(mask=masks, size=st.integers(1, 4))
def test_blocks_are_divided_into_what_was_repeated(mask, size):
    repeated = of(mask).repeated(size)
    assert repeated == of(np.repeat(mask, size))
    assert repeated.divided(size) == of(mask)


def test_blocks_that_are_torn_apart_have_no_layout():
    assert ChannelLayout.behind(6, 16).divided(3) is None
    assert ChannelLayout(16, ((0, 3), (8, 5))).divided(4) is None
    assert ChannelLayout.behind(6, 16).divided(2) == ChannelLayout.behind(3, 8)


def test_arrays_without_the_axis_are_alike_for_all_channels():
    layout = ChannelLayout.behind(2, 4)
    assert layout.own_of(np.ones(()), 1).shape == ()
    assert layout.own_of(np.ones((1, 1)), 1).shape == (1, 1)
    assert layout.own_of(np.arange(4), 0).tolist() == [0, 1]
