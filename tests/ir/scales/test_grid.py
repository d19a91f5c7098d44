from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.formats import ReciprocalDyadic
from dlaconv.ir.scales.grid import WeightGrid

values = st.floats(1e-12, 1e6)


def on_grid(step: float, grid: WeightGrid) -> bool:
    """True if a step is 2^n/a (or a/2^n) with a in 1..255, judged on its reciprocal's odd part."""
    exact = Fraction(step) if grid is WeightGrid.DYADIC else None
    if exact is not None:
        odd = exact.numerator
        while odd % 2 == 0:
            odd //= 2
        return odd <= 255
    return abs(float(ReciprocalDyadic.nearest(step).step) / step - 1) < 1e-15


@pytest.mark.parametrize("grid", WeightGrid)
@given(value=values)
def test_nearest_step_is_on_the_grid_and_at_most_half_a_spacing_away(grid, value):
    step = float(grid.nearest(np.array([value]))[0])
    assert on_grid(step, grid)
    assert abs(step / value - 1) <= 1 / 256 + 1e-12


@pytest.mark.parametrize("grid", WeightGrid)
@given(value=values)
def test_raised_step_is_on_the_grid_and_not_below(grid, value):
    step = float(grid.at_least(np.array([value]))[0])
    assert on_grid(step, grid)
    assert value <= step <= value * (1 + 1 / 128 + 1e-12)


@given(value=values)
def test_no_other_reciprocal_is_nearer(value):
    chosen = float(WeightGrid.RECIPROCAL.nearest(np.array([value]))[0])
    exponent = int(np.floor(np.log2(value)))
    others = [2.0**n / a for n in range(exponent, exponent + 10) for a in range(1, 256)]
    best = min(abs(other - value) for other in others)
    assert abs(chosen - value) <= best * (1 + 1e-9) + 1e-18


@pytest.mark.parametrize("grid", WeightGrid)
@pytest.mark.parametrize("exponent", [-30, -7, 0, 5])
def test_powers_of_two_stay(grid, exponent):
    value = np.array([2.0**exponent])
    assert grid.nearest(value) == value
    assert grid.at_least(value) == value
