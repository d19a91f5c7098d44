"""Every rounding mode against Python's exact numbers."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.rounding import Rounding, round_array, round_exact

TABLE = {
    #                       -2.5 -1.5 -0.75 -0.5 -0.25 0.25 0.5 0.75 1.5 2.5
    Rounding.HALF_EVEN: (-2, -2, -1, 0, 0, 0, 0, 1, 2, 2),
    Rounding.HALF_UP: (-2, -1, -1, 0, 0, 0, 1, 1, 2, 3),
    Rounding.HALF_AWAY: (-3, -2, -1, -1, 0, 0, 1, 1, 2, 3),
    Rounding.HALF_ZERO: (-2, -1, -1, 0, 0, 0, 0, 1, 1, 2),
    Rounding.HALF_DPU: (-2, -1, -1, 0, 0, 0, 0, 1, 2, 2),
    Rounding.FLOOR: (-3, -2, -1, -1, -1, 0, 0, 0, 1, 2),
    Rounding.CEIL: (-2, -1, 0, 0, 0, 1, 1, 1, 2, 3),
    Rounding.UP: (-3, -2, -1, -1, -1, 1, 1, 1, 2, 3),
    Rounding.DOWN: (-2, -1, 0, 0, 0, 0, 0, 0, 1, 2),
}
VALUES = (-2.5, -1.5, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.5, 2.5)


@pytest.mark.parametrize("mode", Rounding)
def test_modes_are_what_their_names_say(mode):
    assert tuple(round_exact(Fraction(value), mode) for value in VALUES) == TABLE[mode]
    assert tuple(round_array(np.array(VALUES), mode)) == TABLE[mode]


@given(st.fractions(-1000, 1000, max_denominator=64))
def test_exact_modes_agree_with_python(value):
    assert round_exact(value, Rounding.HALF_EVEN) == round(value)
    assert round_exact(value, Rounding.HALF_UP) == floor(value + Fraction(1, 2))
    assert round_exact(value, Rounding.HALF_ZERO) == -round_exact(-value, Rounding.HALF_ZERO)
    assert round_exact(value, Rounding.FLOOR) == -round_exact(-value, Rounding.CEIL)
    assert round_exact(value, Rounding.CEIL) == ceil(value)
    assert round_exact(value, Rounding.DOWN) == int(value)
    side = Rounding.HALF_UP if value < 0 else Rounding.HALF_EVEN
    assert round_exact(value, Rounding.HALF_DPU) == round_exact(value, side)
    assert abs(round_exact(value, Rounding.UP)) == ceil(abs(value))
    assert abs(round_exact(value, Rounding.HALF_AWAY)) == floor(abs(value) + Fraction(1, 2))


@given(st.floats(-(2.0**40), 2.0**40, width=64), st.sampled_from(Rounding))
def test_float64_arrays_round_as_exact_numbers_do(value, mode):
    assert round_array(np.array([value]), mode)[0] == round_exact(Fraction(value), mode)


@given(st.floats(-(2.0**26), 2.0**26, width=32), st.sampled_from(Rounding))
def test_float32_arrays_round_as_exact_numbers_do(value, mode):
    got = round_array(np.array([value], np.float32), mode)
    assert got.dtype == np.float32
    assert got[0] == round_exact(Fraction(value), mode)


@pytest.mark.parametrize("mode", Rounding)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("base", [0.5, 1.5, 2.5, 2.0**22 + 0.5])
def test_neighbours_of_ties_in_float32(mode, sign, base):
    """0.49999997 + 0.5 is 1 in float32: no mode may add a half."""
    tie = np.float32(base)
    around = [np.nextafter(tie, np.float32(0)), tie, np.nextafter(tie, np.float32(np.inf))]
    values = np.array(around, np.float32) * np.float32(sign)
    expected = [round_exact(Fraction(float(value)), mode) for value in values]
    assert round_array(values, mode).tolist() == expected


def test_nearest_modes_are_the_half_modes():
    nearest = {mode for mode in Rounding if mode.nearest}
    assert nearest == {mode for mode in Rounding if mode.value.startswith("half")}
    assert len(nearest) == 5
