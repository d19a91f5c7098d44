"""Weights of policies that choose steps first and round the weights on them.

The counterpart of `dlaconv.ir.scales.weights.keep_integers`, with the same parameters: steps at
powers of two next to the source's, or the grid step with the least squared error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.weights import (
    LinearScaling,
    ScaledWeights,
    natural_steps,
    raised_steps,
    round_bias,
)
from dlaconv.ir.target import Target

_MOST_POINTS = 1024
"""Points that stand for the weights of a channel; 8-bit integers have 256 different values."""
_BLOCK = 1 << 20
"""Values that are rounded at a time."""


def snap_to_nearest(
    values: np.ndarray,
    steps: np.ndarray | None,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Weights at the powers of two nearest to the natural steps (policy ``nearest``).

    Args:
        values: ``[O, ...]`` integers of the source, or real weights.
        steps: ``[O]`` real value of one unit, None for real weights.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps.
        target: the hardware.
        grid: the grid of weight steps; powers of two are on every grid.
    """

    def choose(natural: np.ndarray) -> np.ndarray:
        powers: np.ndarray = np.exp2(np.rint(np.log2(natural)))
        return powers

    return _snap(values, steps, bias, scaling, target, choose, _covering_power)


def snap_to_cover(
    values: np.ndarray,
    steps: np.ndarray | None,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Weights at the next power of two at or above the natural steps (policy ``ceil``).

    The parameters are those of `snap_to_nearest`.
    """
    return _snap(values, steps, bias, scaling, target, _covering_power, _covering_power)


def snap_to_least_error(
    values: np.ndarray,
    steps: np.ndarray | None,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Weights at the grid steps with the least squared error (policy ``mse``).

    The parameters are those of `snap_to_nearest`.
    """
    unit = np.ones(len(values)) if steps is None else steps.astype(np.float64)

    def choose(natural: np.ndarray) -> np.ndarray:
        scale = unit * scaling.ratio
        return np.concatenate(
            [
                _least_error(*_points(values[block]), scale[block], natural[block], target, grid)
                for block in _blocks(values)
            ]
        )

    return _snap(values, steps, bias, scaling, target, choose, grid.at_least)


def _snap(
    values: np.ndarray,
    steps: np.ndarray | None,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    choose: Callable[[np.ndarray], np.ndarray],
    at_least: Callable[[np.ndarray], np.ndarray],
) -> ScaledWeights:
    """Rounds weights on chosen steps; ``at_least`` raises one to what shift and bias need."""
    ideal, natural, dead = natural_steps(values, steps, scaling, target)
    chosen = choose(natural)
    needed, guarded = raised_steps(chosen, bias, scaling, target)
    chosen = np.where(needed > chosen, at_least(needed), chosen)
    unit = np.ones(len(values)) if steps is None else steps.astype(np.float64)
    integers = _rounded(values, unit * scaling.ratio / chosen, target)
    changed = np.zeros(len(values), bool)
    if steps is not None:
        changed = (integers != values).reshape(len(values), -1).any(axis=1)
    # integers that stayed still stand for the source's step: then the bias does, too
    ideal = np.where(changed | dead, chosen, ideal) if steps is not None else chosen
    bias_integers, error = round_bias(bias, ideal, scaling, target)
    return ScaledWeights(integers, chosen, ideal, bias_integers, error, guarded & ~dead, changed)


def _rounded(values: np.ndarray, factors: np.ndarray, target: Target) -> np.ndarray:
    """``values`` times a factor per channel as int8, a block of channels at a time."""
    result = np.empty(values.shape, np.int8)
    shape = (-1,) + (1,) * (values.ndim - 1)
    for block in _blocks(values):
        fresh = np.rint(values[block] * factors[block].reshape(shape))
        result[block] = np.clip(fresh, *target.weight_range)
    return result


def _blocks(values: np.ndarray) -> Iterator[slice]:
    """Runs of channels with about `_BLOCK` values each, at least one channel."""
    size = max(1, _BLOCK // max(_MOST_POINTS, values[:1].size))
    return (slice(start, start + size) for start in range(0, len(values), size))


def _covering_power(values: np.ndarray) -> np.ndarray:
    """The smallest power of two that is not below each value."""
    mantissa, exponent = np.frexp(values)
    powers: np.ndarray = np.ldexp(1.0, np.where(mantissa == 0.5, exponent - 1, exponent))
    return powers


def _points(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points that stand for the weights of each channel, and how many each stands for.

    Up to `_MOST_POINTS` weights, or integers of so many different values, stand for themselves.
    More are gathered in intervals, each with its mean as point.

    Args:
        values: ``[O, ...]``.

    Returns:
        float64 ``[O, P]`` or ``[1, P]``, and float64 ``[O, P]``.
    """
    rows = values.reshape(len(values), -1)
    low, high = float(rows.min(initial=0)), float(rows.max(initial=0))
    if rows.dtype.kind in "iu" and high - low < min(rows.shape[1], _MOST_POINTS):
        count = int(high - low) + 1
        counts = _histogram(rows.astype(np.int64) - int(low), count)
        return np.arange(count, dtype=np.float64)[None] + low, counts
    if rows.shape[1] <= _MOST_POINTS:
        return rows.astype(np.float64), np.ones(rows.shape)
    floor = rows.min(axis=1, keepdims=True).astype(np.float64)
    width = (rows.max(axis=1, keepdims=True) - floor) / (_MOST_POINTS - 1)
    place = ((rows - floor) / np.where(width > 0, width, 1)).astype(np.int64)
    counts = _histogram(place, _MOST_POINTS)
    return _histogram(place, _MOST_POINTS, rows) / np.maximum(counts, 1), counts


def _histogram(places: np.ndarray, count: int, weights: np.ndarray | None = None) -> np.ndarray:
    """How often (or with which sum of weights) each of ``count`` places occurs in each row."""
    flat = (places + np.arange(len(places))[:, None] * count).reshape(-1)
    summed = None if weights is None else weights.reshape(-1)
    found = np.bincount(flat, summed, minlength=len(places) * count)
    return found.reshape(len(places), count).astype(np.float64)


def _least_error(
    points: np.ndarray,
    counts: np.ndarray,
    unit: np.ndarray,
    natural: np.ndarray,
    target: Target,
    grid: WeightGrid,
) -> np.ndarray:
    """The grid step of each channel with the least squared error of its weights.

    Tried are all steps from twice the natural one down to half of what just covers the channel.
    Below that, clipping the largest weight would cost more than all roundings can save, in
    channels of less than 16,000 weights. The natural step itself is kept where nothing is better.

    Args:
        points: ``[O, P]`` or ``[1, P]``, see `_points`.
        counts: ``[O, P]``.
        unit: ``[O]``, real value of one.
        natural: ``[O]``, the step to start from.
        target: the hardware.
        grid: the grid of weight steps.
    """
    used = np.where(counts > 0, np.abs(points), 0.0).max(axis=1) * unit / target.weight_range[1]
    octaves = np.log2(natural / np.where(used > 0, used, natural)).max(initial=0) + 1
    ladder = grid.ladder(2 * natural, int(np.ceil((octaves + 1) * grid.mantissas.size)) + 2)
    candidates = np.concatenate([grid.nearest(natural)[:, None], ladder], axis=1)
    wanted = np.broadcast_to(points * unit[:, None], counts.shape)
    errors = np.empty(candidates.shape)
    for index, steps in enumerate(candidates.T):
        units = np.rint(wanted / steps[:, None])
        off = np.clip(units, *target.weight_range) * steps[:, None] - wanted
        errors[:, index] = (counts * np.square(off)).sum(axis=1)
    signal = (counts * np.square(wanted)).sum(axis=1)
    least = errors.min(axis=1) + 1e-15 * signal
    best = (errors <= least[:, None]).argmax(axis=1)
    chosen: np.ndarray = candidates[np.arange(len(candidates)), best]
    return chosen
