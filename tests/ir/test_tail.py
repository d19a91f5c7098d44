import numpy as np
import pytest

from dlaconv.ir.calibration.histogram import Histogram
from dlaconv.ir.calibration.ranges import covered
from dlaconv.ir.calibration.tail import Tail


def clipped(values, limit):
    return float(np.mean(np.square(np.maximum(np.abs(values) - limit, 0))))


@pytest.mark.parametrize("quantile", [0.99, 0.999, 0.9999])
def test_an_exponential_tail_is_told_from_few_values(quantile):
    random = np.random.default_rng(0)
    many = random.exponential(size=2_000_000)
    limit = float(np.quantile(many, quantile))
    told = [Tail.of(random.exponential(size=4000)).clipped_power(limit) for _ in range(20)]
    assert np.mean(told) == pytest.approx(clipped(many, limit), rel=0.35)


def test_clipping_at_the_largest_value_that_was_seen_costs_something():
    values = np.random.default_rng(1).normal(size=1000)
    assert Tail.of(values).clipped_power(float(np.abs(values).max())) > 0


def test_values_that_end_together_have_no_tail():
    assert Tail.of(np.full(100, 3.0)).clipped_power(3.0) == 0
    assert Tail.of(np.zeros(0)).clipped_power(0.0) == 0


def test_below_the_tail_nothing_is_said():
    tail = Tail.of(np.arange(1000.0))
    assert tail.clipped_power(tail.threshold * 0.99) == 0


def test_counts_tell_the_same_as_values():
    values = np.random.default_rng(2).integers(0, 50, 5000).astype(float)
    magnitudes, counts = np.unique(values, return_counts=True)
    assert Tail.of(magnitudes, counts) == Tail.of(values)


@pytest.mark.parametrize("seed", range(3))
def test_the_least_error_of_few_values_covers_what_more_values_use(seed):
    """With 300 logits the empirical error alone would clip at the largest of them, or below."""
    random = np.random.default_rng(seed)
    few, many = random.exponential(size=300), random.exponential(size=1_000_000)
    histogram = Histogram()
    histogram.add(few.astype(np.float32))
    reach = covered(histogram, "mse", 127)

    def noise(limit):
        step = limit / 127
        return np.mean(np.square(np.clip(np.rint(many / step), -128, 127) * step - many))

    assert noise(reach) < noise(few.max())


def test_many_equal_values_take_no_memory():
    counts = np.array([10**15, 7, 3])  # each for itself they would fill it
    tail = Tail.of(np.array([1.0, 2.0, 3.0]), counts)
    assert tail.threshold == 1.0
    assert tail.share == pytest.approx(1.5 * 10**7.5 / 10**15, rel=1e-3)
