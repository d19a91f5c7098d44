"""Stored floats back to integers, in both conventions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.backends.access import decoding
from dlaconv.ir.formats import ReciprocalDyadic

WEIGHTS = (-128, 127)

grid = st.builds(ReciprocalDyadic, st.integers(-24, 8), st.integers(1, 255))
conventions = st.sampled_from(decoding.CONVENTIONS)


def stored(integers: np.ndarray, attribute: np.ndarray, convention: str) -> np.ndarray:
    """What a writer puts into the file, in float32."""
    step = attribute.astype(np.float64)
    step = step if convention == "guide" else 1 / step
    return (integers * step[:, None]).astype(np.float32)


@given(st.lists(grid, min_size=1, max_size=6), conventions, st.integers(0, 2**32 - 1))
def test_integers_and_steps_come_back_exactly(formats, convention, seed):
    integers = np.random.default_rng(seed).integers(-128, 128, (len(formats), 9))
    attribute = np.asarray([float(item.step) for item in formats], np.float32)
    decoded = decoding.decode_weights(
        stored(integers, attribute, convention), attribute, convention
    )
    assert np.array_equal(decoded.integers, integers)
    assert decoded.facts.residual.max() < 1e-4
    exact = [float(item.step if convention == "guide" else 1 / item.step) for item in formats]
    assert list(decoded.steps) == exact


@given(st.lists(grid, min_size=1, max_size=6), conventions, st.integers(-32768, 32767))
def test_bias_integers_come_back_exactly(formats, convention, integer):
    attribute = np.asarray([float(item.step) for item in formats], np.float32)
    steps = decoding.float_steps(attribute, convention)
    bias = (integer * steps * 2.0**-5).astype(np.float32)
    decoded = decoding.decode_bias(bias, steps, 2.0**-5)
    assert (decoded.integers == integer).all()
    assert (decoded.residual <= decoded.tolerance).all()


def test_unusable_scales_spoil_their_channel_only():
    scales = np.asarray([0.5, 0.0, -1.0, np.inf, np.nan])
    decoded = decoding.decode_weights(np.ones((5, 2), np.float32), scales, "guide")
    assert decoded.usable.tolist() == [True, False, False, False, False]
    assert decoded.integers.tolist() == [[2, 2]] + [[0, 0]] * 4
    assert decoded.facts.residual.tolist() == [0.0] + [np.inf] * 4
    assert decoded.steps[0] == 0.5
    assert np.isnan(decoded.steps[1:]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_values_that_are_no_numbers_have_an_infinite_residual(value):
    decoded = decoding.decode_weights(np.asarray([[value, 1.0]]), np.asarray([0.5]), "guide")
    assert decoded.facts.residual.tolist() == [np.inf]
    assert decoded.integers.tolist() == [[0, 2]]


def test_the_residual_is_the_distance_of_the_worst_value():
    weights = np.asarray([[1.0, 2.25, -3.4]])
    decoded = decoding.decode_weights(weights, np.asarray([1.0]), "guide")
    assert decoded.facts.residual == pytest.approx([0.4])


@pytest.mark.parametrize("shape", [(3, 4), ()])
def test_the_number_of_scales_must_be_that_of_the_channels(shape):
    with pytest.raises(ValueError, match="2 scales for"):
        decoding.decode_weights(np.ones(shape), np.ones(2), "guide")
    with pytest.raises(ValueError, match="3 bias values for 2"):
        decoding.decode_bias(np.ones(3), np.ones(2), 1.0)


def test_empty_channels_are_integers():
    decoded = decoding.decode_weights(np.ones((2, 0)), np.ones(2), "guide")
    assert decoded.facts.residual.tolist() == [0.0, 0.0]


def test_step_sizes_are_exact():
    assert decoding.step_size(0.125, "guide") == Fraction(1, 8)
    assert decoding.step_size(0.125, "int-per-real") == 8


@given(grid)
def test_grid_values_are_on_the_grid_after_float32(item):
    value = np.asarray([np.float32(float(item.step))])
    assert decoding.grid_error(value, (1, 255))[0] <= 2.0**-23


@given(st.floats(1e-30, 1e30))
def test_the_grid_error_is_that_of_the_nearest_format(value):
    near = float(ReciprocalDyadic.nearest(value).step)
    error = decoding.grid_error(np.asarray([value]), (1, 255))[0]
    assert error == pytest.approx(abs(near / value - 1), rel=1e-6, abs=1e-15)


def test_known_field_scales_are_off_the_grid():
    error = decoding.grid_error(np.asarray([814.1691, 157.8766]), (1, 255))
    assert error == pytest.approx([7.0e-5, 2.1e-3], rel=0.05)


def test_a_smaller_divisor_makes_a_coarser_grid():
    third, fifth = decoding.grid_error(np.asarray([1 / 3, 1 / 5]), (1, 3))
    assert third < 1e-15
    assert fifth > 0.1


@given(st.lists(grid, min_size=1, max_size=6), conventions, st.integers(0, 2**32 - 1))
def test_detection_never_finds_the_wrong_convention(formats, convention, seed):
    integers = np.random.default_rng(seed).integers(-128, 128, (len(formats), 9))
    attribute = np.asarray([float(item.step) for item in formats], np.float32)
    weights = stored(integers, attribute, convention)
    found, evidence = decoding.detect_convention([(weights, attribute)], WEIGHTS)
    assert found in {convention, None}
    assert "channels" in evidence


@pytest.mark.parametrize("convention", decoding.CONVENTIONS)
def test_detection_finds_the_convention_of_ordinary_weights(convention):
    rng = np.random.default_rng(0)
    integers = rng.integers(-127, 128, (32, 144))
    attribute = np.asarray([2.0**-3 / a for a in rng.integers(128, 255, 32)], np.float32)
    if convention == "int-per-real":
        attribute = (1 / attribute * 2.0**-7).astype(np.float32)
    found, _ = decoding.detect_convention(
        [(stored(integers, attribute, convention), attribute)], WEIGHTS
    )
    assert found == convention


def test_rounding_to_zero_is_no_evidence():
    # int-per-real file with large scales: W / attribute is nearly 0 everywhere, an "integer"
    attribute = np.full(4, 814.1691)
    weights = stored(np.full((4, 9), 100), attribute, "int-per-real")
    found, _ = decoding.detect_convention([(weights, attribute)], WEIGHTS)
    assert found == "int-per-real"


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [(np.zeros((4, 9)), np.full(4, 0.5))],
        [(np.ones((4, 9)), np.ones(4))],
        [(np.full((4, 9), np.pi), np.ones(4))],
        [(np.ones((4, 9)), np.ones(3))],
        [(np.ones(()), np.ones(1))],
    ],
    ids=["none", "zeros", "scale 1", "no integers", "wrong count", "scalar"],
)
def test_weights_that_do_not_tell_leave_the_convention_open(layers):
    assert decoding.detect_convention(layers, WEIGHTS)[0] is None


def test_the_majority_of_channels_decides():
    guide = (np.full((3, 4), 0.75), np.full(3, 0.25 / 3))
    other = (np.full((1, 4), 9 / 814.0), np.full(1, 814.0))
    assert decoding.detect_convention([guide, other], WEIGHTS)[0] == "guide"


def test_channels_that_vanish_under_the_wrong_convention_are_marked():
    attribute = np.full(2, 2.0**-9 / 3)
    weights = stored(np.asarray([[1, 100], [0, 0]]), attribute, "guide")
    right = decoding.decode_weights(weights, attribute, "guide")
    wrong = decoding.decode_weights(weights, attribute, "int-per-real")
    assert right.facts.vanished.tolist() == [False, False]
    assert wrong.facts.vanished.tolist() == [True, False]
