"""`Quantisation` as a value, and its arithmetic against exact numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.formats import integer_range
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding, round_exact


@given(st.integers(1, 32), st.booleans(), st.booleans())
def test_bits_sign_and_narrow_are_read_off_the_range(bits, signed, narrow):
    if bits == 1 or (bits == 2 and not signed):  # too small for all four to be told apart
        return
    q = Quantisation.of(0.5, bits, signed=signed, narrow=narrow)
    assert (q.bits, q.signed, q.narrow) == (bits, signed, narrow)
    assert (q.qmin, q.qmax) == integer_range(bits, signed=signed, narrow=narrow)


@given(
    st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=20),
    st.integers(-6, 3),
    st.sampled_from(Rounding),
    st.integers(-3, 3),
)
def test_integers_are_rounded_once_and_clipped(values, n, mode, zero_point):
    q = Quantisation.of(2.0**n, 8, rounding=mode, zero_point=zero_point)
    x = np.array(values, np.float32)
    scaled = [Fraction(float(value)) / Fraction(2) ** n + zero_point for value in x]
    expected = [min(127, max(-128, round_exact(value, mode))) for value in scaled]
    exact = [Fraction(float(np.float32(float(value)))) == value for value in scaled]
    got = q.integers(x)
    for integer, want, representable in zip(got, expected, exact, strict=True):
        assert integer == want or not representable
    np.testing.assert_array_equal(q.reals(got), (got - zero_point) * np.float32(2.0**n))


@pytest.mark.parametrize("mode", Rounding)
def test_formats_above_24_bits_are_computed_in_double(mode):
    q = Quantisation.of(1.0, 32, rounding=mode)
    got = q.integers(np.array([2.0**31, -(2.0**31), 2.0**24 + 2], np.float32))
    assert got.tolist() == [2**31 - 1, -(2**31), 2**24 + 2]


def test_steps_per_channel_broadcast():
    q = Quantisation.of(np.array([1.0, 0.5]).reshape(1, 2, 1, 1))
    x = np.full((1, 2, 1, 1), 3.0, np.float32)
    assert q.integers(x).ravel().tolist() == [3, 6]
    assert not q.per_tensor
    assert str(q) == "s8 step per channel (2)"
    with pytest.raises(ValueError, match="reshape"):
        _ = q.scalar_step


@pytest.mark.parametrize("step", [0.0, -1.0, np.inf, np.nan, [1.0, 0.0]])
def test_steps_are_positive_and_finite(step):
    with pytest.raises(ValueError, match="positive and finite"):
        Quantisation.of(np.array(step))


def test_one_grid_is_the_same_points_whatever_the_shape():
    a = Quantisation.of(np.array([0.5]))
    assert a.same_grid(Quantisation.of(0.5))
    assert not a.same_grid(Quantisation.of(0.25))
    assert not a.same_grid(Quantisation.of(0.5, signed=False))
    assert not a.same_grid(Quantisation.of(0.5, zero_point=1.0))
    assert a.same_grid(a.with_step(0.25).with_step(0.5))


def test_str_names_format_and_step():
    assert str(Quantisation.of(0.5, 4, signed=False)) == "u4 step 0.5"
    q = Quantisation.of(0.25, 8, narrow=True, zero_point=3.0)
    assert str(q) == "s8 narrow asymmetric step 0.25"
