"""The exact formats against Python integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.formats import PowerOfTwo, QFormat, ReciprocalDyadic, Threshold, integer_range

positive = st.floats(1e-30, 1e30)


@given(st.integers(1, 64), st.booleans(), st.booleans())
def test_ranges_hold_two_to_the_bits_codes_less_one_when_narrow(bits, signed, narrow):
    low, high = integer_range(bits, signed=signed, narrow=narrow)
    assert high - low + 1 == 2**bits - narrow
    assert low == (narrow - 2 ** (bits - 1) if signed else 0)


def test_ranges_need_a_bit():
    with pytest.raises(ValueError, match="at least 1 bit"):
        integer_range(0, signed=True)


@given(st.integers(1, 32), st.integers(-20, 40), st.booleans())
def test_q_formats_are_written_and_read_back(bits, frac, signed):
    q = QFormat(bits, frac, signed)
    assert QFormat.parse(str(q)) == q
    assert q.step * Fraction(2) ** frac == 1
    assert q.range == integer_range(bits, signed=signed)


@pytest.mark.parametrize("text", ["8.5", "s8", "s8.x", "", "s8.5 "])
def test_other_texts_are_no_q_formats(text):
    with pytest.raises(ValueError, match="not a Q format"):
        QFormat.parse(text)


def test_the_largest_integer_of_a_threshold_stands_for_it():
    q = Threshold(8, Fraction(3, 7))
    assert q.range[1] * q.step == Fraction(3, 7)
    assert Threshold(6, Fraction(31)).step == 1


@given(positive)
def test_powers_of_two_enclose_a_value(value):
    above = PowerOfTwo.at_least(value)
    assert above.step >= Fraction(value) > above.step / 2
    near = PowerOfTwo.nearest(value)
    assert abs(near.n - math.log2(value)) <= 0.5 + 1e-9


@given(st.integers(-140, 120))
def test_powers_of_two_are_recognised(n):
    assert PowerOfTwo.exactly(2.0**n) == PowerOfTwo(n)
    assert PowerOfTwo.nearest(2.0**n) == PowerOfTwo.at_least(2.0**n) == PowerOfTwo(n)
    assert PowerOfTwo.exactly(3 * 2.0**n) is None
    assert PowerOfTwo.exactly(-(2.0**n)) is None
    assert PowerOfTwo.exactly(Fraction(1, 3) * Fraction(2) ** n) is None


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_no_power_of_two(value):
    assert PowerOfTwo.exactly(value) is None


@given(st.integers(-60, 60), st.integers(1, 255))
def test_equal_reciprocal_dyadics_are_equal_objects(n, a):
    q = ReciprocalDyadic(n, a)
    assert q.a % 2 == 1
    assert q.step == Fraction(2) ** n / a
    if 2 * a <= 255:
        assert q == ReciprocalDyadic(n + 1, 2 * a)


@pytest.mark.parametrize("a", [0, 256, -1])
def test_reciprocal_dyadics_divide_by_8_bits(a):
    with pytest.raises(ValueError, match=r"1\.\.255"):
        ReciprocalDyadic(0, a)


@given(positive)
def test_the_nearest_reciprocal_dyadic_is_the_best_of_all(value):
    exact = Fraction(value)
    near = ReciprocalDyadic.nearest(value)
    exponent = math.frexp(value)[1]
    steps = [Fraction(2) ** (exponent + shift) / a for shift in (6, 7) for a in range(1, 256)]
    best = min(abs(step / exact - 1) for step in steps)
    assert abs(near.step / exact - 1) <= best + Fraction(1, 10**12)
    assert abs(near.step / exact - 1) <= Fraction(1, 256)


@given(positive)
def test_the_reciprocal_dyadic_above_is_the_next_one(value):
    exact = Fraction(value)
    above = ReciprocalDyadic.at_least(value)
    assert 1 <= above.step / exact <= 1 + Fraction(1, 127)
    assert above in ReciprocalDyadic.neighbours(value)


@given(st.integers(-100, 100), st.integers(1, 255))
def test_grid_values_survive_float32(n, a):
    """2^n/a is inexact in float32 for most ``a``, and still decoded uniquely."""
    q = ReciprocalDyadic(n, a)
    assert ReciprocalDyadic.nearest(float(np.float32(float(q.step)))) == q
    assert ReciprocalDyadic.at_least(float(q.step)).step / q.step < 1 + Fraction(1, 120)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_steps_are_positive_and_finite(value):
    for choose in (PowerOfTwo.nearest, PowerOfTwo.at_least, ReciprocalDyadic.nearest):
        with pytest.raises(ValueError, match="positive and finite"):
            choose(value)
