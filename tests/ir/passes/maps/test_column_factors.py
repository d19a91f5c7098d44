from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.passes.maps.column_factors import Obstacle, multiply_columns

LIMITS = (-128, 127)


def weights(rows, steps=None) -> Weights:
    array = np.array(rows, np.int8)
    return Weights(array, 0, np.ones(len(array)) if steps is None else np.array(steps))


def columns(*factors, rows: int) -> np.ndarray:
    return np.repeat(np.array([factors], np.float64), rows, axis=0)


def real(found: Weights) -> list[list[Fraction]]:
    return [
        [int(value) * Fraction(float(step)) for value in row]
        for row, step in zip(found.array, found.steps, strict=True)
    ]


def test_common_factor_goes_into_the_step():
    found = multiply_columns(weights([[127, -128], [3, 0]]), columns(0.3, 0.3, rows=2), LIMITS)
    assert found.array.tolist() == [[127, -128], [3, 0]]
    assert np.allclose(found.steps, 0.3)


def test_each_row_has_its_own_factor_where_it_has_one_channel():
    found = multiply_columns(weights([[127, 0], [0, -128]]), columns(0.3, 7.1, rows=2), LIMITS)
    assert found.array.tolist() == [[127, 0], [0, -128]]
    assert np.allclose(found.steps, [0.3, 7.1])


def test_channels_without_weights_do_not_count():
    found = multiply_columns(weights([[100, 0, 7]]), columns(1, 0.123, 1, rows=1), LIMITS)
    assert found.array.tolist() == [[100, 0, 7]]


def test_row_that_is_too_large_is_divided_by_what_its_products_share():
    found = multiply_columns(weights([[64, 32]]), columns(1, 0.25, rows=1), LIMITS)
    assert real(found) == [[64, 8]]
    assert found.array.tolist() == [[8, 1]]


def test_row_of_zeros_stays():
    found = multiply_columns(weights([[0, 0]], [0.5]), columns(1, 0.3, rows=1), LIMITS)
    assert (found.array.tolist(), found.steps.tolist()) == ([[0, 0]], [0.5])


@pytest.mark.parametrize("factors", [(1, 0.5), (1, 0.7231), (1, 1e-30)])
def test_obstacle_names_the_channels(factors):
    rows = weights([[3, 0, 0], [127, 0, 99]])
    found = multiply_columns(rows, columns(1, 5, factors[1], rows=2), LIMITS)
    assert found == Obstacle((2, 0), (factors[1], 1.0))


def test_float_weights_are_multiplied():
    array = np.array([[[1.5]], [[-2.0]]], np.float32).reshape(1, 2, 1)
    found = multiply_columns(Weights(array, 0, None), columns(0.5, 3.0, rows=1), LIMITS)
    assert found.array.reshape(-1).tolist() == [0.75, -6.0]
    assert found.array.dtype == np.float32


ratios = st.builds(Fraction, st.integers(1, 40), st.integers(1, 40))


@given(
    st.lists(st.lists(st.integers(-128, 127), min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(ratios, min_size=3, max_size=3),
    st.integers(-20, 20),
)
@example([[0, 17, 1]], [Fraction(1), Fraction(1, 17), Fraction(17)], 0)
def test_products_are_exact_or_impossible(rows, factors, power):
    factors = [factor * Fraction(2) ** power for factor in factors]
    found = multiply_columns(weights(rows), columns(*map(float, factors), rows=len(rows)), LIMITS)
    wanted = [[value * factor for value, factor in zip(row, factors, strict=True)] for row in rows]
    if isinstance(found, Obstacle):
        assert any(not representable(row) for row in wanted)
        return
    for got, exact in zip(real(found), wanted, strict=True):
        for one, other in zip(got, exact, strict=True):
            assert abs(one - other) <= abs(other) * Fraction(1, 10**12)
    assert all(representable(row) for row in wanted)


def representable(row: list[Fraction]) -> bool:
    """True if some step makes 8-bit integers of every value."""
    values = [value for value in row if value]
    if not values:
        return True
    denominator = np.lcm.reduce([value.denominator for value in values])
    whole = [int(value * int(denominator)) for value in values]
    unit = int(np.gcd.reduce(whole))
    return LIMITS[0] <= min(whole) // unit and max(whole) // unit <= LIMITS[1]
