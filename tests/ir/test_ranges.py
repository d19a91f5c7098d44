import numpy as np
import pytest

from dlaconv.ir.calibration.histogram import BINS, Histogram, stride
from dlaconv.ir.calibration.ranges import METHODS, covered, coverings, methods

RNG = np.random.default_rng(5)


def histogram(*pieces):
    found = Histogram()
    for piece in pieces:
        found.add(np.asarray(piece, np.float32))
    return found


def squared_error(values, end):
    step = end / 127
    return np.square(np.clip(np.rint(values / step), -128, 127) * step - values).mean()


def test_ends_are_exact_however_many_values_there_are():
    values = RNG.normal(size=(7, 100_003)).astype(np.float32)
    found = histogram(*values)
    assert (found.low, found.high) == (values.min(), values.max())


def test_bins_are_joined_when_the_range_grows():
    small, large = RNG.uniform(0.01, 1, 5000), RNG.uniform(-40, -30, 5000)
    found = histogram(small, large)
    assert found.limit == 64
    assert found.counts.sum() == 10_000
    wanted, _ = np.histogram(np.abs(np.concatenate([small, large])), BINS, (0, 64))
    assert np.abs(np.cumsum(found.counts - wanted)).max() <= 2  # rounding at an edge


def test_the_order_of_pieces_does_not_matter():
    pieces = [RNG.normal(size=1000) * scale for scale in (1, 7, 0.1)]
    one, other = histogram(*pieces), histogram(*pieces[::-1])
    assert one.limit == other.limit
    assert np.abs(np.cumsum(one.counts - other.counts)).max() <= 2


def test_a_histogram_is_that_of_numpy_up_to_rounding_at_edges():
    values = RNG.standard_t(3, 30_000).astype(np.float32)
    found = histogram(values)
    wanted, _ = np.histogram(np.abs(values), BINS, (0, found.limit))
    assert np.array_equal(found.counts, wanted)
    assert found.zeros == 0


@pytest.mark.parametrize("scale", [1e-41, 1e-30, 1.0, 1e30])
def test_no_scale_is_too_small_or_too_large(scale):
    values = (RNG.normal(size=1000) * scale).astype(np.float32)
    found = histogram(values)
    wanted, _ = np.histogram(np.abs(values.astype(np.float64)), BINS, (0, found.limit))
    wanted[0] -= np.count_nonzero(values == 0)
    assert np.array_equal(found.counts, wanted)


def test_merged_histograms_are_those_of_all_pieces_in_any_order():
    pieces = [RNG.normal(size=1000) * scale for scale in (1e-9, 1, 7, 0.1)]
    pieces += [np.zeros(3), np.array([]), np.array([4.0])]
    alone = [histogram(piece) for piece in pieces]
    merged = []
    for order in (alone, alone[::-1]):
        merged.append(Histogram())
        for one in order:
            merged[-1].merge(one)
    for found in merged:
        assert found.low == min(one.low for one in alone)
        assert found.high == max(one.high for one in alone)
        assert (found.limit, found.zeros) == (32, 3)
        assert np.array_equal(found.counts, merged[0].counts)
    together = histogram(*pieces)
    assert together.counts.sum() == found.counts.sum() == 4001
    assert np.abs(np.cumsum(found.counts - together.counts)).max() <= 1  # 4.0 lies at a limit


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_what_is_not_a_number_has_no_range(order):
    pieces = [[1.0, -2.0], [np.nan, 0.5], [np.inf]][order]
    found = histogram(*pieces)
    assert found.largest == np.inf
    assert found.counts.sum() + found.zeros == 5


def test_fewer_values_are_counted_if_so_asked_but_all_have_a_part_in_the_ends():
    values = RNG.uniform(1, 2, 10_007).astype(np.float32)
    found = Histogram()
    found.add(values, 100)
    assert 100 <= found.counts.sum() <= 110
    assert (found.low, found.high) == (values.min(), values.max())


@pytest.mark.parametrize("block", [1, 7, 64, 10_007])
def test_what_is_counted_does_not_depend_on_blocks(block, monkeypatch):
    values = RNG.normal(size=10_007).astype(np.float32)
    step = stride(values.size, 100)
    wanted, _ = np.histogram(
        np.abs(values[::step]), BINS, (0, 2.0 ** np.ceil(np.log2(abs(values).max())))
    )
    monkeypatch.setattr("dlaconv.ir.calibration.histogram._BLOCK", block)
    found = Histogram()
    found.add(values, 100)
    assert np.array_equal(found.counts, wanted)


