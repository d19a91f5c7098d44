"""How far the hardware's integers are from the source's values, map by map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlaconv.ir.argmax import Argmax

_NOISE = 1e-4
"""Units by which float32 arithmetic of a source puts its values beside their grid."""
_HALF = 0.5 + _NOISE
"""An integer further than this from the source's value is not the nearest one."""
_UNIT_NOISE = 1e-3
_EXACT_HALVES = 1 << 22
"""Up to here float32 holds every half-integer."""
_BLOCK = 1 << 13
"""Values that are looked at together; from 10,000 on BLAS starts threads, which cost more here."""


def blocks(count: int, size: int = 1) -> Iterator[slice]:
    """Cuts ``count`` items of ``size`` values into runs that stay in the processor's cache."""
    length = max(1, _BLOCK // max(size, 1))
    for start in range(0, count, length):
        yield slice(start, min(start + length, count))


def in_units(values: np.ndarray, step: float, ratios: np.ndarray | None = None) -> np.ndarray:
    """Real values in units of a step.

    Values of the source's own grid are integers or, where a step was doubled, half-integers;
    float32 puts them a little beside.

    Args:
        values: real values.
        step: what one unit is worth.
        ratios: what the values are multiplied by first; broadcasts against them.

    Returns:
        The units as a contiguous array: float32 where all of them are on the grid, else float64.
    """
    if ratios is not None and (ratios != 1).any():
        values = values * ratios
    flat = np.ascontiguousarray(values).reshape(-1)
    found = np.empty(flat.shape, np.float32)
    for part in blocks(flat.size):
        units = flat[part].astype(np.float64)
        units /= step
        halves = units * 2
        np.rint(halves, out=halves)
        halves /= 2
        beside = ~(np.abs(units - halves) < _NOISE)
        if beside.any() or np.abs(halves).max() >= _EXACT_HALVES:
            if found.dtype == np.float32:
                done, found = found[: part.start], np.empty(flat.shape, np.float64)
                found[: part.start] = done
            halves[beside] = units[beside]
        found[part] = halves
    return found.reshape(values.shape)


def summed_errors(terms: Sequence[tuple[np.ndarray, float]]) -> float:
    """Sum over all positions of ``|sum of values times their error|``; arrays of one shape."""
    total = 0.0
    for part in blocks(terms[0][0].size):
        off = sum(error * values.reshape(-1)[part].astype(np.float64) for values, error in terms)
        total += float(np.abs(off).sum())
    return total


@dataclass(frozen=True)
class Comparison:
    """What is known about one map before it is compared.

    Attributes:
        name: the map.
        layer: the layer that makes it.
        fidelity: its class, see `dlaconv.ir.records.Fidelity`.
        real_step: real value of one unit.
        qmin: smallest integer on the hardware.
        qmax: largest integer on the hardware.
        channel_error: relative error of each output channel's multiplier, None where the map's
            layer has no weights.
        clip: where the source clips, in units of the hardware's step; None where it does not
            quantise.
        source_step: the source's step in units of the hardware's; 1 where it does not quantise.
        roundings: largest error of one rounding of the hardware and of the source, each in its own
            steps: a half to nearest, one in the directed modes.
        bias_error: units that rounding the layer's bias may move its result.
        gain_error: units that the gains of a sum of maps may move it, where they are not met.
        requantised: True if the weights of its layer were rounded anew, which no bound covers.
    """

    name: str
    layer: str
    fidelity: str
    real_step: float
    qmin: int
    qmax: int
    channel_error: np.ndarray | None = None
    clip: tuple[float, float] | None = None
    source_step: float = 1.0
    requantised: bool = False
    roundings: tuple[float, float] = (0.5, 0.5)
    bias_error: float = 0.0
    gain_error: float = 0.0

    @property
    def tolerance(self) -> float:
        """Units by which a layer's result may differ when its input is the source's, at least one.

        The two roundings add up. Before them, a weight step that was rounded to the grid moves a
        value by its error times the unrounded value, gains that are not met move a sum, and the
        bias is rounded to its unit.
        """
        if self.requantised:
            return math.inf
        hardware, source = self.roundings
        roundings = hardware + source * self.source_step + self.bias_error + self.gain_error
        if self.channel_error is not None:
            largest = max(abs(self.qmin), abs(self.qmax)) + source * self.source_step
            roundings += float(self.channel_error.max(initial=0)) * largest
        return max(1.0, roundings) + _UNIT_NOISE


@dataclass
class Difference:
    """Sums over samples of one map's differences; its properties are the results.

    Attributes:
        count: values compared.
        differing: values that are not the integer next to the source's value.
        clipped: values that the hardware saturates and the source does not.
        beyond: values that the source clips and the hardware, whose range is wider, does not.
        largest: largest difference in units of the hardware's step, of all other values.
    """

    count: int = 0
    differing: int = 0
    clipped: int = 0
    beyond: int = 0
    largest: float = 0.0
    _signal: float = 0.0
    _noise: float = 0.0
    _dot: float = 0.0
    _got: float = 0.0

    def add(self, wanted: np.ndarray, got: np.ndarray, about: Comparison) -> None:
        """Adds one sample.

        Args:
            wanted: the source's values in units of the hardware's step.
            got: the hardware's integers, of any type.
            about: range and clip of the map.
        """
        for part in blocks(wanted.size):
            self._add_block(
                wanted.reshape(-1)[part].astype(np.float64),
                got.reshape(-1)[part].astype(np.float64),
                about,
            )

    def _add_block(self, wanted: np.ndarray, got: np.ndarray, about: Comparison) -> None:
        signal = float(np.vdot(wanted, wanted))
        self.count += wanted.size
        self._signal += signal
        off = got - wanted
        if not off.any():
            self._dot += signal
            self._got += signal
            return
        distance = np.abs(off)
        largest = float(distance.max())
        if largest > _HALF:
            largest = self._count(wanted, off, distance, about)
        self.largest = max(self.largest, largest)
        self._noise += float(np.vdot(off, off))
        self._dot += float(np.vdot(wanted, got))
        self._got += float(np.vdot(got, got))

    def _count(
        self, wanted: np.ndarray, off: np.ndarray, distance: np.ndarray, about: Comparison
    ) -> float:
        """Counts the values that are off; returns the largest distance that is not exempt."""
        exempt = (wanted > about.qmax + _HALF) | (wanted < about.qmin - _HALF)
        self.differing += int((distance > _HALF).sum())
        self.clipped += int(exempt.sum())
        if about.clip is not None:
            low, high = about.clip
            above = (wanted >= high - _NOISE) & (off > 1)
            below = (wanted <= low + _NOISE) & (off < -1)
            self.beyond += int((above | below).sum())
            exempt |= above | below
        return float(distance[~exempt].max(initial=0))

    @property
    def qsnr_db(self) -> float:
        """Signal over noise, ``10 log10(sum x^2 / sum (x - y)^2)``; infinite without noise."""
        if self._noise == 0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf

    @property
    def cosine(self) -> float:
        """Cosine of the angle between source and hardware values; 1 for two zero maps."""
        norm = math.sqrt(self._signal * self._got)
        return self._dot / norm if norm else float(self._signal == self._got)

    def as_json(self) -> dict[str, Any]:
        """The results as JSON values; an infinite QSNR is null."""
        qsnr = self.qsnr_db
        return {
            "count": self.count,
            "differing": self.differing,
            "clipped": self.clipped,
            "beyond": self.beyond,
            "largest": round(self.largest, 4),
            "qsnr_db": round(qsnr, 1) if math.isfinite(qsnr) else None,
            "cosine": round(self.cosine, 6),
        }


def _weighted(values: np.ndarray, weights: np.ndarray) -> float:
    """Sum of magnitudes times a weight per channel, the first axis."""
    rows = values.reshape(len(values), -1)
    total = 0.0
    for part in blocks(len(rows), rows.shape[1]):
        total += float(np.vdot(np.abs(rows[part]).sum(axis=1, dtype=np.float64), weights[part]))
    return total


@dataclass
class MapRow:
    """One map's row of a verification.

    Attributes:
        about: the map.
        accumulated: the network run from its inputs.
        local: its layer fed with the source's values.
        argmax: which value is the largest, where the map has one for each channel.
        predicted: expected share of locally differing integers from rounding the weight steps:
            mean of |q_c| times the relative error of channel c's multiplier (for a sum of maps,
            mean of what its gains are off).
    """

    about: Comparison
    accumulated: Difference = field(default_factory=Difference)
    local: Difference = field(default_factory=Difference)
    argmax: Argmax = field(default_factory=Argmax)
    _predicted: float | None = None

    def add(self, wanted: np.ndarray, accumulated: np.ndarray, local: np.ndarray) -> None:
        """Adds one sample of the map, all in units of its step."""
        about = self.about
        self.accumulated.add(wanted, accumulated, about)
        self.local.add(wanted, local, about)
        self.argmax.add(wanted, accumulated)
        errors = about.channel_error
        if errors is not None and wanted.ndim > 1 and wanted.shape[1] == errors.size:
            self.predict(sum(_weighted(values, errors) for values in wanted))

    def predict(self, differing: float) -> None:
        """Adds the expected number of differing integers of one sample."""
        self._predicted = (self._predicted or 0.0) + differing

    @property
    def predicted(self) -> float | None:
        """Expected share of locally differing integers, None where nothing is predicted."""
        if self._predicted is None or not self.local.count:
            return None
        return self._predicted / self.local.count

    @property
    def explained(self) -> bool:
        """True if roundings explain every difference of the layer fed with the source's values.

        Values beyond the range of the hardware or of the source are counted apart.
        """
        return self.local.largest <= self.about.tolerance

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values; see ``schemas/verify.schema.json``."""
        predicted = self.predicted
        return {
            "name": self.about.name,
            "layer": self.about.layer,
            "class": self.about.fidelity,
            "real_step": self.about.real_step,
            "accumulated": self.accumulated.as_json(),
            "local": self.local.as_json(),
            "predicted_share": None if predicted is None else round(predicted, 6),
        }


def argmax_json(rows: Sequence[MapRow], outputs: Sequence[str]) -> dict[str, Any]:
    """Which values of outputs are the largest, by name, where they have one for each channel."""
    found = {row.about.name: row.argmax for row in rows}
    return {
        name: found[name].as_json() for name in outputs if name in found and found[name].samples
    }
