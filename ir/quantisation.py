"""`Quantisation`: what a quantise node says, as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dlaconv.ir.formats import integer_range
from dlaconv.ir.rounding import Rounding, round_array

FloatArray = np.ndarray
"""An array of floats, float32 or float64."""


@dataclass(frozen=True, eq=False)
class Quantisation:
    """``clip(round(x / step + zero_point), qmin, qmax)``, and what its integers are worth.

    Attributes:
        step: real value of one unit; a float32 array that broadcasts against the tensor
            (shape ``[]`` per tensor, ``[1, C, 1, 1]`` per channel of a map, ``[O, 1, 1, 1]`` of
            convolution weights).
        zero_point: the integer that stands for zero, added before rounding (QONNX); broadcasts
            like ``step``.
        qmin: smallest integer.
        qmax: largest integer.
        rounding: how ``x / step + zero_point`` becomes an integer.
    """

    step: FloatArray
    zero_point: FloatArray
    qmin: int
    qmax: int
    rounding: Rounding = Rounding.HALF_EVEN

    @classmethod
    def of(
        cls,
        step: float | FloatArray,
        bits: int = 8,
        *,
        signed: bool = True,
        narrow: bool = False,
        zero_point: float | FloatArray = 0.0,
        rounding: Rounding = Rounding.HALF_EVEN,
    ) -> Quantisation:
        """A quantisation by bits and signedness instead of by range.

        Raises:
            ValueError: if ``bits`` is below 1 or a step is not positive and finite.
        """
        step = np.asarray(step, np.float32)
        if not (np.isfinite(step).all() and (step > 0).all()):
            raise ValueError("every step must be positive and finite")
        qmin, qmax = integer_range(bits, signed=signed, narrow=narrow)
        return cls(step, np.asarray(zero_point, np.float32), qmin, qmax, rounding)

    @property
    def signed(self) -> bool:
        """True if negative integers exist."""
        return self.qmin < 0

    @property
    def bits(self) -> int:
        """Bits that the integers need."""
        if self.signed:
            return max(int(-self.qmin - 1).bit_length(), self.qmax.bit_length()) + 1
        return max(self.qmax.bit_length(), 1)

    @property
    def narrow(self) -> bool:
        """True if the outermost code of the format is left out (QONNX ``narrow``)."""
        return (self.qmin, self.qmax) == integer_range(self.bits, signed=self.signed, narrow=True)

    @property
    def per_tensor(self) -> bool:
        """True if one step serves the whole tensor."""
        return bool(self.step.size == 1 and self.zero_point.size == 1)

    @property
    def scalar_step(self) -> float:
        """The step of a per-tensor quantisation.

        Raises:
            ValueError: if the quantisation is per channel.
        """
        return float(self.step.reshape(()))

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest real value; per channel, those of the largest step."""
        step, zero = float(self.step.max()), float(self.zero_point.mean())
        return (self.qmin - zero) * step, (self.qmax - zero) * step

    @property
    def symmetric(self) -> bool:
        """True if every zero point is zero."""
        return not self.zero_point.any()

    def integers(self, values: FloatArray) -> FloatArray:
        """The integers of real values, in the float dtype of ``values`` (float64 above 24 bits).

        The division is done in float32 for float32 values, as the sources do it.

        Args:
            values: a tensor against which ``step`` broadcasts.
        """
        scaled = np.asarray(values / self.step.astype(values.dtype))
        if not self.symmetric:
            scaled = np.asarray(scaled + self.zero_point.astype(values.dtype))
        if self.bits > 24:
            scaled = scaled.astype(np.float64)
        rounded = round_array(scaled, self.rounding, reuse=True)
        return np.clip(rounded, self.qmin, self.qmax, out=rounded)

    def of_rows(self, rows: slice, rank: int) -> Quantisation:
        """The quantisation of some rows (first axis) of a tensor of ``rank`` dimensions."""

        def cut(array: FloatArray) -> FloatArray:
            return array[rows] if rank and array.ndim == rank and len(array) > 1 else array

        return replace(self, step=cut(self.step), zero_point=cut(self.zero_point))

    def reals(self, integers: FloatArray) -> FloatArray:
        """The real values of integers."""
        dtype = integers.dtype
        shifted = integers if self.symmetric else integers - self.zero_point.astype(dtype)
        real: FloatArray = shifted * self.step.astype(dtype)
        return real

    def on_grid(self, values: FloatArray) -> FloatArray:
        """The real values that the quantisation makes of others: those of their integers.

        Args:
            values: as for `integers`.
        """
        made = self.integers(values)
        if not self.symmetric:
            made -= self.zero_point.astype(made.dtype)
        made *= self.step.astype(made.dtype)
        return made

    def same_grid(self, other: Quantisation) -> bool:
        """True if both put values on the same points: equal steps, zero points and ranges."""
        return (
            (self.qmin, self.qmax) == (other.qmin, other.qmax)
            and np.array_equal(np.squeeze(self.step), np.squeeze(other.step))
            and np.array_equal(np.squeeze(self.zero_point), np.squeeze(other.zero_point))
        )

    def with_step(self, step: float | FloatArray) -> Quantisation:
        """The same quantisation with another step."""
        return replace(self, step=np.asarray(step, np.float32))

    def __str__(self) -> str:
        sign = "s" if self.signed else "u"
        step = (
            f"{self.scalar_step:.6g}" if self.step.size == 1 else f"per channel ({self.step.size})"
        )
        zero = "" if self.symmetric else " asymmetric"
        narrow = " narrow" if self.narrow else ""
        return f"{sign}{self.bits}{narrow}{zero} step {step}"
