"""Where the error of a map is: in which channels, and how large it gets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np


def decibels(signal: float, noise: float) -> float | None:
    """Signal over noise in dB to one decimal; None without noise or without signal."""
    if noise <= 0 or signal <= 0:
        return None
    return round(10 * math.log10(signal / noise), 1)


@dataclass
class ChannelErrors:
    """Sums over samples of the errors of a map's channels, the second axis.

    Attributes:
        largest: greatest error in units.
    """

    largest: float = 0.0
    _signal: np.ndarray = field(default_factory=lambda: np.zeros(1))
    _noise: np.ndarray = field(default_factory=lambda: np.zeros(1))
    _peak: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def add(self, wanted: np.ndarray, got: np.ndarray) -> None:
        """Adds one sample, both in units: the source's values and the hardware's integers."""
        if wanted.size == 0:
            return
        channels = wanted.shape[1] if wanted.ndim > 1 else 1
        rows = wanted.reshape(-1, channels, max(wanted.size // (len(wanted) * channels), 1))
        real = rows.astype(np.float64)
        off = got.reshape(rows.shape).astype(np.float64) - real
        distance = np.abs(off)
        if self._signal.size != channels:
            self._signal, self._noise, self._peak = np.zeros((3, channels))
        self._signal += np.square(real).sum(axis=(0, 2))
        self._noise += np.square(off).sum(axis=(0, 2))
        np.maximum(self._peak, distance.max(axis=(0, 2)), out=self._peak)
        self.largest = max(self.largest, float(distance.max()))

    def worst(self, count: int, unit: float) -> list[dict[str, Any]]:
        """The channels with most of the error, none of those without any.

        Args:
            count: how many at most.
            unit: real value of a unit.
        """
        total = float(self._noise.sum())
        order = [int(index) for index in np.argsort(-self._noise, kind="stable")[:count]]
        return [
            {
                "channel": index,
                "qsnr_db": decibels(float(self._signal[index]), float(self._noise[index])),
                "max_error": float(self._peak[index]) * unit,
                "share": round(float(self._noise[index]) / total, 4),
            }
            for index in order
            if self._noise[index] > 0
        ]
