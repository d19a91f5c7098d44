import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.snap import snap_to_cover, snap_to_least_error, snap_to_nearest
from dlaconv.ir.scales.weights import LinearScaling, ScaledWeights
from dlaconv.ir.target import Target

TARGET = Target.load()
GRID = WeightGrid.RECIPROCAL
PLAIN = LinearScaling(step_in=2.0**-5, step_out=2.0**-3, gamma_in=1.0, gamma_out=1.0)
SNAPS = (snap_to_nearest, snap_to_cover, snap_to_least_error)

every_snap = pytest.mark.parametrize("snap", SNAPS)
every_grid = pytest.mark.parametrize("grid", WeightGrid)


def integers(*rows):
    return np.array(rows, np.int8)


def squared_error(got: ScaledWeights, wanted: np.ndarray) -> np.ndarray:
    """Per channel, by definition."""
    steps = got.steps.reshape(-1, *[1] * (wanted.ndim - 1))
    return np.square(got.integers * steps - wanted).reshape(len(wanted), -1).sum(axis=1)


def all_steps(low: float, high: float, grid: WeightGrid) -> list[float]:
    """Every grid step in an interval, written down from its definition."""
    exponents = range(int(np.floor(np.log2(low))) - 1, int(np.ceil(np.log2(high))) + 10)
    if grid is WeightGrid.RECIPROCAL:
        steps = {2.0**n / a for n in exponents for a in range(1, 256)}
    else:
        steps = {a * 2.0 ** (n - 9) for n in exponents for a in range(1, 256)}
    return sorted(step for step in steps if low <= step <= high)


@pytest.mark.parametrize(("snap", "step"), [(snap_to_nearest, 2.0**-7), (snap_to_cover, 2.0**-6)])
def test_steps_go_to_powers_of_two_and_weights_are_rounded_anew(snap, step):
    got = snap(integers([100, -50]), np.array([0.011]), None, PLAIN, TARGET, GRID)
    assert got.steps == [step]
    expected = np.clip(np.rint(np.array([100, -50]) * 0.011 / step), -128, 127)
    assert list(got.integers[0]) == list(expected)
    assert got.requantised.all()
    assert got.ideal == [step]


@given(st.floats(1e-9, 1e3))
def test_ceil_takes_the_smallest_power_of_two_not_below(step):
    got = snap_to_cover(integers([127, -128]), np.array([step]), None, PLAIN, TARGET, GRID)
    raised = PLAIN.step_out / PLAIN.step_in * 2.0**-31
    assert np.frexp(got.steps[0])[0] == 0.5
    assert max(step, raised) <= got.steps[0] < 2 * max(step, raised)
    assert np.abs(got.integers * got.steps[0] - np.array([127, -128]) * step).max() <= got.steps / 2


@every_snap
def test_steps_that_the_grid_has_stay_and_so_do_the_integers(snap):
    w = integers([1, -128], [127, 3])
    got = snap(w, np.array([2.0**-6, 2.0**-8]), None, PLAIN, TARGET, GRID)
    assert np.array_equal(got.integers, w)
    assert np.array_equal(got.steps, [2.0**-6, 2.0**-8])
    assert np.array_equal(got.steps, got.ideal)
    assert not got.requantised.any()


@every_snap
def test_channels_whose_integers_stay_are_rescaled_and_not_requantised(snap):
    w = integers([1, -1, 0], [100, -99, 98])  # ternary channels survive any step near their own
    got = snap(w, np.array([0.0076, 0.0091]), None, PLAIN, TARGET, GRID)
    same = (got.integers == w).all(axis=1)
    assert np.array_equal(got.requantised, ~same)
    assert np.allclose(got.ideal[same], np.array([0.0076, 0.0091])[same])
    assert np.array_equal(got.ideal[~same], got.steps[~same])


@every_snap
@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_integers_beyond_8_bits_are_covered(snap, kind):
    w = np.array([[1000, -3, 400]], kind)
    got = snap(w, np.array([2.0**-10]), None, PLAIN, TARGET, GRID)
    largest_error = got.steps[0] / 2 if snap is not snap_to_nearest else 0.3 * 1000 * 2.0**-10
    assert np.abs(got.integers * got.steps[0] - w * 2.0**-10).max() <= largest_error


