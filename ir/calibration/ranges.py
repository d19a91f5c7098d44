"""Which part of a map's values its integers should cover, from their histogram.

Methods: ``minmax`` covers all; ``percentile`` 99.99 % of them; ``mse`` what gives the least squared
error, on data that were not seen as well (`dlaconv.ir.calibration.tail`); ``kl`` what keeps the
histogram's information best (Migacz, GTC 2017); ``xilinx`` what XportDNN takes
(`dlaconv.ir.calibration.cumulative`). What is best for each map by itself need not be
best for the network, whose large values often matter most; so ``auto`` leaves the choice to what
they do to the network's output, see `dlaconv.ir.scales.policy`.
"""

from __future__ import annotations

import numpy as np

from dlaconv.ir.calibration.cumulative import covered_cumulatively
from dlaconv.ir.calibration.histogram import BINS, Histogram
from dlaconv.ir.calibration.tail import Tail

METHODS = ("auto", "minmax", "percentile", "mse", "kl", "xilinx")
FINE = "xilinx"
"""The method that wants all values counted, as `Histogram.fine` has them."""
_CHOICE = ("mse", "minmax", "percentile")
"""What ``auto`` chooses from; the first where nothing can be tried."""
_SHARE = 0.9999
_LEFT_OUT = 8
"""Values beyond ``percentile`` that it takes to choose that for a map."""
_TRIED = 2.0 ** ((16 - np.arange(113)) / 16)
"""Shares of the largest magnitude that are tried, from 2 down to 1/64."""
_FINE = 4
"""Units that have at least so many bins are rounded bin by bin; smaller ones are taken as noise."""


def methods(asked: str) -> tuple[str, ...]:
    """The methods to choose from, the first being the one to begin with."""
    return _CHOICE if asked == "auto" else (asked,)


def covered(histogram: Histogram, method: str, largest: int, share: float = _SHARE) -> float:
    """The magnitude up to which a map's integers should reach.

    Args:
        histogram: the values.
        method: one of `METHODS`.
        largest: the largest integer.
        share: what ``percentile`` covers.
    """
    if method == "minmax" or not histogram.counts.any():
        return histogram.largest
    if method == "percentile":
        return _percentile(histogram, share)
    choose = {"kl": _divergence, FINE: covered_cumulatively}.get(method, _squared_error)
    return choose(histogram, largest)


def coverings(histogram: Histogram, asked: str, largest: int) -> dict[str, float]:
    """What each of `methods` covers.

    Where there are several to choose from, few values say little: ``minmax`` is never finer than
    ``mse``, which knows that others will come, and ``percentile`` needs values that it leaves out.
    """
    found = {method: covered(histogram, method, largest) for method in methods(asked)}
    if len(found) > 1:
        found["minmax"] = max(found["minmax"], found["mse"])
        if (histogram.zeros + histogram.counts.sum()) * (1 - _SHARE) < _LEFT_OUT:
            found["percentile"] = found["minmax"]
    return found


def _percentile(histogram: Histogram, share: float) -> float:
    counts = histogram.counts.cumsum() + histogram.zeros
    place = int(np.searchsorted(counts, share * counts[-1])) + 1
    return min(histogram.largest, place * histogram.limit / BINS)


def _squared_error(histogram: Histogram, largest: int) -> float:
    used = np.flatnonzero(histogram.counts)
    counts, values = histogram.counts[used].astype(np.float64), histogram.centres[used]
    values = np.minimum(values, histogram.largest)
    width = histogram.limit / BINS
    ends = histogram.largest * _TRIED
    errors = np.empty(ends.size)
    everything = counts.sum() + histogram.zeros
    tail = Tail.of(
        np.concatenate([[0.0], values]),
        np.concatenate([[histogram.zeros], histogram.counts[used]]),
    )
    for index, end in enumerate(ends):
        step = end / largest
        off = np.minimum(np.rint(values / step), largest) * step - values
        squared = np.square(off)
        if step < _FINE * width:
            squared = np.where(values <= end, step**2 / 12, squared)
        clipped = np.dot(counts, np.square(np.maximum(values - end, 0)))
        unseen = max(0.0, tail.clipped_power(end) * everything - clipped)
        errors[index] = np.dot(counts, squared) + unseen
    return float(ends[np.argmin(errors)])


def _divergence(histogram: Histogram, largest: int) -> float:
    levels = largest + 1
    counts = histogram.counts.astype(np.float64)
    top = int(np.ceil(histogram.largest / histogram.limit * BINS))
    best, least = histogram.largest, np.inf
    for end in range(levels, top + 1, levels // 16):
        reference = counts[:end].copy()
        reference[-1] += counts[end:].sum()
        edges = np.linspace(0, end, levels + 1).astype(np.int64)[:-1]
        filled = counts[:end] > 0
        sums = np.add.reduceat(counts[:end], edges)
        numbers = np.add.reduceat(filled.astype(np.float64), edges)
        spread = np.repeat(sums / np.maximum(numbers, 1), np.diff([*edges, end]))
        both = filled & (reference > 0)
        if not both.any():
            continue
        p, q = reference[both] / reference.sum(), spread[both] / max(sums.sum(), 1)
        lost = reference[~both].sum() / reference.sum()  # what the quantised one has no place for
        found = float(np.dot(p, np.log(p / q))) + lost * np.log(BINS)
        if found < least:
            best, least = min(histogram.largest, end * histogram.limit / BINS), found
    return best
