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

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dlaconv.ir.blocks import in_parallel, row_slices
from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.target import Target

_SPACING = 1 + 1 / 128
"""Largest ratio of neighbours on the grid."""


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


def keep_integers(
    values: np.ndarray,
    steps: np.ndarray | None,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Weights that keep the source's integers, or hold its real weights (policy ``absorb``).

    Args:
        values: ``[O, ...]`` integers of the source, or real weights.
        steps: ``[O]`` real value of one unit, None for real weights.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps.
        target: the hardware.
        grid: the grid of weight steps.
    """
    if steps is None:
        return scale_reals(values, bias, scaling, target, grid)
    return scale_integers(values, steps, bias, scaling, target, grid)


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
    ideal, needed, dead = natural_steps(integers, steps, scaling, target)
    own = steps.astype(np.float64) * scaling.ratio
    kept = dead & _good_as_any(own, ideal, bias, scaling, target)
    ideal, needed = np.where(kept, own, ideal), np.where(kept, own, needed)
    needed, too_small = raised_steps(needed, bias, scaling, target)
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
    bias_integers, error = round_bias(bias, ideal, scaling, target)
    return ScaledWeights(
        result.astype(np.int8, copy=False),
        chosen,
        ideal,
        bias_integers,
        error,
        too_small & ~dead,
        changed,
    )


def scale_reals(
    weights: np.ndarray,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
    fit: Callable[[np.ndarray], np.ndarray] | None = None,
) -> ScaledWeights:
    """Quantises a float layer: the grid step first, then the weights on it.

    Args:
        weights: ``[O, ...]`` real weights.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps.
        target: the hardware.
        grid: the grid of weight steps.
        fit: makes better steps of those that cover each channel, float64 ``[O]``.
    """
    low, high = target.weight_range
    _, needed, dead = natural_steps(weights, None, scaling, target)
    needed = needed if fit is None else fit(needed)
    needed, guarded = raised_steps(needed, bias, scaling, target)
    steps = grid.at_least(needed)
    shape = (-1,) + (1,) * (weights.ndim - 1)
    factors = (scaling.ratio / steps).reshape(shape)
    integers = np.empty(weights.shape, np.int8)

    def quantise(rows: slice) -> None:
        block = weights[rows] * factors[rows]
        integers[rows] = np.clip(np.rint(block, out=block), low, high, out=block)

    in_parallel(quantise, list(row_slices(weights.shape)))
    bias_integers, error = round_bias(bias, steps, scaling, target)
    return ScaledWeights(
        integers,
        steps,
        steps,
        bias_integers,
        error,
        guarded & ~dead,
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
    come nearest to all gains; the smallest such integer, so powers of two keep their ones. Steps
    with which the bias does not fit are left out.

    Args:
        pattern: ``[O, ...]`` zeros and ones of either sign.
        gains: real gain of each input channel's ones, ``[I]`` or ``[1]``; broadcasts on axis 1.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps; ``gamma_in`` is one, the gains hold the ratio.
        target: the hardware.
        grid: the grid of weight steps.
    """
    wanted = np.array(sorted(set((gains * scaling.gamma_out).tolist())))
    leading = np.arange(1, target.weight_range[1] + 1)
    needed = raised_steps(np.zeros(len(pattern)), bias, scaling, target)[0].max(initial=0)
    steps = np.stack(grid.around(wanted.max() / leading), axis=1).reshape(-1)
    steps = steps[steps >= needed] if (steps >= needed).any() else grid.at_least(needed.reshape(1))
    integers = np.rint(wanted / steps[:, None])
    error = np.abs(integers * steps[:, None] - wanted).sum(axis=1)
    error[integers.max(axis=1) > target.weight_range[1]] = np.inf
    best = int(np.argmax(error <= error.min() * (1 + 1e-9)))
    step = float(steps[best])
    shape = (1, -1) + (1,) * (pattern.ndim - 2)
    values = np.rint(gains * scaling.gamma_out / step).reshape(shape)
    per_channel = np.full(len(pattern), step)
    bias_integers, lost = round_bias(bias, per_channel, scaling, target)
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


def scale_row_gains(
    pattern: np.ndarray,
    gains: np.ndarray,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
    grid: WeightGrid,
) -> ScaledWeights:
    """Weights of a layer that scales each output channel by a gain of its own.

    Args:
        pattern: ``[O, ...]`` zeros and ones of either sign.
        gains: real gain of each output channel's ones, float64 ``[O]``.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps; ``gamma_in`` is one, the gains hold the ratio.
        target: the hardware.
        grid: the grid of weight steps.
    """
    wanted, group = np.unique(gains, return_inverse=True)
    least = np.zeros(len(wanted))
    np.maximum.at(least, group, raised_steps(np.zeros(len(pattern)), bias, scaling, target)[0])
    chosen = np.empty(len(wanted))
    for part in row_slices((len(wanted), 2 * target.weight_range[1])):
        chosen[part] = _step_of_each(
            wanted[part] * scaling.gamma_out, least[part], target.weight_range[1], grid
        )
    steps = chosen[group]
    values = np.rint(gains * scaling.gamma_out / steps)
    bias_integers, lost = round_bias(bias, steps, scaling, target)
    none = np.zeros(len(pattern), bool)
    return ScaledWeights(
        (pattern * values.reshape(-1, *(1,) * (pattern.ndim - 1))).astype(np.int8),
        steps,
        steps,
        bias_integers,
        lost,
        none,
        none,
    )


def _step_of_each(
    gains: np.ndarray, least: np.ndarray, largest: int, grid: WeightGrid
) -> np.ndarray:
    """The grid step that suits each gain by itself, as `scale_gains` chooses one for all.

    Args:
        gains: float64 ``[N]``.
        least: the least step of each, float64 ``[N]``.
        largest: the largest integer.
        grid: the grid of weight steps.
    """
    leading = np.arange(1, largest + 1)
    steps = np.stack(grid.around(gains[:, None] / leading), axis=2).reshape(len(gains), -1)
    allowed = steps >= least[:, None]
    integers = np.rint(gains[:, None] / steps)
    error = np.abs(integers * steps - gains[:, None])
    error[(integers > largest) | ~allowed] = np.inf
    near = allowed & (error <= error.min(axis=1, keepdims=True) * (1 + 1e-9))
    found: np.ndarray = np.where(
        allowed.any(axis=1),
        steps[np.arange(len(gains)), np.argmax(near, axis=1)],
        grid.at_least(least),
    )
    return found


def natural_steps(
    values: np.ndarray, steps: np.ndarray | None, scaling: LinearScaling, target: Target
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps that change nothing, the finest that the hardware's integers cover, dead channels.

    All-zero (dead) channels get the step of their neighbours; their own means nothing.

    Args:
        values: ``[O, ...]`` integers of the source, or real weights.
        steps: ``[O]`` real value of one unit, None for real weights, which are then covered.
        scaling: the layer's maps.
        target: the hardware.

    Returns:
        float64 ``[O]``, float64 ``[O]`` not below it, and bool ``[O]``.
    """
    low, high = target.weight_range
    rows = values.reshape(len(values), -1)
    largest = np.maximum(rows.max(1, initial=0).astype(np.float64), 0)
    smallest = np.minimum(rows.min(1, initial=0).astype(np.float64), 0)
    dead = (largest == 0) & (smallest == 0)
    if steps is None:
        ideal = _revive(np.maximum(largest, -smallest) / high * scaling.ratio, dead, scaling)
        return ideal, ideal, dead
    ideal = _revive(steps.astype(np.float64) * scaling.ratio, dead, scaling)
    return ideal, ideal * np.maximum(1.0, np.maximum(largest / high, smallest / low)), dead


def raised_steps(
    steps: np.ndarray, bias: np.ndarray | None, scaling: LinearScaling, target: Target
) -> tuple[np.ndarray, np.ndarray]:
    """Steps large enough for the hardware's shift and, by the bias guard, for the bias.

    Args:
        steps: float64 ``[O]``, what the weights ask for.
        bias: ``[O]`` real bias, None without one.
        scaling: the layer's maps.
        target: the hardware.

    Returns:
        float64 ``[O]``, and the channels that the bias guard raised.
    """
    # with smaller ones a requantisation would shift by more bits than the hardware has
    steps = np.maximum(steps, scaling.step_out / scaling.step_in * 2.0**-target.max_shift)
    if bias is None:
        return steps, np.zeros(len(steps), bool)
    low, high = target.bias_range
    scaled = bias.astype(np.float64) * scaling.gamma_out / scaling.step_in
    fit = np.where(scaled < 0, scaled / low, scaled / high)
    guarded = fit > steps * (1 + 0.5 / high)
    return np.where(guarded, fit, steps), guarded


def _good_as_any(
    own: np.ndarray,
    usual: np.ndarray,
    bias: np.ndarray | None,
    scaling: LinearScaling,
    target: Target,
) -> np.ndarray:
    """Where a step of a dead channel holds its bias, as finely as the usual step would."""
    fits = raised_steps(own, bias, scaling, target)[0] <= own
    coarsest = raised_steps(usual, bias, scaling, target)[0] * _SPACING
    good: np.ndarray = fits & (own <= coarsest)
    return good


def _revive(ideal: np.ndarray, dead: np.ndarray, scaling: LinearScaling) -> np.ndarray:
    alive = ideal[~dead]
    usual = (
        float(np.sort(alive)[alive.size // 2])
        if alive.size
        else scaling.step_out / scaling.step_in / 128
    )
    revived: np.ndarray = np.where(dead, usual, ideal)
    return revived


def round_bias(
    bias: np.ndarray | None, steps: np.ndarray, scaling: LinearScaling, target: Target
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Integers of a bias in units of ``steps * step_in``, and what rounding lost in these units."""
    if bias is None:
        return None, None
    exact = bias.astype(np.float64) * scaling.gamma_out / (steps * scaling.step_in)
    rounded = np.clip(np.rint(exact), *target.bias_range)
    return rounded.astype(np.int32), rounded - exact
