import math

import numpy as np
import pytest

from dlaconv.ir.compare import Comparison, Difference, MapRow


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
        ({"channel_error": np.array([0.0, 1 / 256])}, 1.5),
        ({"channel_error": np.array([1 / 256]), "source_step": 0.5}, 1.25),
    ],
    ids=["same step", "coarser", "finer", "weights on the grid", "both"],
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
