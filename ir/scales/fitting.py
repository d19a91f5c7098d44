"""The grid step with which real weights lose least, channel by channel.

The finest step that covers a channel spends its range on the one largest weight. A finer step
rounds all others better and clips that one; with few weights a coarser one may happen to hit them
better. That is worth up to 1 dB where channels have few weights, and next to nothing where they
have thousands.
"""

from __future__ import annotations

import numpy as np

from dlaconv.ir.blocks import in_parallel
from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.weights import LinearScaling, ScaledWeights, scale_integers, scale_reals
from dlaconv.ir.target import Target

_POINTS = 256
"""Weights of a channel on which steps are tried, its largest among them."""
_OCTAVE = 128
"""Grid steps from one power of two to the next."""
_FEW, _COARSE = 64, 8
"""Channels with few weights may gain by any step from twice to half the covering one; of the others
those below it are tried, first every eighth."""
_BLOCK = 1 << 18


def fit_weights(
    values: np.ndarray,
    steps: np.ndarray | None,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Weights that keep the source's integers, or hold its real weights with the least error.

    The parameters are those of `dlaconv.ir.scales.weights.keep_integers`.
    """
    if steps is not None:
        return scale_integers(values, steps, bias, scaling, target, grid)

    def fitted(covering: np.ndarray) -> np.ndarray:
        return least_error_steps(values, covering, scaling, target, grid)

    return scale_reals(values, bias, scaling, target, grid, fitted)


def least_error_steps(
    weights: np.ndarray,
    covering: np.ndarray,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> np.ndarray:
    """Grid steps next to those with the least squared error of each channel's weights.

    Args:
        weights: ``[O, ...]`` real weights.
        covering: float64 ``[O]``, the finest step with which no weight is clipped.
        scaling: the layer's maps.
        target: the hardware.
        grid: the grid of weight steps.

    Returns:
        float64 ``[O]``.
    """
    rows = weights.reshape(len(weights), -1)
    found = np.empty(len(rows))

    def fit(block: slice) -> None:
        points, share = _points(rows[block], scaling)
        few = points.shape[1] <= _FEW
        stride, tried = (1, 2 * _OCTAVE) if few else (_COARSE, _OCTAVE)
        ladder = grid.ladder((2 if few else 1) * covering[block], tried)
        errors = np.full(ladder.shape, np.inf, np.float32)
        everyone = np.arange(len(points))
        for place in range(0, tried, stride):
            errors[:, place] = _errors(points, share, ladder[:, place], target)
        start = errors.argmin(axis=1)
        for away in (*range(1 - stride, 0), *range(1, stride)):
            place = np.clip(start + away, 0, tried - 1)
            steps = ladder[everyone, place]
            errors[everyone, place] = _errors(points, share, steps, target)
        found[block] = ladder[everyone, errors.argmin(axis=1)]

    size = max(1, _BLOCK // min(_POINTS, max(1, rows.shape[1])))
    in_parallel(fit, [slice(start, start + size) for start in range(0, len(rows), size)])
    return found


def _points(rows: np.ndarray, scaling: LinearScaling) -> tuple[np.ndarray, float]:
    """Magnitudes in the hardware's terms ``[O, P]``, the largest first; what the others count."""
    magnitudes = np.abs(rows)
    largest = magnitudes.max(axis=1, keepdims=True, initial=0)
    count = rows.shape[1]
    some = magnitudes[:, :: max(1, -(-count // _POINTS))]
    points = np.concatenate([largest, some], axis=1) * scaling.ratio
    return points.astype(np.float32), count / max(1, some.shape[1])


def _errors(points: np.ndarray, share: float, steps: np.ndarray, target: Target) -> np.ndarray:
    step = steps.astype(np.float32)[:, None]
    off = np.rint(points / step)
    np.minimum(off, np.float32(target.weight_range[1]), out=off)
    off *= step
    off -= points
    np.square(off, out=off)
    errors: np.ndarray = off[:, 1:].sum(axis=1) * np.float32(share)
    if share > 1:  # else the largest is one of the others
        errors += off[:, 0]
    return errors
