"""The range that XportDNN of CHaiDNN takes: cumulative distributions that few levels keep best.

Its source was never published; PyXIR and files of ml-suite, by the same authors, hold the search.
Magnitudes are counted in as many equal bins up to the largest one as there are square roots of
their number. For each number of bins i above the number of levels n, the cumulative distribution P,
cut off behind i bins, is sampled at n points and joined by lines, which gives Q. The divergence

    sum over all bins of (P - Q) log2(P / Q)

with P not cut off is least for one i; the threshold lies in the middle of the bin behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dlaconv.ir.calibration.histogram import BINS, Histogram

_ZERO = 1e-8
"""Maps that are no larger have no range."""
MOST_BINS = 1 << 13
"""The search takes the square of the number of bins; this many suffice for 67 million values."""


def covered_cumulatively(histogram: Histogram, largest: int) -> float:
    """The magnitude up to which a map's integers should reach.

    Args:
        histogram: the values; without `Histogram.fine`, its own bins are what can be told apart.
        largest: the largest integer, one less than the number of levels.
    """
    end = histogram.largest
    if end <= _ZERO or not math.isfinite(end):
        return end
    counts = histogram.fine
    cumulative = _resampled(histogram) if counts is None else np.cumsum(counts / counts.sum())
    place = least_divergence(cumulative, largest + 1)
    return end if place is None else (place + 0.5) * end / len(cumulative)


def least_divergence(cumulative: np.ndarray, levels: int) -> int | None:
    """After how many bins a distribution is cut off best.

    Args:
        cumulative: the share of values up to the end of each bin, float64 ``[N]``.
        levels: how many values the integers keep apart.

    Returns:
        From ``levels + 1`` to N; None if there are no more bins than levels, or none of the values
        is in the first bin, so that some divergence is infinite.
    """
    count = len(cumulative)
    if levels + 1 > count or not cumulative[0]:
        return None
    found = np.empty(count - levels)
    points = np.linspace(0.0, 1.0, levels)
    for index, cut in enumerate(range(levels + 1, count + 1)):
        places = np.linspace(0.0, 1.0, cut)
        kept = cumulative[:cut].copy()
        kept[-1] = 1.0
        joined = np.ones(count)
        joined[:cut] = np.interp(places, points, np.interp(points, places, kept))
        found[index] = np.sum((cumulative - joined) * np.log2(cumulative / joined))
    return levels + 1 + int(np.argmin(found))


def fine_bins(histogram: Histogram) -> tuple[int, float]:
    """Number and end of the bins in which all values of a map are counted, as numpy has them.

    Their width is that from the smallest to the largest magnitude over the square root of the
    number of values. None are counted where there is nothing to search.
    """
    end, least = histogram.largest, histogram.least
    if end <= _ZERO or not math.isfinite(end):
        return 0, 0.0
    width = (end - least) / math.sqrt(histogram.seen)
    return (min(math.ceil(end / width), MOST_BINS) if width > 0 else 1), end


def all_counted(
    results: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, float]]
) -> dict[str, np.ndarray]:
    """How many magnitudes are in each of so many bins up to an end, by name."""
    return {
        name: np.histogram(np.abs(array), count, (0.0, end))[0].astype(np.int64)
        for name, array in results.items()
        if (count := wanted[name][0]) and (end := wanted[name][1])
    }


def _resampled(histogram: Histogram) -> np.ndarray:
    """The cumulative distribution at the ends of equal bins up to the largest magnitude."""
    width = histogram.limit / BINS
    used = np.flatnonzero(histogram.counts)
    if not used.size:  # nothing but zeros has been counted
        return np.ones(1)
    count = min(math.ceil(math.sqrt(histogram.seen)), math.floor(histogram.largest / width))
    ends = np.linspace(0.0, histogram.largest, count + 1)[1:]
    edges = np.minimum(np.arange(used[-1] + 2) * width, histogram.largest)
    below = np.concatenate([[0], np.cumsum(histogram.counts[: used[-1] + 1])]) + histogram.zeros
    shares: np.ndarray = np.interp(ends, edges, below) / below[-1]
    shares[-1] = 1.0
    return shares
