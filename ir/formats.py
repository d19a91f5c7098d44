"""Exact fixed-point formats: what one unit of an integer is worth, as a rational number."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

_Q_FORMAT = re.compile(r"([su])(\d+)\.(-?\d+)")


def integer_range(bits: int, *, signed: bool, narrow: bool = False) -> tuple[int, int]:
    """Smallest and largest integer of a format.

    Narrow drops one code: the most negative one when signed, the largest one when unsigned
    (QONNX ``IntQuant``, clause "narrow").

    Raises:
        ValueError: if ``bits`` is below 1.
    """
    if bits < 1:
        raise ValueError(f"a format needs at least 1 bit, not {bits}")
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


@dataclass(frozen=True, slots=True)
class QFormat:
    """Q.F: ``bits`` in all, ``frac`` of them behind the binary point; one unit is 2^-frac.

    Used by CHaiDNN's DynamicFixed mode and by QKeras. Written ``s8.5`` or ``u8.5``.
    """

    bits: int
    frac: int
    signed: bool = True

    @property
    def step(self) -> Fraction:
        """Real value of one unit."""
        return Fraction(2) ** -self.frac

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        return integer_range(self.bits, signed=self.signed)

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.bits}.{self.frac}"

    @classmethod
    def parse(cls, text: str) -> QFormat:
        """Inverts ``str``.

        Raises:
            ValueError: if the text is not of the form ``s8.5``.
        """
        if not (match := _Q_FORMAT.fullmatch(text)):
            raise ValueError(f"not a Q format: {text!r} (expected such as 's8.5')")
        return cls(int(match[2]), int(match[3]), match[1] == "s")


@dataclass(frozen=True, slots=True)
class Threshold:
    """CHaiDNN's Xilinx mode: the largest integer stands for the threshold ``th``."""

    bits: int
    th: Fraction

    @property
    def step(self) -> Fraction:
        """Real value of one unit, ``th / (2^(bits-1) - 1)``."""
        return self.th / ((1 << (self.bits - 1)) - 1)

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        return integer_range(self.bits, signed=True)


@dataclass(frozen=True, slots=True, order=True)
class PowerOfTwo:
    """A step of 2^n: the scale of every feature map on the accelerator."""

    n: int

    @property
    def step(self) -> Fraction:
        """Real value of one unit."""
        return Fraction(2) ** self.n

    @classmethod
    def nearest(cls, value: float) -> PowerOfTwo:
        """The power of two nearest to a positive value on the logarithmic scale."""
        return cls(round(math.log2(_positive(value))))

    @classmethod
    def at_least(cls, value: float) -> PowerOfTwo:
        """The smallest power of two that is not below a positive value."""
        mantissa, exponent = math.frexp(_positive(value))
        return cls(exponent - 1 if mantissa == 0.5 else exponent)

    @classmethod
    def exactly(cls, value: float | Fraction) -> PowerOfTwo | None:
        """The format of a value that is a power of two, None for any other value."""
        if isinstance(value, float) and not math.isfinite(value):
            return None
        value = Fraction(value)
        if value <= 0:
            return None
        top, bottom = value.numerator, value.denominator
        if top & (top - 1) or bottom & (bottom - 1):
            return None
        return cls(top.bit_length() - bottom.bit_length())


@dataclass(frozen=True, slots=True)
class ReciprocalDyadic:
    """A step of 2^n / a with a in 1..255: the scale of one channel's weights.

    The accelerator's guide calls it "reciprocal dyadic". Kept reduced: ``a`` is odd, so equal
    steps are equal objects.
    """

    n: int
    a: int

    def __post_init__(self) -> None:
        if not 1 <= self.a <= 255:
            raise ValueError(f"a must lie in 1..255, not {self.a}")
        a, n = self.a, self.n
        while a % 2 == 0:
            a, n = a // 2, n - 1
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "n", n)

    @property
    def step(self) -> Fraction:
        """Real value of one unit."""
        return Fraction(2) ** self.n / self.a

    @classmethod
    def nearest(cls, value: float) -> ReciprocalDyadic:
        """The grid value nearest to a positive ``value``; at most 0.39 % away."""
        return min(cls.neighbours(value), key=lambda near: abs(float(near.step) / value - 1))

    @classmethod
    def at_least(cls, value: float) -> ReciprocalDyadic:
        """The smallest grid value that is not below a positive ``value``; at most 0.79 % above."""
        exact = Fraction(value)
        return min(
            (near for near in cls.neighbours(value) if near.step >= exact),
            key=lambda near: near.step,
        )

    @classmethod
    def neighbours(cls, value: float) -> tuple[ReciprocalDyadic, ...]:
        """The grid values next to a positive ``value``, with 128 <= a <= 256 before reduction."""
        mantissa, exponent = math.frexp(_positive(value))  # value = mantissa * 2^exponent
        # exact: float division makes 160 of 128 / 0.8, which lies below it
        ideal = 128 / Fraction(mantissa)  # in (128, 256]; value = 2^(exponent + 7) / ideal
        low = math.floor(ideal)  # a = 256 is 2^(exponent - 1), which reduces to a = 1
        return tuple(
            cls(exponent + 7, a) if a < 256 else cls(exponent - 1, 1)
            for a in (low, low + 1)
            if a <= 256
        )


def _positive(value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"a step must be positive and finite, not {value}")
    return value
