"""From the floats of an ACCESS file back to its integers.

Weights are stored as ``S_w[c] * W_int`` and biases as ``S_w[c] * S_A * B_int``, with the scales in
attributes. Public material disagrees on what a scale is: the guide says the real value of one unit
(`GUIDE`), field files give units per real (`INT_PER_REAL`). Everything here takes the convention,
and `detect_convention` finds out which one a file uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from dlaconv.ir.layers import exact_step
from dlaconv.ir.target import Interval

GUIDE = "guide"
INT_PER_REAL = "int-per-real"
CONVENTIONS = (GUIDE, INT_PER_REAL)
CONVENTION_KEY = "dlaconv.scale_convention"
"""Key of the model's metadata that records the convention."""

RESIDUAL_TOLERANCE = 1e-3
"""How far, in units, a stored value may be from an integer: the grid is inexact in float32."""
_RELATIVE_TOLERANCE = 2.0**-20  # float32 rounding of a value and of its two scales
_LARGEST_INTEGER = 2**40  # beyond any accumulator; keeps the cast to int64 defined


@dataclass(frozen=True, eq=False)
class DecodedWeights:
    """Weights as the hardware holds them.

    Attributes:
        integers: int64, output channels first: ``[O, I/group, kh, kw]`` or ``[O, K]``.
        scales: float64 ``[O]``, the attribute as stored.
        residual: float64 ``[O]``, distance of the channel's worst value from an integer, in
            units; ``inf`` where the scale is unusable or a value is not finite.
        vanished: bool ``[O]``, channels whose stored values are not all zero, but whose integers
            are: what a whole file looks like under the wrong convention.
        convention: what ``scales`` mean.
    """

    integers: np.ndarray
    scales: np.ndarray
    residual: np.ndarray
    vanished: np.ndarray
    convention: str

    @property
    def usable(self) -> np.ndarray:
        """Bool ``[O]``: channels with a positive, finite scale."""
        return usable_scales(self.scales)

    @property
    def steps(self) -> tuple[Fraction, ...]:
        """Real value of one unit per channel, exact; 0 where the scale is unusable."""
        return tuple(
            _exact_step(float(scale), self.convention) if usable else Fraction(0)
            for scale, usable in zip(self.scales, self.usable, strict=True)
        )


@dataclass(frozen=True, eq=False)
class DecodedBias:
    """A bias as the hardware holds it.

    Attributes:
        integers: int64 ``[O]``, in units of weight step times input step.
        residual: float64 ``[O]``, distance from an integer in units; ``inf`` where undefined.
    """

    integers: np.ndarray
    residual: np.ndarray

    @property
    def tolerance(self) -> np.ndarray:
        """Float64 ``[O]``: the residual that float32 storage explains."""
        relative: np.ndarray = np.abs(self.integers) * _RELATIVE_TOLERANCE
        return RESIDUAL_TOLERANCE + relative


def usable_scales(scales: np.ndarray) -> np.ndarray:
    """True where a scale is positive and finite."""
    usable: np.ndarray = np.isfinite(scales) & (scales > 0)
    return usable


def step_size(scale: float, convention: str) -> Fraction:
    """Real value of one unit of a feature map.

    Args:
        scale: the attribute, positive and finite.
        convention: one of `CONVENTIONS`.
    """
    literal = Fraction(scale)
    return literal if convention == GUIDE else 1 / literal


def decode_weights(weights: np.ndarray, scales: np.ndarray, convention: str) -> DecodedWeights:
    """Weights as integers.

    Args:
        weights: the stored floats, output channels first.
        scales: ``weight_ch_scales``, one per output channel.
        convention: one of `CONVENTIONS`.

    Raises:
        ValueError: if the number of scales is not the number of output channels.
    """
    if weights.ndim == 0 or scales.shape != weights.shape[:1]:
        channels = weights.shape[0] if weights.ndim else 0
        raise ValueError(f"{scales.size} scales for {channels} output channels")
    scales = scales.astype(np.float64)
    units = _units(weights, scales, convention)
    integers, distance = _nearest_integers(units)
    residual = distance.max(axis=1, initial=0.0)
    vanished = units.any(axis=1) & ~integers.any(axis=1) & np.isfinite(residual)
    return DecodedWeights(integers.reshape(weights.shape), scales, residual, vanished, convention)


def decode_bias(bias: np.ndarray, weight_steps: np.ndarray, input_step: float) -> DecodedBias:
    """A bias as integers.

    Args:
        bias: the stored floats, ``[O]``.
        weight_steps: float64 ``[O]``, real value of one weight unit; not finite or not positive
            where unknown.
        input_step: real value of one unit of the layer's input.

    Raises:
        ValueError: if the lengths differ.
    """
    if bias.shape != weight_steps.shape:
        raise ValueError(f"{bias.size} bias values for {weight_steps.size} output channels")
    step = weight_steps * input_step
    units = np.full(bias.shape, np.inf)
    np.divide(bias, step, out=units, where=usable_scales(step), casting="unsafe")
    return DecodedBias(*_nearest_integers(units))


