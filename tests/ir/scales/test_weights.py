import numpy as np
import pytest

from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.weights import (
    LinearScaling,
    scale_gains,
    scale_integers,
    scale_reals,
    scale_row_gains,
)
from dlaconv.ir.target import Target

TARGET = Target.load()
GRID = WeightGrid.RECIPROCAL
PLAIN = LinearScaling(step_in=2.0**-5, step_out=2.0**-3, gamma_in=1.0, gamma_out=1.0)


def integers(*rows):
    return np.array(rows, np.int8)


def test_power_of_two_steps_and_integers_stay_as_they_are():
    w = integers([1, -128], [127, 3])
    got = scale_integers(w, np.array([2.0**-6, 2.0**-8]), None, PLAIN, TARGET, GRID)
    assert np.array_equal(got.integers, w)
    assert np.array_equal(got.steps, [2.0**-6, 2.0**-8])
    assert not got.requantised.any()


def test_step_absorbs_the_ratio_of_the_two_gammas():
    scaling = LinearScaling(2.0**-5, 2.0**-3, gamma_in=1.25, gamma_out=0.8)
    w = integers([5, -7])
    got = scale_integers(w, np.array([0.01]), None, scaling, TARGET, GRID)
    assert got.ideal == pytest.approx([0.01 * 0.8 / 1.25])
    assert abs(got.steps[0] / got.ideal[0] - 1) <= 1 / 256
    assert np.array_equal(got.integers, w)


def test_bias_is_rounded_from_the_source_step_not_from_the_grid_step():
    step = 0.0123  # the nearest 2^n/a is 0.2 % away
    bias = np.array([30000.0]) * step * PLAIN.step_in
    got = scale_integers(integers([100]), np.array([step]), bias, PLAIN, TARGET, GRID)
    assert got.steps[0] != got.ideal[0]
    assert got.bias == [30000]


@pytest.mark.parametrize("sign", [1, -1])
def test_bias_guard_widens_only_the_channel_whose_bias_overflows(sign):
    steps = np.array([2.0**-8, 2.0**-8])
    unit = 2.0**-8 * PLAIN.step_in
    w = integers([100, -50], [100, -50])
    bias = np.array([sign * 65534.0, 20000.0]) * unit
    got = scale_integers(w, steps, bias, PLAIN, TARGET, GRID)
    assert list(got.guarded) == [True, False]
    assert list(got.requantised) == [True, False]
    assert abs(got.bias[0]) <= 32768
    assert got.bias[0] * got.steps[0] * PLAIN.step_in == pytest.approx(bias[0], rel=1e-4)
    assert np.allclose(got.integers[0] * got.steps[0], w[0] * steps[0], atol=got.steps[0] / 2)
    assert np.array_equal(got.integers[1], w[1])


def test_the_most_negative_bias_needs_no_guard():
    bias = np.array([-32768.0]) * 2.0**-8 * PLAIN.step_in
    got = scale_integers(integers([100]), np.array([2.0**-8]), bias, PLAIN, TARGET, GRID)
    assert not got.guarded.any()
    assert got.bias == [-32768]


def test_integers_beyond_8_bits_are_requantised_and_reported():
    w = np.array([[128, -3], [100, 3]], np.int16)
    got = scale_integers(w, np.full(2, 2.0**-7), None, PLAIN, TARGET, GRID)
    assert list(got.requantised) == [True, False]
    assert list(got.guarded) == [False, False]
    assert got.integers[0, 0] * got.steps[0] == pytest.approx(1.0, rel=1 / 200)


def test_all_zero_channel_gets_a_finite_ordinary_step():
    w = integers([0, 0], [100, -100])
    got = scale_integers(w, np.array([1e-13, 2.0**-7]), np.array([0.5, 0.0]), PLAIN, TARGET, GRID)
    assert got.steps[0] == got.steps[1] == 2.0**-7
    assert got.bias[0] == round(0.5 / (2.0**-7 * PLAIN.step_in))
    assert not got.requantised.any()


