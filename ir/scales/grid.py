"""The grid of weight scales, for whole layers at once.

With real = scale * integer (the guide's convention) a step is 2^n/a; with integer = real * scale
the attribute is still 2^n/a, so the step is a/2^n. Either way a lies in 1..255 and the nearest
grid step is at most 0.39 % away (half the spacing at a = 128).
"""

from __future__ import annotations

import enum

import numpy as np


class WeightGrid(enum.StrEnum):
    """What a weight step may be; the value is the name of the scale convention."""

    RECIPROCAL = "guide"
    """Steps of 2^n/a."""
    DYADIC = "int-per-real"
    """Steps of a/2^n."""

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The grid step nearest to each value, on the relative scale.

        Args:
            values: positive float64, any shape.
        """
        low, high = self.around(values)
        nearest: np.ndarray = np.where(values - low <= high - values, low, high)
        return nearest

    def at_least(self, values: np.ndarray) -> np.ndarray:
        """The smallest grid step that is not below each value."""
        low, high = self.around(values)
        raised: np.ndarray = np.where(low >= values, low, high)
        return raised

    @property
    def mantissas(self) -> np.ndarray:
        """Every grid step in [0.5, 1), ascending; the others are these times powers of two."""
        divisors = np.arange(256, 128, -1)
        return 128 / divisors if self is WeightGrid.RECIPROCAL else np.arange(128, 256) / 256

    def ladder(self, values: np.ndarray, count: int) -> np.ndarray:
        """Descending grid steps, starting with the smallest that is not below each value.

        Args:
            values: positive float64 ``[N]``.
            count: how many of them.

        Returns:
            float64 ``[N, count]``.
        """
        mantissas = self.mantissas
        mantissa, exponent = np.frexp(values)
        first = np.searchsorted(mantissas, mantissa).reshape(-1, 1)
        octave, place = np.divmod(first - np.arange(count), mantissas.size)
        steps: np.ndarray = np.ldexp(mantissas[place], exponent[:, None] + octave)
        return steps

    def around(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The grid steps next to each value, below and above."""
        mantissa, exponent = np.frexp(np.asarray(values, np.float64))
        if self is WeightGrid.DYADIC:
            a = np.floor(mantissa * 256)
            return np.ldexp(a, exponent - 8), np.ldexp(a + 1, exponent - 8)
        a = np.floor(128 / mantissa)  # in 128..256; a larger divisor is a smaller step
        return np.ldexp(1.0, exponent + 7) / (a + 1), np.ldexp(1.0, exponent + 7) / a
