"""What a step costs: the error of the hardware's rounding against the source's."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dlaconv.ir.calibration.tail import Tail
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.scales.groups import MapVariable, StepClass
from dlaconv.ir.target import Target


class Samples(dict[str, np.ndarray]):
    """Unrounded values of maps as seen on data, by name of the value."""

    def tail(self, name: str) -> Tail:
        """What the values of a map do not show."""
        if name not in self._tails:
            self._tails[name] = Tail.of(self[name])
        return self._tails[name]

    @cached_property
    def _tails(self) -> dict[str, Tail]:
        return {}


SAME = 1e-6
"""Two steps closer than this (relative) are the same step; float32 products differ by less."""


FAR = 1e3
"""Added to the error of a map of which some value is off by more than a unit (the coarser step)."""
_ONE_UNIT = 1 + 1e-3


def hardware_range(item: StepClass, target: Target) -> tuple[int, int]:
    """Smallest and largest integer of a step class on the hardware."""
    low, high = target.map_range
    return (0, high - low) if item.unsigned else (low, high)


def clip_range(source: Quantisation) -> tuple[float, float]:
    """Where a per-tensor quantisation clips, in units of its step: integers less the zero point."""
    zero = float(source.zero_point.reshape(-1)[0])
    return source.qmin - zero, source.qmax - zero


def natural_step(source: Quantisation, limits: tuple[int, int]) -> float:
    """The finest step that keeps the source's integers, or else covers its range.

    Unsigned 8-bit maps on signed hardware double their step: 255 becomes 127.5 units, which clips
    by half a unit, instead of saturating at half range.

    Args:
        source: per-tensor quantisation.
        limits: the hardware's smallest and largest integer.
    """
    bottom, top = clip_range(source)
    if bottom < 0 and not limits[0]:  # a range of ours, on a map that is never negative
        return source.scalar_step * top / limits[1]
    units = max(1.0, (top + 1) / (limits[1] + 1))
    if bottom < 0:
        units = max(units, bottom / limits[0])
    return source.scalar_step * units


def is_exact(source: Quantisation, step: float, limits: tuple[int, int]) -> bool:
    """True if the hardware holds the source's integers, less the zero point, at its step.

    Values on a grid that a fractional zero point shifts are none of the hardware's.
    """
    return (
        clip_range(source)[0].is_integer()
        and abs(step / source.scalar_step - 1) < SAME
        and float(natural_step(source, limits)) == source.scalar_step
    )


def error(
    variable: MapVariable,
    step: float,
    limits: tuple[int, int],
    samples: Samples,
    strict: bool = True,
) -> float:
    """Noise over signal that a step causes at one map, relative to the source's own values.

    Args:
        variable: the map.
        step: the real step on the hardware.
        limits: the hardware's smallest and largest integer.
        samples: unrounded values; without those of this map the error is estimated.
        strict: whether a value that is off by more than a unit counts more than all noise.

    Returns:
        Noise over signal, plus `FAR` if that is so.
    """
    source = variable.source
    values = samples.get(variable.unrounded)
    if values is None or not values.size:
        return _estimate(variable, step, limits)
    wanted = values if variable.derived else source.on_grid(values)
    if variable.clip is not None:
        wanted = np.clip(wanted, *variable.clip)
    # in units of the step, where float32 is as good as double
    exact = values / step
    units = exact if wanted is values else wanted / step
    off = np.rint(exact)
    np.clip(off, *limits, out=off)
    off -= units
    far = False
    if strict and not (variable.derived and variable.clip is None):  # there rare values saturate
        largest = max(float(off.max()), -float(off.min())) * step
        far = largest > max(step, source.scalar_step) * _ONE_UNIT
    noise = float(np.square(off, out=off).mean())
    if variable.derived and variable.clip is None:
        noise += _unseen(units, samples.tail(variable.unrounded), step, limits[1])
    power = float(np.square(units).mean()) + (source.scalar_step / step / 4) ** 2
    return noise / power + (FAR if far else 0.0)


def _unseen(units: np.ndarray, tail: Tail, step: float, largest: int) -> float:
    """Noise that clipping adds on other data, in units: the tail's less what these data show."""
    expected = tail.clipped_power(largest * step) / step**2
    if not expected:
        return 0.0
    return max(0.0, expected - float(np.square(np.maximum(np.abs(units) - largest, 0)).mean()))


def _estimate(variable: MapVariable, step: float, limits: tuple[int, int]) -> float:
    """Both roundings are uniform; what is clipped is a tail of a map that uses its range."""
    source = variable.source
    if is_exact(source, step, limits) and not variable.derived:
        return 0.0
    natural = natural_step(source, limits)
    noise = (step**2 + source.scalar_step**2) / 12
    # a bound is hardly ever reached, but a clip is, and must not come later either
    clipped = 0.0 if variable.derived else max(0.0, (natural - step) * limits[1])
    if variable.clip is not None:
        clipped = abs(natural - step) * limits[1]
    spread = natural * limits[1] / 4
    return (noise + 0.01 * clipped**2) / spread**2
