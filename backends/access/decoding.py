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
import onnx_ir as ir

from dlaconv.ir.blocks import BlockTensor, forget, row_blocks, rows_of, shape_tuple
from dlaconv.ir.target import Interval
from dlaconv.ir.weight_steps import grid_steps

Rows = np.ndarray | BlockTensor
"""Stored weights, output channels first."""

GUIDE = "guide"
INT_PER_REAL = "int-per-real"
CONVENTIONS = (GUIDE, INT_PER_REAL)
CONVENTION_KEY = "dlaconv.scale_convention"
"""Key of the model's metadata that records the convention."""

RESIDUAL_TOLERANCE = 1e-3
"""How far, in units, a stored value may be from an integer: the grid is inexact in float32."""
_RELATIVE_TOLERANCE = 2.0**-20  # float32 rounding of a value and of its two scales
_FLOAT32_NOISE = 1e-4  # units; above what float32 makes of an integer below 2^8
_DOUBLE_ERROR = 2.0**-50
_LARGEST_INTEGER = 2**40  # beyond any accumulator; keeps the cast to int64 defined


class DecodedWeights:
    """Weights as the hardware holds them, decoded block by block when they are read.

    Attributes:
        stored: the floats in the file, output channels first.
        scales: float64 ``[O]``, the attribute as stored.
        convention: what ``scales`` mean.
    """

    def __init__(self, stored: Rows, scales: np.ndarray, convention: str) -> None:
        """See `decode_weights`."""
        self.stored, self.scales, self.convention = stored, scales, convention
        self._facts = WeightFacts.empty(self.usable)
        self._known = 0  # channels that the facts cover

    @property
    def usable(self) -> np.ndarray:
        """Bool ``[O]``: channels with a positive, finite scale."""
        return usable_scales(self.scales)

    @property
    def shape(self) -> tuple[int, ...]:
        """``[O, I/group, kh, kw]`` or ``[O, K]``."""
        return shape_tuple(self.stored)

    @property
    def steps(self) -> np.ndarray:
        """Real value of one unit per channel, float64, on the grid; nan where it is unusable."""
        steps = grid_steps(np.where(self.usable, self.scales, 1.0))
        if self.convention == INT_PER_REAL:
            steps = 1.0 / steps
            short = steps.astype(np.float32)  # the inverse of 2^n/a has 8 bits
            steps = np.where(np.abs(short / steps - 1.0) < _DOUBLE_ERROR, short, steps)
        return np.where(self.usable, steps, np.nan)

    @property
    def integers(self) -> np.ndarray:
        """All integers, int64."""
        integers = np.empty(self.shape, np.int64)
        for rows, block in row_blocks(self.stored):
            nearest, _ = _defined(_units(block, self.scales[rows], self.convention))
            integers[rows] = nearest.reshape(integers[rows].shape)
        return integers

    def tensor(self, name: str, limits: Interval) -> BlockTensor:
        """The integers as int8, clipped to ``limits``, as a constant that is decoded when read."""

        def decode(rows: slice) -> np.ndarray:
            block = rows_of(self.stored, rows)
            nearest = self._nearest(rows, block)
            forget(block)
            facts = self._facts
            if self._known < rows.stop or not (
                np.isfinite(facts.residual[rows]).all()
                and limits[0] <= facts.low[rows].min(initial=0)
                and facts.high[rows].max(initial=0) <= limits[1]
            ):
                nearest = np.clip(np.nan_to_num(nearest, nan=0.0), *limits)
            return nearest.astype(np.int8).reshape(block.shape)

        return BlockTensor(decode, ir.DataType.INT8, self.shape, name)

    @property
    def facts(self) -> WeightFacts:
        """What rules need of the integers."""
        if self._known < len(self.scales):
            for rows, block in row_blocks(self.stored):
                self._nearest(rows, block)
        return self._facts

    def _nearest(self, rows: slice, block: np.ndarray) -> np.ndarray:
        """The nearest integers, ``[rows, rest]``; whoever walks all of them collects facts.

        What is no number, or beyond all integers, stays so.
        """
        units = _units(block, self.scales[rows], self.convention)
        nearest: np.ndarray = np.rint(units)
        if rows.start == self._known:
            self._facts.note(rows, units, nearest)
            self._known = rows.stop
        return nearest