@every_snap
def test_float_weights_are_quantised_and_not_called_requantised(snap):
    weights = np.array([[0.5, -1.0], [0.0, 0.0], [1e-3, 2e-3]], np.float32)
    got = snap(weights, None, np.zeros(3), PLAIN, TARGET, GRID)
    assert np.isfinite(got.steps).all()
    assert not got.requantised.any()
    assert np.array_equal(got.steps, got.ideal)
    assert np.abs(got.integers * got.steps[:, None] - weights).max() <= 0.3


@every_snap
def test_dead_channels_get_a_finite_ordinary_step(snap):
    w = integers([0, 0], [100, -100])
    got = snap(w, np.array([1e-13, 2.0**-7]), np.array([0.5, 0.0]), PLAIN, TARGET, GRID)
    assert got.steps[0] == got.steps[1] == 2.0**-7
    assert got.bias[0] == round(0.5 / (2.0**-7 * PLAIN.step_in))
    assert not got.requantised.any()


@every_snap
@every_grid
def test_bias_guard_raises_the_step_to_what_the_policy_may_use(snap, grid):
    bias = np.array([100_000.0, 10.0]) * 0.011 * PLAIN.step_in
    got = snap(integers([100, -50], [100, -50]), np.full(2, 0.011), bias, PLAIN, TARGET, grid)
    assert list(got.guarded) == [True, False]
    assert got.steps[0] >= 0.011 * 100_000 / 32768
    assert got.bias[0] * got.steps[0] * PLAIN.step_in == pytest.approx(bias[0], rel=1e-4)
    if snap is not snap_to_least_error:
        assert (np.frexp(got.steps)[0] == 0.5).all()


@every_snap
def test_steps_are_not_too_small_for_the_shift(snap):
    got = snap(integers([100, -3]), np.array([7.9e-13]), None, PLAIN, TARGET, GRID)
    assert got.steps[0] * PLAIN.step_in / PLAIN.step_out >= 2.0**-31


@every_grid
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_step_has_a_smaller_error_for_integers(grid, bits, seed):
    random = np.random.default_rng(seed)
    high = 2 ** (bits - 1) - 1
    w = np.clip(np.rint(random.normal(size=(6, 90)) * high / 3), -high - 1, high).astype(np.int8)
    steps = random.uniform(0.003, 0.03, 6)
    got = snap_to_least_error(w, steps, None, PLAIN, TARGET, grid)
    assert_least(got, w * steps[:, None], steps, grid)


@every_grid
@pytest.mark.parametrize(("count", "slack"), [(9, 1 + 1e-9), (500, 1 + 1e-9), (5000, 1.01)])
def test_no_other_step_has_a_smaller_error_for_float_weights(grid, count, slack):
    """With many weights, up to the intervals in which they are gathered."""
    weights = np.random.default_rng(count).laplace(size=(6, count)) * 0.01
    got = snap_to_least_error(weights, None, None, PLAIN, TARGET, grid)
    cover = np.abs(weights).max(axis=1) / 127
    assert_least(got, weights, cover, grid, slack)


def assert_least(got, wanted, natural, grid, slack=1.0 + 1e-9):
    errors = squared_error(got, wanted)
    for channel, row in enumerate(wanted):
        cover = np.abs(row).max() / 127
        tried = all_steps(cover / 3, 2 * natural[channel], grid)
        assert len(tried) > 100
        least = min(
            np.square(np.clip(np.rint(row / step), -128, 127) * step - row).sum() for step in tried
        )
        assert errors[channel] <= least * slack + 1e-18


def test_outliers_are_clipped_only_if_the_others_gain_more():
    many = np.full((1, 60_000), 0.37)
    many[0, ::2] = -0.211
    many[0, 0] = 1.0  # one in 60,000
    few = many[:, :30]
    assert snap_to_least_error(few, None, None, PLAIN, TARGET, GRID).steps[0] >= 1 / 127.5
    got = snap_to_least_error(many, None, None, PLAIN, TARGET, GRID)
    assert np.abs(got.integers).max() <= 127
    assert squared_error(got, many) < squared_error(
        snap_to_cover(many, None, None, PLAIN, TARGET, GRID), many
    )


@every_grid
@given(value=st.floats(1e-9, 1e6))
def test_the_ladder_names_every_grid_step_in_descending_order(grid, value):
    steps = grid.ladder(np.array([value]), 300)[0]
    assert steps[0] == grid.at_least(np.array([value]))[0]
    assert (np.diff(steps) < 0).all()
    known = all_steps(steps[-1] * (1 - 1e-12), steps[0] * (1 + 1e-12), grid)
    assert np.allclose(steps[::-1], known, rtol=1e-15, atol=0)
