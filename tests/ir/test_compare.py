import math

import numpy as np
import pytest

from dlaconv.ir.compare import Comparison, Difference, MapRow, in_units, summed_errors


def about(**settings):
    settings = {"real_step": 0.5, "qmin": -128, "qmax": 127, **settings}
    return Comparison("map", "layer", settings.pop("fidelity", "exact"), **settings)


def difference(wanted, got, **settings):
    found = Difference()
    found.add(np.asarray(wanted, np.float64), np.asarray(got, np.float64), about(**settings))
    return found


def test_the_nearest_integer_of_a_value_between_two_does_not_differ():
    found = difference([0.5, 1.25, -3.0], [0, 1, -3])
    assert (found.differing, found.largest) == (0, 0.5)


def test_other_integers_are_counted_with_the_largest_distance():
    found = difference([0, 1, 2, 3], [0, 2, 2, 5])
    assert (found.count, found.differing, found.largest) == (4, 2, 2.0)


def test_values_beyond_the_range_of_the_hardware_are_clipped_not_off():
    found = difference([200, -200, 5], [127, -128, 5])
    assert (found.clipped, found.largest) == (2, 0.0)


def test_values_that_only_the_source_clips_are_beyond_not_off():
    found = difference([7, -7, 7, 3], [40, -40, 5, 3], clip=(-7, 7))
    assert (found.beyond, found.largest) == (2, 2.0)


def test_qsnr_and_cosine_are_those_of_their_definitions():
    wanted, got = np.array([3.0, 4.0]), np.array([3.0, 5.0])
    found = difference(wanted, got)
    assert found.qsnr_db == pytest.approx(10 * math.log10(25 / 1))
    assert found.cosine == pytest.approx(29 / math.sqrt(25 * 34))
    assert difference(wanted, wanted).as_json()["qsnr_db"] is None
    assert difference([0.0], [1.0]).qsnr_db == -math.inf
    assert difference([0.0], [0.0]).cosine == 1


def test_an_empty_map_has_no_difference():
    assert difference(np.zeros((1, 0)), np.zeros((1, 0))).as_json()["count"] == 0


@pytest.mark.parametrize(
    ("settings", "units"),
    [
        ({}, 1.0),
        ({"source_step": 0.5}, 1.0),
        ({"source_step": 3.0}, 2.0),
        ({"channel_error": np.array([0.0, 1 / 257])}, 1.5),
        ({"channel_error": np.array([1 / 257]), "source_step": 0.5}, 1.25),
        ({"gain_error": 0.3}, 1.3),
    ],
    ids=["same step", "coarser", "finer", "weights on the grid", "both", "a sum"],
)
def test_roundings_explain_half_a_step_of_each_and_the_error_of_the_weight_steps(settings, units):
    assert about(**settings).tolerance == pytest.approx(units, abs=0.002)
    for off, explained in ((units, True), (units + 0.1, False)):
        row = MapRow(about(**settings))
        row.add(np.zeros((1, 2)), np.zeros((1, 2)), np.array([[0, off]]))
        assert row.explained is explained


def test_the_predicted_share_is_the_mean_of_magnitude_times_error_of_each_channel():
    row = MapRow(about(channel_error=np.array([0.001, 0.002])))
    values = np.array([[[10.0, -30.0], [50.0, 50.0]]])
    row.add(values, values, values)
    assert row.predicted == pytest.approx((0.001 * 40 + 0.002 * 100) / 4)
    assert MapRow(about()).predicted is None


def test_large_maps_are_compared_as_small_ones():
    random = np.random.default_rng(0)
    wanted = random.integers(-300, 300, 50_000) / 2
    got = np.clip(np.rint(wanted) + (random.random(wanted.size) < 0.01), -128, 127)
    got[-1], wanted[-1] = 0, 9
    off = got - wanted
    outside = (wanted > 127.6) | (wanted < -128.6)
    found = Difference()
    found.add(wanted.astype(np.float32), got.astype(np.int8), about())
    assert (found.count, found.clipped) == (wanted.size, outside.sum())
    assert found.differing == (np.abs(off) > 0.5).sum()
    assert found.largest == np.abs(off[~outside]).max() == 9
    assert found.qsnr_db == pytest.approx(
        10 * math.log10(np.square(wanted).sum() / np.square(off).sum()), rel=1e-12
    )
    assert found.cosine == pytest.approx(
        np.dot(wanted, got) / np.linalg.norm(wanted) / np.linalg.norm(got), rel=1e-12
    )


def test_units_on_the_grid_are_exact_in_float32():
    halves = np.arange(-300, 300) / 2
    values = (halves * np.float64(np.float32(0.1))).astype(np.float32)
    found = in_units(values.reshape(1, 6, 10, 10), float(np.float32(0.1)))
    assert found.dtype == np.float32
    assert np.array_equal(found.reshape(-1), halves)


def test_units_beside_the_grid_keep_their_digits():
    values = np.arange(20_000, dtype=np.float32)
    values[15_000] += 0.25
    found = in_units(values, 1.0)
    assert np.array_equal(found, values.astype(np.float64))
    assert in_units(np.float32([1 / 3]), 1.0)[0] == float(np.float32(1 / 3))


def test_units_take_a_ratio_for_each_channel():
    found = in_units(np.ones((1, 2, 2), np.float32), 0.5, np.array([[[1.0], [2.0]]]))
    assert found.tolist() == [[[2, 2], [4, 4]]]


def test_predictions_over_large_maps_are_sums_over_channels():
    random = np.random.default_rng(1)
    values, errors = random.normal(size=(1, 3, 100, 100)), np.array([0.1, 0.2, 0.3])
    row = MapRow(about(channel_error=errors))
    row.add(values, values, values)
    expected = (np.abs(values[0]).sum(axis=(1, 2)) * errors).sum() / values.size
    assert row.predicted == pytest.approx(expected, rel=1e-12)
    summed = summed_errors([(values, 0.5), (-values, 0.25)])
    assert summed == pytest.approx(0.25 * np.abs(values).sum(), rel=1e-12)
