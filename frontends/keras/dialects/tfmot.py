"""What tfmot computes: TensorFlow's fake quantisation between a smallest and a largest value.

The range is moved until zero is an integer. Weights are symmetric and have no smallest integer;
maps have zero points.
"""

from __future__ import annotations

import numpy as np

from dlaconv.frontends.keras.dialects.integers import Integers
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding

_BITS = 8


class RangeError(ValueError):
    """A range that holds no grid."""


def map_grid(low: float, high: float, bits: int = _BITS, *, narrow: bool = False) -> Quantisation:
    """The grid of a map.

    Args:
        low: smallest value, at most zero.
        high: largest value, at least zero.
        bits: number of bits.
        narrow: leaves the smallest integer out.

    Raises:
        RangeError: if there is nothing between the values, or zero is not.
    """
    step, zero, qmin, qmax = (item.reshape(()) for item in _nudged(low, high, bits, narrow))
    return Quantisation(
        step.astype(np.float32), zero.astype(np.float32), int(qmin), int(qmax), Rounding.HALF_UP
    )


def weights(
    array: np.ndarray, low: np.ndarray, high: np.ndarray, axis: int, bits: int = _BITS
) -> Integers:
    """The integers of weights, without their zero point.

    Args:
        array: values in Keras's layout.
        low: smallest value, of all or by channel.
        high: largest value.
        axis: the axis of the channels.
        bits: number of bits.

    Raises:
        RangeError: if the ranges do not fit.
    """
    size = array.shape[axis]
    if low.shape != high.shape or low.size not in {1, size}:
        raise RangeError(f"ranges of shape {list(low.shape)} for {size} channels")
    spread = [-1 if other == axis % array.ndim else 1 for other in range(array.ndim)]
    step, zero, qmin, qmax = _nudged(low.reshape(-1), high.reshape(-1), bits, narrow=True)
    if low.size > 1:
        step, zero = step.reshape(spread), zero.reshape(spread)
    scaled = array.astype(np.float64) / step + zero
    integers = np.clip(np.floor(scaled + 0.5), qmin, qmax) - zero
    return Integers(integers, step.astype(np.float32))


def _nudged(
    low: float | np.ndarray, high: float | np.ndarray, bits: int, narrow: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Step, zero point, smallest and largest integer; computed in single precision like its own."""
    least, most = np.asarray(low, np.float32), np.asarray(high, np.float32)
    qmin, qmax = np.float32(narrow), np.float32(2**bits - 1)
    if not (np.isfinite(least).all() and np.isfinite(most).all()):
        raise RangeError("a range that is not finite")
    if (least > 0).any() or (most < 0).any() or (most <= least).any():
        raise RangeError(f"a range from {float(least.min()):g} to {float(most.max()):g}")
    step = (most - least) / (qmax - qmin)
    from_least = qmin - least / step
    # half away from zero, as the C++ of TensorFlow rounds
    zero = np.clip(np.floor(from_least + np.float32(0.5)), qmin, qmax)
    return step, zero, np.asarray(qmin), np.asarray(qmax)


def bits_of(config: object) -> int:
    """The number of bits of a stored quantiser.

    Raises:
        RangeError: if it is none that is read.
    """
    inner = config.get("config") if isinstance(config, dict) else None
    bits = inner.get("num_bits") if isinstance(inner, dict) else None
    if type(bits) is not int or not 2 <= bits <= 16:
        raise RangeError(f"a quantiser of {bits!r} bits")
    return bits
