"""Weights and bias of a layer of whose result only the sign counts.

Its map saturates, so every output channel may be multiplied by any positive number: the step is a
power of two under each policy, and integers of the source stay. If all weights of a channel are
multiples of an even g, so is the sum; a bias of g t + g/2 then keeps the result away from zero by
g/2 and has the sign of every bias from g t up to g t + g (exclusively). The multiplier makes g/2 as
much as the largest integer of the map. See ``docs/scales.md``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.weights import LinearScaling, ScaledWeights, keep_integers
from dlaconv.ir.target import Target


def scale_threshold(
    values: np.ndarray,
    steps: np.ndarray | None,
    bias: np.ndarray,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Puts a layer on the grids whose result only counts by its sign.

    Args:
        values: ``[O, ...]`` integers of the source, or real weights.
        steps: ``[O]`` real value of one unit, None for real weights.
        bias: ``[O]`` real bias.
        scaling: the layer's maps.
        target: the hardware.
        grid: the grid of weight steps.
    """
    kept = keep_integers(values, steps, bias, scaling, target, grid)
    assert kept.bias is not None
    assert kept.bias_error is not None
    rows = kept.integers.reshape(len(kept.integers), -1).astype(np.int16)
    unit = np.gcd.reduce(rows, axis=1).astype(np.int64)
    dead, centred = unit == 0, (unit > 0) & (unit % 2 == 0)
    exact = kept.bias - kept.bias_error
    lowest, highest = target.bias_range
    unit = np.maximum(unit, 1)
    cell = np.floor(exact / unit)
    within = np.clip(
        cell, np.ceil((lowest - unit / 2) / unit), np.floor((highest - unit / 2) / unit)
    )
    away = np.where(exact < 0, -1, 1) * np.maximum(np.abs(kept.bias), 1)
    integers = np.where(dead, away, kept.bias)
    integers = np.where(centred, unit * within + unit // 2, integers).astype(np.int32)
    smallest = np.where(centred, unit / 2, np.where(dead, np.abs(away), target.map_range[1] + 1))
    multiplier = (target.map_range[1] + 1) / smallest
    chosen = np.exp2(np.ceil(np.log2(multiplier * scaling.step_out / scaling.step_in) - 1e-9))
    lost = np.where(dead | (centred & (cell == within)), 0.0, integers - exact)
    return replace(kept, steps=chosen, ideal=chosen, bias=integers, bias_error=lost)
