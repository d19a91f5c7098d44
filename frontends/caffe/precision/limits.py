"""What numbers a format can have, whoever gives them."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

LEAST_BITS, MOST_BITS = 2, 32
MOST_FRACTION = 126
"""Steps are normal numbers of float32, the type in which ONNX files hold them."""
MOST_FILTERS = 1 << 18
"""Filters of a layer that have one threshold: as many as values that a prototxt may have."""
_SMALLEST_STEP, _LARGEST_STEP = Fraction(2) ** -MOST_FRACTION, Fraction(2) ** MOST_FRACTION


def bits_problem(name: str, bits: int) -> str:
    """What is wrong with a number of bits, or nothing."""
    if LEAST_BITS <= bits <= MOST_BITS:
        return ""
    return f"{name} is {bits}: an integer has {LEAST_BITS} to {MOST_BITS} bits"


def fraction_problem(name: str, fraction: int) -> str:
    """What is wrong with a number of bits behind the binary point, or nothing."""
    if -MOST_FRACTION <= fraction <= MOST_FRACTION:
        return ""
    return f"{name} is {fraction}: a step of 2^{-fraction} is no number of float32"


def threshold_problem(name: str, threshold: float, bits: int) -> str:
    """What is wrong with a threshold, or nothing.

    Args:
        name: the field.
        threshold: its value.
        bits: the bits of the integers, which are right.
    """
    if not math.isfinite(threshold) or threshold <= 0:
        return f"{name} is {threshold:g}: a threshold is positive and finite"
    unit = Fraction(threshold) / ((1 << (bits - 1)) - 1)
    if not _SMALLEST_STEP <= unit <= _LARGEST_STEP:
        return f"{name} is {threshold:g}: a unit of it is no normal number of float32"
    return ""


def shift_problem(fl_in: int, fl_params: int, fl_out: int) -> str:
    """What is wrong with the way from sums to results in DynamicFixed mode, or nothing."""
    shift = fl_in + fl_params - fl_out
    if shift > 0:
        return ""
    return (
        f"results have {fl_out} bits behind the point and sums {fl_in} + {fl_params}: "
        f"a shift to the right by {shift}"
    )


BITS_WHY = "CHaiDNN's hardware has integers of 8 and 6 bits, Ristretto simulates up to 32"
FRACTION_WHY = "steps are kept as float32, the type that ONNX files have for them"
THRESHOLD_WHY = "one unit is th / (2^(bw-1) - 1), and CHaiDNN divides by it: by zero, for instance"
SHIFT_WHY = "CHaiDNN rounds by adding 1 << (shift - 1), which is undefined for a shift below 1"


def as_float32(value: float) -> float:
    """A number as protobuf keeps it in a field of type ``float``: text to double to float32."""
    try:
        found: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return found