def test_zeros_are_counted_apart():
    found = histogram(np.zeros(5), [0.0, 1.0])
    assert (found.zeros, found.counts.sum()) == (6, 1)
    assert histogram(np.zeros(3)).largest == 0
    assert histogram([]).largest == 0


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 56 * 56 * 64])
@pytest.mark.parametrize("wanted", [1, 10, 1000])
def test_a_stride_picks_about_as_many_as_are_wanted(size, wanted):
    step = stride(size, wanted)
    assert np.gcd(step, size) == 1
    assert len(range(0, size, step)) >= min(size, wanted) / 2


def test_minmax_covers_everything():
    assert covered(histogram([-3.5, 1.0]), "minmax", 127) == 3.5


def test_percentile_leaves_out_a_ten_thousandth():
    values = RNG.uniform(-1, 1, 30_000)
    found = histogram(np.concatenate([values, [50.0, -60.0]]))
    end = covered(found, "percentile", 127)
    assert 1 <= end < 1.1


DRAW = {
    "normal": lambda random, count: random.normal(size=count),
    "uniform": lambda random, count: random.uniform(-1, 1, count),
    "laplace": lambda random, count: random.laplace(size=count),
    "student": lambda random, count: random.standard_t(5, count),
}


def losses(name, count, seed):
    """Errors on other values, over the least: of the end by mse, of the best end for the values."""
    random = np.random.default_rng(seed)
    values, others = DRAW[name](random, count), DRAW[name](random, 1_000_000)
    ends = np.abs(values).max() * 2 ** ((24 - np.arange(100)) / 24)
    errors = [squared_error(others, end) for end in ends]
    chosen = squared_error(others, covered(histogram(values), "mse", 127))
    fitted = errors[int(np.argmin([squared_error(values, end) for end in ends]))]
    return np.array([chosen, fitted]) / min(errors)


@pytest.mark.parametrize("name", ["normal", "uniform", "laplace"])
def test_mse_is_next_to_the_best_end_for_other_values_too(name):
    assert losses(name, 30_000, 0)[0] <= 1.15


@pytest.mark.parametrize("name", ["normal", "laplace", "student"])
def test_of_few_values_mse_loses_less_than_the_end_that_fits_them_best(name):
    chosen, fitted = np.mean([losses(name, 1000, seed) for seed in range(4)], axis=0)
    assert chosen < fitted


def test_mse_does_not_clip_what_is_evenly_spread():
    values = RNG.uniform(-1, 1, 30_000)
    assert covered(histogram(values), "mse", 127) > 0.99 * np.abs(values).max()


def test_long_tails_are_clipped_by_all_but_minmax():
    values = np.concatenate([RNG.normal(size=30_000), [500.0]])
    found = histogram(values)
    for method in ("percentile", "kl"):
        assert covered(found, method, 127) < 50, method
    assert covered(found, "minmax", 127) == 500


@pytest.mark.parametrize("method", METHODS)
def test_no_method_covers_nothing_or_much_more_than_there_is(method):
    for values in (
        RNG.normal(size=300),
        np.full(10, 0.3),
        [1e-30],
        np.maximum(RNG.normal(size=99), 0),
    ):
        found = histogram(values)
        most = 2 if method in {"mse", "auto"} else 1  # few values say little about others
        assert 0 < covered(found, method, 127) <= most * found.largest
    assert covered(histogram(np.zeros(4)), method, 127) == 0


def test_auto_chooses_from_several_and_the_others_from_themselves():
    assert set(methods("auto")) > {"minmax", "mse"}
    assert methods("kl") == ("kl",)


def test_with_few_values_no_choice_ends_where_they_happen_to_end():
    found = histogram(RNG.normal(size=500))
    choice = coverings(found, "auto", 127)
    assert choice["mse"] > found.largest
    assert choice["minmax"] == choice["percentile"] == choice["mse"]


def test_with_many_values_all_choices_differ():
    found = histogram(*RNG.standard_t(4, (20, 10_000)))
    choice = coverings(found, "auto", 127)
    assert choice == {method: covered(found, method, 127) for method in methods("auto")}
    assert choice["percentile"] < choice["mse"] < choice["minmax"] == found.largest


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "kl", "xilinx"])
def test_what_is_asked_for_is_taken_as_it_is(method):
    found = histogram(RNG.normal(size=500))
    assert coverings(found, method, 127) == {method: covered(found, method, 127)}