def test_dead_channel_is_raised_to_the_smallest_shift_and_keeps_no_effect():
    got = scale_integers(integers([100, -3]), np.array([7.9e-13]), None, PLAIN, TARGET, GRID)
    multiplier = got.steps[0] * PLAIN.step_in / PLAIN.step_out
    assert multiplier >= 2.0**-31
    assert np.abs(got.integers).max() * 127 * multiplier < 1e-3


def test_float_weights_use_the_grid_step_that_holds_them():
    weights = np.array([[0.5, -1.0], [0.0, 0.0], [1e-3, 2e-3]], np.float32)
    got = scale_reals(weights, np.zeros(3), PLAIN, TARGET, GRID)
    assert np.abs(got.integers).max() <= 127
    assert np.isfinite(got.steps).all()
    assert np.abs(got.integers * got.steps[:, None] - weights).max() <= got.steps[0] / 2
    assert got.integers[2].max() >= 126


@pytest.mark.parametrize("pattern", [np.ones((5, 1)), np.eye(5), -np.eye(5)])
def test_each_row_of_gains_is_met_on_its_own(pattern):
    gains = np.array([0.013, 1.0, 0.77, 0.013, 3.21])
    got = scale_row_gains(pattern.astype(np.int8), gains, None, PLAIN, TARGET, GRID)
    made = got.integers * got.steps[:, None]
    assert np.abs(made - pattern * gains[:, None]).max() < 1e-3 * gains.max()
    assert np.array_equal(got.integers[1], pattern[1])  # a power of two keeps its ones
    assert got.steps[1] == 1


@pytest.mark.parametrize("grid", WeightGrid)
@pytest.mark.parametrize("reach", [None, 1e-2, 1e3])
def test_rows_of_one_gain_are_scaled_as_a_layer_of_them_alone_would_be(grid, reach):
    random = np.random.default_rng(6)
    gains = np.exp(random.normal(0, 3, 90))[random.integers(0, 90, 200)]
    pattern = random.choice([-1, 1], (200, 1, 1, 1)).astype(np.int8)
    bias = None if reach is None else random.normal(0, reach, 200)
    got = scale_row_gains(pattern, gains, bias, PLAIN, TARGET, grid)
    for gain in np.unique(gains):
        rows = gains == gain
        offsets = None if bias is None else bias[rows]
        wanted = scale_gains(pattern[rows], np.array([gain]), offsets, PLAIN, TARGET, grid)
        for name in ("integers", "steps", "ideal", "bias", "bias_error"):
            one, other = getattr(got, name), getattr(wanted, name)
            assert (one is None and other is None) or np.array_equal(one[rows], other)


@pytest.mark.parametrize("bias", [1.0, -1.0, 40.0])
def test_gains_leave_the_bias_its_16_bits(bias):
    gain, ones = 0.0123, np.ones((1, 1), np.int8)
    offsets = np.array([bias])
    got = scale_row_gains(ones, np.array([gain]), offsets, PLAIN, TARGET, GRID)
    unit = got.steps[0] * PLAIN.step_in
    assert abs(got.bias[0]) < 32767
    assert got.bias[0] * unit == pytest.approx(bias, abs=unit)
    assert got.integers[0, 0] * got.steps[0] == pytest.approx(gain, rel=4e-3 if bias < 9 else 1)


def test_a_bias_beyond_all_gains_decides_the_step():
    ones, bias = np.ones((2, 1), np.int8), np.array([1e6, 0.0])
    got = scale_row_gains(ones, np.array([0.5, 0.25]), bias, PLAIN, TARGET, GRID)
    assert got.bias[0] * got.steps[0] * PLAIN.step_in == pytest.approx(1e6, rel=1e-3)
    assert got.integers[0] == 0
    assert got.integers[1] * got.steps[1] == 0.25


def test_weights_of_many_blocks_are_rounded_as_one():
    weights = np.random.default_rng(2).normal(size=(37, 4001)).astype(np.float32)
    scaling = LinearScaling(2.0**-5, 2.0**-3, gamma_in=1.25, gamma_out=0.8)
    got = scale_reals(weights, None, scaling, TARGET, GRID)
    wanted = np.rint(weights * (scaling.ratio / got.steps)[:, None])
    assert np.array_equal(got.integers, np.clip(wanted, -128, 127))
    assert got.integers.dtype == np.int8
