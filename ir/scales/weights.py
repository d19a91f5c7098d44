"""Integers and steps of one linear layer's weights and bias on the hardware's grids.

With gamma_in and gamma_out the ratios by which the layer's maps are scaled, the step that leaves
every integer as it was is ``S* = s gamma_out / gamma_in``. Kept integers take the grid step next
to S*: at most 0.39 % off, so a result of at most 127 units moves by less than half a unit. The
bias is rounded in units of ``S* S_in``, not of the grid step: then accumulator and bias share the
one relative error, and no second unit is lost.

The bias must fit 16 bits. A channel whose bias does not gets a step of at least
``|b| gamma_out / (32767 S_in)`` and its weights are rounded anew (the bias guard): saturating the
bias instead costs EfficientNet-Lite0 88 points of accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.target import Target


@dataclass(frozen=True, eq=False)
class LinearScaling:
    """How a linear layer's maps are scaled.

    Attributes:
        step_in: S_in, the hardware step of the input map (a power of two).
        step_out: S_out of the output map.
        gamma_in: hardware value over real value of the input map.
        gamma_out: the same of the output map.
    """

    step_in: float
    step_out: float
    gamma_in: float
    gamma_out: float

    @property
    def ratio(self) -> float:
        """What a weight step is multiplied by."""
        return self.gamma_out / self.gamma_in


@dataclass(frozen=True, eq=False)
class ScaledWeights:
    """Weights and bias as the hardware gets them.

    Attributes:
        integers: int8, shaped as the source's weights.
        steps: float64 ``[O]``, grid steps.
        ideal: float64 ``[O]``, the steps that would change nothing (S*).
        bias: int32 ``[O]`` in units of ``steps * step_in``, None without bias.
        bias_error: float64 ``[O]``, what rounding the bias lost, in its units; None without bias.
        guarded: channels whose step was raised to make the bias fit.
        requantised: channels whose integers changed, guarded ones included.
    """

    integers: np.ndarray
    steps: np.ndarray
    ideal: np.ndarray
    bias: np.ndarray | None
    bias_error: np.ndarray | None
    guarded: np.ndarray
    requantised: np.ndarray


def scale_integers(
    integers: np.ndarray,
    steps: np.ndarray,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Puts a quantised layer on the grids, keeping its integers wherever the hardware can.

    Args:
        integers: ``[O, ...]`` integers, symmetric.
        steps: ``[O]`` real value of one unit.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps.
        target: the hardware.
        grid: the grid of weight steps.
    """
    low, high = target.weight_range
    flat = integers.reshape(len(integers), -1)
    largest = np.maximum(flat.max(1, initial=0).astype(np.float64), 0)
    smallest = np.minimum(flat.min(1, initial=0).astype(np.float64), 0)
    dead = (largest == 0) & (smallest == 0)
    ideal = _revive(steps.astype(np.float64) * scaling.ratio, dead, scaling)
    needed = ideal * np.maximum(1.0, np.maximum(largest / high, smallest / low))
    needed = np.maximum(needed, _smallest_step(scaling, target))
    fit = np.zeros_like(needed)
    if bias is not None:
        fit = _bias_step(bias, scaling, target)
        too_small = fit > needed * (1 + 0.5 / target.bias_range[1])
    else:
        too_small = np.zeros(len(ideal), bool)
    needed = np.where(too_small, fit, needed)
    changed = (needed > ideal) & ~dead
    chosen = np.where(needed > ideal, grid.at_least(needed), grid.nearest(ideal))
    ideal = np.where(needed > ideal, chosen, ideal)
    result = integers
    if changed.any():
        factor = (steps * scaling.ratio / chosen)[changed]
        shape = (-1,) + (1,) * (integers.ndim - 1)
        result = integers.copy()
        fresh = np.rint(integers[changed] * factor.reshape(shape))
        result[changed] = np.clip(fresh, low, high).astype(integers.dtype)
    bias_integers, error = _round_bias(bias, ideal, scaling, target)
    return ScaledWeights(
        result.astype(np.int8), chosen, ideal, bias_integers, error, too_small & ~dead, changed
    )