@dataclass(frozen=True, eq=False)
class WeightFacts:
    """A few numbers per output channel of decoded weights, each ``[O]``.

    Attributes:
        usable: the channel's scale is positive and finite.
        residual: distance of the channel's worst value from an integer, in units; ``inf`` where
            the scale is unusable or a value is not finite.
        vanished: the stored values are not all zero, but the integers are: what a whole file
            looks like under the wrong convention.
        lost: some stored value is not zero, but its integer is.
        low: smallest integer.
        high: largest integer.
        total: sum of the magnitudes.
    """

    usable: np.ndarray
    residual: np.ndarray
    vanished: np.ndarray
    lost: np.ndarray
    low: np.ndarray
    high: np.ndarray
    total: np.ndarray

    @classmethod
    def empty(cls, usable: np.ndarray) -> WeightFacts:
        """Facts of channels without any weight."""
        count = len(usable)
        return cls(
            usable,
            residual=np.zeros(count),
            vanished=np.zeros(count, bool),
            lost=np.zeros(count, bool),
            low=np.zeros(count, np.int64),
            high=np.zeros(count, np.int64),
            total=np.zeros(count, np.int64),
        )

    def note(self, rows: slice, units: np.ndarray, nearest: np.ndarray) -> None:
        """Fills in the channels of one block: ``[rows, rest]`` in units, and the integers.

        The units may be overwritten.
        """
        if not units.shape[1]:
            return
        low, high = nearest.min(axis=1), nearest.max(axis=1)
        largest = np.maximum(-low, high)  # nan and inf stay in minimum and maximum
        if (largest < _LARGEST_INTEGER).all():
            distance = np.subtract(units, nearest, out=units)
            np.abs(distance, out=distance)
        else:
            nearest, distance = _defined(units)
            low, high = nearest.min(axis=1), nearest.max(axis=1)
            largest = np.maximum(-low, high)
        self.residual[rows] = residual = distance.max(axis=1)
        self.low[rows], self.high[rows] = low, high
        empty = (low == 0) & (high == 0)
        doubtful = empty | (residual > _FLOAT32_NOISE)  # elsewhere only zero can become zero
        if doubtful.any():
            lost = np.zeros(len(units), bool)
            lost[doubtful] = ((nearest[doubtful] == 0) & (distance[doubtful] != 0)).any(axis=1)
            self.lost[rows] = lost
            self.vanished[rows] = lost & empty & np.isfinite(residual)
        exact = float(largest.max()) * units.shape[1] < 1 << np.finfo(units.dtype).nmant
        magnitudes = np.abs(nearest, out=distance)
        self.total[rows] = magnitudes.sum(axis=1, dtype=None if exact else np.float64)


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


def decode_weights(weights: Rows, scales: np.ndarray, convention: str) -> DecodedWeights:
    """Weights as integers.

    Args:
        weights: the stored floats, output channels first.
        scales: ``weight_ch_scales``, one per output channel.
        convention: one of `CONVENTIONS`.

    Raises:
        ValueError: if the number of scales is not the number of output channels.
    """
    shape = shape_tuple(weights)
    if not shape or scales.shape != shape[:1]:
        channels = shape[0] if shape else 0
        raise ValueError(f"{scales.size} scales for {channels} output channels")
    return DecodedWeights(weights, scales.astype(np.float64), convention)


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
    nearest, distance = _defined(units)
    return DecodedBias(nearest.astype(np.int64), distance)


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
    layers: Iterable[tuple[Rows, np.ndarray]], integer_range: Interval
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
        try:
            facts = {name: decode_weights(weights, scales, name).facts for name in CONVENTIONS}
        except ValueError:
            continue
        alive = facts[GUIDE].lost | (facts[GUIDE].total > 0) | ~facts[GUIDE].usable
        channels += int(alive.sum())
        fits = {name: _fits(found, integer_range) for name, found in facts.items()}
        for name, other in (CONVENTIONS, CONVENTIONS[::-1]):
            votes[name] += int((fits[name] & ~fits[other]).sum())
    evidence = " and ".join(f"{votes[name]} only as '{name}'" for name in CONVENTIONS)
    words = f"of {channels} weight channels, {evidence} hold integers"
    if votes[GUIDE] == votes[INT_PER_REAL]:
        return None, words
    return max(CONVENTIONS, key=votes.__getitem__), words


def _units(block: np.ndarray, scales: np.ndarray, convention: str) -> np.ndarray:
    """Stored values in units of their channel, ``[rows, rest]``; inf for an unusable scale."""
    rows = block.reshape(len(scales), -1)
    usable = usable_scales(scales)
    safe = np.where(usable, scales, 1.0)[:, None].astype(rows.dtype)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        units: np.ndarray = rows / safe if convention == GUIDE else rows * safe
    units[~usable] = np.inf
    return units


def _defined(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers (float64) and distances from them; 0 and inf where a value is no usable number."""
    nearest = np.rint(units)
    with np.errstate(invalid="ignore"):
        distance = np.abs(units - nearest)
    undefined = ~(np.abs(nearest) < _LARGEST_INTEGER)  # True for nan
    if undefined.any():
        nearest[undefined], distance[undefined] = 0.0, np.inf
    return nearest, distance


def _fits(facts: WeightFacts, integer_range: Interval) -> np.ndarray:
    fits: np.ndarray = (
        (facts.residual <= RESIDUAL_TOLERANCE)
        & (facts.low >= integer_range[0])
        & (facts.high <= integer_range[1])
        & ~facts.lost
        & (facts.total > 0)
    )
    return fits


@lru_cache
def _grid_mantissas(low: int, high: int) -> np.ndarray:
    mantissas, _ = np.frexp(1.0 / np.arange(low, high + 1))
    distinct = np.array(sorted(set(mantissas.tolist())))  # in [0.5, 1)
    return np.concatenate(([distinct[-1] / 2], distinct, [distinct[0] * 2]))
