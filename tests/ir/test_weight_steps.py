import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.formats import ReciprocalDyadic
from dlaconv.ir.weight_steps import exact_step, exact_steps, grid_steps


@given(st.integers(-30, 10), st.integers(1, 255))
def test_weight_steps_are_the_grid_values_their_float32_stands_for(n, a):
    for step in (ReciprocalDyadic(n, a).step, Fraction(a) * Fraction(2) ** n):
        assert exact_step(float(np.float32(float(step)))) == step


@pytest.mark.parametrize("value", [0.1234567, 0.0031415926])
def test_weight_steps_off_both_grids_stand_for_themselves(value):
    literal = float(np.float32(value))
    assert exact_step(literal) == Fraction(literal)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_weight_steps_are_positive_and_finite(value):
    with pytest.raises(ValueError, match="positive and finite"):
        exact_step(value)


@given(st.lists(st.floats(2.0**-40, 2.0**20), max_size=5), st.lists(st.integers(1, 255)))
def test_steps_in_float64_are_the_exact_ones_rounded(values, divisors):
    scales = np.array([*values, *np.float32(0.25) / np.float32(divisors)], np.float32)
    assert grid_steps(scales).tolist() == [float(step) for step in exact_steps(scales)]