def scale_reals(
    weights: np.ndarray,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Quantises a float layer: the grid step first, then the weights on it.

    Args:
        weights: ``[O, ...]`` real weights.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps.
        target: the hardware.
        grid: the grid of weight steps.
    """
    low, high = target.weight_range
    largest = np.abs(weights.reshape(len(weights), -1)).max(1, initial=0).astype(np.float64)
    dead = largest == 0
    needed = _revive(largest / high * scaling.ratio, dead, scaling)
    needed = np.maximum(needed, _smallest_step(scaling, target))
    guarded = np.zeros(len(weights), bool)
    if bias is not None:
        fit = _bias_step(bias, scaling, target)
        guarded = (fit > needed) & ~dead
        needed = np.maximum(needed, fit)
    steps = grid.at_least(needed)
    shape = (-1,) + (1,) * (weights.ndim - 1)
    integers = np.rint(weights * (scaling.ratio / steps).reshape(shape))
    bias_integers, error = _round_bias(bias, steps, scaling, target)
    return ScaledWeights(
        np.clip(integers, low, high).astype(np.int8),
        steps,
        steps,
        bias_integers,
        error,
        guarded,
        np.zeros(len(weights), bool),
    )


def scale_gains(
    pattern: np.ndarray,
    gains: np.ndarray,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Weights of a layer that only scales: where the pattern is one, any integer will do.

    Tries every integer for the largest gain and keeps the one with which integers and grid step
    come nearest to all gains; the smallest such integer, so powers of two keep their ones.

    Args:
        pattern: ``[O, ...]`` zeros and ones.
        gains: real gain of each input channel's ones, ``[I]`` or ``[1]``; broadcasts on axis 1.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps; ``gamma_in`` is one, the gains hold the ratio.
        target: the hardware.
        grid: the grid of weight steps.
    """
    wanted = np.unique(gains * scaling.gamma_out)
    leading = np.arange(1, target.weight_range[1] + 1)
    steps = np.stack(grid.around(wanted.max() / leading), axis=1).reshape(-1)
    integers = np.rint(wanted / steps[:, None])
    error = np.abs(integers * steps[:, None] - wanted).sum(axis=1)
    error[integers.max(axis=1) > target.weight_range[1]] = np.inf
    best = int(np.argmax(error <= error.min() * (1 + 1e-9)))
    step = float(steps[best])
    shape = (1, -1) + (1,) * (pattern.ndim - 2)
    values = np.rint(gains * scaling.gamma_out / step).reshape(shape)
    per_channel = np.full(len(pattern), step)
    bias_integers, lost = _round_bias(bias, per_channel, scaling, target)
    none = np.zeros(len(pattern), bool)
    return ScaledWeights(
        (pattern * values).astype(np.int8),
        per_channel,
        per_channel,
        bias_integers,
        lost,
        none,
        none,
    )


def snap_integers(
    integers: np.ndarray,
    steps: np.ndarray,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
) -> ScaledWeights:
    """Snaps each weight step to the nearest power of two and requantises the weights.

    What a converter without 2^n/a scales does; the ``nearest`` policy, for comparison.

    Args:
        integers: ``[O, ...]`` integers, symmetric.
        steps: ``[O]`` real value of one unit.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps.
        target: the hardware.
    """
    ideal = steps.astype(np.float64) * scaling.ratio
    snapped = np.exp2(np.rint(np.log2(ideal)))
    guarded = np.zeros(len(ideal), bool)
    if bias is not None:
        fit = np.exp2(np.ceil(np.log2(np.maximum(_bias_step(bias, scaling, target), 2.0**-120))))
        guarded = fit > snapped
        snapped = np.maximum(snapped, fit)
    shape = (-1,) + (1,) * (integers.ndim - 1)
    fresh = np.rint(integers * (ideal / snapped).reshape(shape))
    bias_integers, error = _round_bias(bias, snapped, scaling, target)
    return ScaledWeights(
        np.clip(fresh, *target.weight_range).astype(np.int8),
        snapped,
        snapped,
        bias_integers,
        error,
        guarded,
        np.ones(len(ideal), bool),
    )


def _revive(ideal: np.ndarray, dead: np.ndarray, scaling: LinearScaling) -> np.ndarray:
    """Gives all-zero channels a finite step like their neighbours'; their own means nothing."""
    alive = ideal[~dead]
    usual = float(np.median(alive)) if alive.size else scaling.step_out / scaling.step_in / 128
    revived: np.ndarray = np.where(dead, usual, ideal)
    return revived


def _smallest_step(scaling: LinearScaling, target: Target) -> float:
    """Below it a requantisation would have to shift by more bits than the hardware has."""
    return scaling.step_out / scaling.step_in * 2.0**-target.max_shift


def _bias_step(bias: np.ndarray, scaling: LinearScaling, target: Target) -> np.ndarray:
    """The smallest weight step with which each channel's bias fits its bits."""
    low, high = target.bias_range
    scaled = bias.astype(np.float64) * scaling.gamma_out / scaling.step_in
    step: np.ndarray = np.where(scaled < 0, scaled / low, scaled / high)
    return step


def _round_bias(
    bias: np.ndarray | None, steps: np.ndarray, scaling: LinearScaling, target: Target
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if bias is None:
        return None, None
    exact = bias.astype(np.float64) * scaling.gamma_out / (steps * scaling.step_in)
    rounded = np.clip(np.rint(exact), *target.bias_range)
    return rounded.astype(np.int32), rounded - exact