def float_steps(scales: np.ndarray, convention: str) -> np.ndarray:
    """Real value of one unit per channel in float64; ``nan`` where a scale is unusable."""
    usable = usable_scales(scales)
    steps = np.where(usable, scales, 1.0).astype(np.float64)
    if convention == INT_PER_REAL:
        steps = 1.0 / steps
    return np.where(usable, steps, np.nan)


def grid_error(values: np.ndarray, divisor: Interval) -> np.ndarray:
    """Relative distance of positive finite values from the nearest 2^n / a, a in ``divisor``."""
    mantissas = _grid_mantissas(*divisor)
    mantissa, _ = np.frexp(values.astype(np.float64))
    right = np.searchsorted(mantissas, mantissa)  # the grid ends in 1.0, above every mantissa
    error: np.ndarray = np.minimum(
        np.abs(mantissas[right] / mantissa - 1), np.abs(mantissas[right - 1] / mantissa - 1)
    )
    return error


def detect_convention(
    layers: Iterable[tuple[np.ndarray, np.ndarray]], integer_range: Interval
) -> tuple[str | None, str]:
    """Finds the convention under which stored weights are integers.

    A channel speaks for a convention if all its values are integers of ``integer_range`` under it,
    and no value but zero becomes zero; scales that are powers of two near 1 may speak for both.

    Args:
        layers: weights (output channels first) and scales of each layer.
        integer_range: smallest and largest integer of a weight.

    Returns:
        The convention, None if the weights do not tell, and the evidence in words.
    """
    votes = dict.fromkeys(CONVENTIONS, 0)
    channels = 0
    for weights, scales in layers:
        if weights.ndim == 0 or scales.shape != weights.shape[:1]:
            continue
        rows = weights.reshape(len(scales), -1)
        channels += int(rows.any(axis=1).sum())
        fits = {name: _fits(rows, scales, name, integer_range) for name in CONVENTIONS}
        for name, other in (CONVENTIONS, CONVENTIONS[::-1]):
            votes[name] += int((fits[name] & ~fits[other]).sum())
    evidence = " and ".join(f"{votes[name]} only as '{name}'" for name in CONVENTIONS)
    words = f"of {channels} weight channels, {evidence} hold integers"
    if votes[GUIDE] == votes[INT_PER_REAL]:
        return None, words
    return max(CONVENTIONS, key=votes.__getitem__), words


def _units(weights: np.ndarray, scales: np.ndarray, convention: str) -> np.ndarray:
    """Stored values in units of their channel, ``[O, rest]``; ``inf`` for an unusable scale."""
    rows = weights.reshape(len(scales), -1).astype(np.float64)
    usable = usable_scales(scales)
    safe = np.where(usable, scales, 1.0)[:, None]
    with np.errstate(over="ignore"):
        units: np.ndarray = rows / safe if convention == GUIDE else rows * safe
    units[~usable] = np.inf
    return units


def _nearest_integers(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers and distances from them; 0 and ``inf`` where a value is no usable number."""
    defined = np.abs(units) < _LARGEST_INTEGER  # False for nan
    safe = np.where(defined, units, 0.0)
    nearest = np.rint(safe)
    return nearest.astype(np.int64), np.where(defined, np.abs(safe - nearest), np.inf)


def _fits(
    rows: np.ndarray, scales: np.ndarray, convention: str, integer_range: Interval
) -> np.ndarray:
    integers, distance = _nearest_integers(_units(rows, scales, convention))
    fits: np.ndarray = (
        (distance <= RESIDUAL_TOLERANCE).all(axis=1)
        & (integers >= integer_range[0]).all(axis=1)
        & (integers <= integer_range[1]).all(axis=1)
        & ((integers != 0) | (rows == 0)).all(axis=1)
        & rows.any(axis=1)
    )
    return fits


@lru_cache(maxsize=4096)
def _exact_step(scale: float, convention: str) -> Fraction:
    step = exact_step(scale)
    return step if convention == GUIDE else 1 / step


@lru_cache
def _grid_mantissas(low: int, high: int) -> np.ndarray:
    mantissas, _ = np.frexp(1.0 / np.arange(low, high + 1))
    distinct = np.unique(mantissas)  # in [0.5, 1)
    return np.concatenate(([distinct[-1] / 2], distinct, [distinct[0] * 2]))
