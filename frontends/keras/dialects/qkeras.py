"""What the quantisers of QKeras compute, in the order of operations of QKeras 0.9 and its forks.

Scales that are ``auto`` are computed from the values each time, and not stored: the largest value
of a channel gets the largest integer; ``auto_po2`` takes the nearest power of two, and five times
the one with the least squared error. A channel is the last axis of a stored kernel, so a depthwise
kernel ``[kh, kw, C, 1]`` has one scale. A stochastic quantiser rounds as the plain one at
inference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlaconv.frontends.keras.dialects.integers import Integers, on_grid
from dlaconv.frontends.keras.dialects.qkeras_spec import Spec, SpecError
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding

_EPSILON = np.float32(1e-7)
_MOST_INTEGER_BITS = 24
_DEFAULT_THRESHOLD = 0.33


@dataclass(frozen=True)
class MapQuantiser:
    """A quantiser of a map: a function, a grid, a factor.

    Attributes:
        function: a Keras activation before the grid, empty for none.
        slope: slope of negative values before the grid, if ``function`` is ``leaky_relu``.
        grid: what is rounded to; None for the sign alone, 1 or -1.
        factor: multiplies what is on the grid.
    """

    grid: Quantisation | None
    function: str = ""
    slope: float = 0.0
    factor: float = 1.0


def map_quantiser(spec: Spec) -> MapQuantiser:
    """The quantiser of an activation.

    Raises:
        SpecError: if its values are no grid, depend on data, or are random.
    """
    name = spec.name
    if isinstance(spec.alpha, str):
        raise SpecError(f"{name} with alpha={spec.alpha!r}: its scale depends on the data")
    if name in {"quantized_bits", "quantized_linear"}:
        return _fixed_map(spec)
    if name == "quantized_relu":
        return _relu_map(spec)
    if name == "quantized_tanh":
        m = 2 ** (spec.bits - 1)
        low = -m + int(bool(spec["symmetric"]))
        return MapQuantiser(_grid(1 / m, low, m - 1), "tanh" if spec["use_real_tanh"] else "")
    if name == "quantized_sigmoid":
        m = 2**spec.bits
        function = "sigmoid" if spec["use_real_sigmoid"] else "hard_sigmoid_half"
        return MapQuantiser(_grid(1 / m, int(bool(spec["symmetric"])), m - 1), function)
    factor = _factor(spec)
    if name in {"binary", "stochastic_binary"}:
        if spec.parameters.get("use_01"):
            raise SpecError("binary with use_01, whose values are 0 and 1")
        return MapQuantiser(None, factor=factor)
    if name in {"ternary", "stochastic_ternary"}:
        threshold = spec["threshold"]
        threshold = _DEFAULT_THRESHOLD if threshold is None else threshold
        if not isinstance(threshold, (int, float)) or not 0 < threshold < math.inf:
            raise SpecError(f"{name}: threshold is {threshold!r}")
        step = 2 * float(threshold)
        grid = Quantisation.of(step, 2, narrow=True, rounding=Rounding.HALF_AWAY)
        return MapQuantiser(grid, factor=factor / step)
    raise SpecError(f"{name} as an activation: its values are no grid, or are random")


def weights(spec: Spec, array: np.ndarray) -> Integers:
    """The integers of a constant.

    Args:
        spec: its quantiser.
        array: its values, float32, in Keras's layout.

    Raises:
        SpecError: if the quantiser has no integers.
    """
    if spec.name in {"quantized_po2", "quantized_relu_po2"}:
        return _powers(spec, array)
    if spec.name == "quantized_linear":
        return _linear(spec, array)
    if spec.name == "quantized_bits":
        return _bits(spec, array)
    if spec.name == "quantized_relu":
        found = map_quantiser(spec)
        if found.grid is None or found.function:
            raise SpecError("quantized_relu with a slope on a constant")
        return Integers(found.grid.integers(array), found.grid.step)
    if spec.name in {"binary", "stochastic_binary"}:
        return _binary(spec, array)
    if spec.name in {"ternary", "stochastic_ternary"}:
        return _ternary(spec, array)
    raise SpecError(f"{spec.name} on a constant")


def _fixed(spec: Spec) -> tuple[float, int, int]:
    """Step, smallest and largest integer of a quantiser with a fixed point."""
    sign = int(bool(spec["keep_negative"]))
    integer = spec.integer("integer", -_MOST_INTEGER_BITS, _MOST_INTEGER_BITS)
    m = 2 ** (spec.bits - sign)
    return 2.0**integer / m, sign * (-m + int(bool(spec["symmetric"]))), m - 1


def _fixed_map(spec: Spec) -> MapQuantiser:
    factor = _factor(spec)
    if spec.bits == 1 and spec["keep_negative"]:
        if spec.name == "quantized_linear":
            raise SpecError("quantized_linear of 1 bit as an activation")
        return MapQuantiser(None, factor=factor * 2.0 ** spec.integer("integer", 0, 0))
    step, low, high = _fixed(spec)
    if spec.name == "quantized_linear":  # which divides by its scale before it rounds
        return MapQuantiser(_grid(step * factor, low, high))
    return MapQuantiser(_grid(step, low, high), factor=factor)


def _relu_map(spec: Spec) -> MapQuantiser:
    if spec["use_sigmoid"]:
        raise SpecError("quantized_relu with use_sigmoid")
    slope = spec["negative_slope"]
    if not isinstance(slope, (int, float)) or not 0 <= slope < 1:
        raise SpecError(f"quantized_relu: negative_slope is {slope!r}")
    m = 2 ** (spec.bits - (slope != 0))
    step = 2.0 ** spec.integer("integer", -_MOST_INTEGER_BITS, _MOST_INTEGER_BITS) / m
    high = m - 1
    bound = spec["relu_upper_bound"]
    if bound is not None and not spec["is_quantized_clip"]:  # which comes before the bound
        if not isinstance(bound, (int, float)) or not 0 < bound < math.inf or bound % step:
            raise SpecError(f"quantized_relu: relu_upper_bound is {bound!r}, not on its grid")
        high = min(high, int(bound / step))
    if not slope:
        return MapQuantiser(_grid(step, 0, high))
    low = slope * m
    if low != int(low):
        raise SpecError(f"quantized_relu({spec.bits}) with a negative_slope of {slope:g}")
    return MapQuantiser(_grid(step, -int(low), high), "leaky_relu", float(slope))


def _grid(step: float, low: int, high: int) -> Quantisation:
    zero = np.zeros((), np.float32)
    return Quantisation(np.asarray(step, np.float32), zero, low, high, Rounding.HALF_EVEN)


def _factor(spec: Spec) -> float:
    alpha = spec.alpha
    if alpha is None:
        return 1.0
    array = np.asarray(alpha, np.float64)
    if array.size != 1 or not (np.isfinite(array).all() and (array > 0).all()):
        raise SpecError(f"{spec.name}: alpha is {str(alpha)[:60]}")
    return float(array.reshape(()))


def _bits(spec: Spec, array: np.ndarray) -> Integers:
    alpha = spec.alpha
    if isinstance(alpha, str):
        return _auto_bits(spec, array)
    if spec.bits == 1 and spec["keep_negative"]:
        return Integers(_signs(array), _given_scale(spec, array))
    step, low, high = _fixed(spec)
    integers = np.clip(np.rint(array / np.float32(step)), low, high)
    return Integers(integers, np.float32(step) * _given_scale(spec, array))


def _auto_bits(spec: Spec, array: np.ndarray) -> Integers:
    """``alpha="auto"`` and ``"auto_po2"``: half away from zero, and symmetric and signed always."""
    if spec.bits < 2:
        raise SpecError(f"quantized_bits({spec.bits}) with alpha={spec.alpha!r}: no bit for a size")
    unit = np.float32(2.0 ** spec.integer("integer", -_MOST_INTEGER_BITS, _MOST_INTEGER_BITS))
    x, most = array / unit, 2 ** (spec.bits - 1) - 1

    def rounded(scale: np.ndarray) -> np.ndarray:
        size = np.floor(np.abs(x) / scale + np.float32(0.5))
        found: np.ndarray = np.sign(x) * np.minimum(size, most)
        return found

    if spec.parameters.get("post_training_scale") is not None:
        scale = np.asarray(spec["post_training_scale"], np.float32) / np.float32(
            2 ** (spec.bits - 1)
        )
    else:
        scale = _largest(x) * np.float32(2) / np.float32(2 * most)
        if spec.alpha == "auto_po2":
            scale = _power_of_two(scale)
            for _ in range(5):
                scale = _power_of_two(_least_squares(x, rounded(scale)))
    scale = _positive(scale)
    return Integers(rounded(scale), scale * unit)


def _linear(spec: Spec, array: np.ndarray) -> Integers:
    """quantized_linear: clips before it rounds, half to even."""
    one_bit = spec.bits == 1 and bool(spec["keep_negative"])
    step, low, high = _fixed(spec)
    shift = np.float32(0.5) if one_bit else np.float32(0)
    ends = (-0.5, 0.5) if one_bit else (float(low), float(high))

    def rounded(scale: np.ndarray) -> np.ndarray:
        clipped = np.clip(array / scale, np.float32(ends[0]), np.float32(ends[1]))
        found: np.ndarray = np.rint(clipped - shift) + shift
        return found

    if isinstance(spec.alpha, str):
        spread, axes = np.float32(ends[1] - ends[0]), tuple(range(array.ndim - 1))
        if spec["keep_negative"]:
            scale = np.abs(array).max(axis=axes, keepdims=True) * np.float32(2) / spread
        else:
            scale = array.max(axis=axes, keepdims=True) / spread
        scale = np.maximum(scale, _EPSILON)
        if spec.alpha == "auto_po2":
            scale = _power_of_two(scale)
            for _ in range(1 if one_bit else 5):
                last, scale = scale, _power_of_two(_least_squares(array, rounded(scale)))
                if np.array_equal(last, scale):
                    break
    else:
        scale = np.float32(step) * _given_scale(spec, array)
    found = rounded(scale)
    if one_bit:  # halves
        return Integers(found * 2, np.asarray(scale / 2, np.float32))
    return Integers(found, np.asarray(scale, np.float32))


def _powers(spec: Spec, array: np.ndarray) -> Integers:
    """A sign and a power of two; of zero, the smallest one."""
    relu = spec.name == "quantized_relu_po2"
    if relu and spec["negative_slope"]:
        raise SpecError("quantized_relu_po2 with a negative_slope on a constant")
    most, quadratic = spec["max_value"], bool(spec["quadratic_approximation"])
    if most is not None and (not isinstance(most, (int, float)) or not most > 0):
        raise SpecError(f"{spec.name}: max_value is {most!r}")
    if spec["log2_rounding"] not in ("rnd", "floor") or spec.bits > 10:
        raise SpecError(f"{spec.name}({spec.bits}) rounded by {spec['log2_rounding']!r}")
    has_sign = most is None or most > 1
    exponents = spec.bits - (not relu) - has_sign
    low, high = -(2.0**exponents), 2.0**exponents - 1
    high = 2 * (high // 2) if quadratic else high
    size = np.maximum(array, 0) if relu else np.abs(array)
    small = size < _EPSILON
    clipped = np.where(small, _EPSILON, size)
    clipped = clipped if most is None else np.minimum(clipped, np.float32(most))
    root = np.sqrt(clipped) if quadratic else clipped
    power = np.log(root) / np.float32(np.log(2.0))
    power = np.floor(power) if spec["log2_rounding"] == "floor" else np.rint(power)
    power = np.clip(power, low, high) * (2 if quadratic else 1)
    power = np.where(small, low, power)
    signs = np.ones_like(array) if relu else _signs(array)
    try:
        return on_grid(signs, power)
    except OverflowError:
        raise SpecError(f"{spec.name}({spec.bits}): powers of two too far apart") from None


def _binary(spec: Spec, array: np.ndarray) -> Integers:
    signs = _signs(array)
    if spec.parameters.get("use_01"):
        signs = (signs + 1) / 2
    if not isinstance(spec.alpha, str):
        return Integers(signs, _given_scale(spec, array))
    scale = _fitted(spec.alpha, array, signs)
    return Integers(signs * (scale > 0), _positive(scale))


def _ternary(spec: Spec, array: np.ndarray) -> Integers:
    if not isinstance(spec.alpha, str):
        threshold = spec["threshold"]
        threshold = _DEFAULT_THRESHOLD if threshold is None else threshold
        kept = np.abs(array) >= np.float32(threshold)
        return Integers(kept * np.sign(array), _given_scale(spec, array))
    scale = np.float32(2) * _largest(array) / np.float32(3)
    scale = _power_of_two(scale) if spec.alpha == "auto_po2" else scale
    found = np.zeros_like(array)
    for _ in range(spec.integer("number_of_unrolls", 1, 100)):
        rounded = scale * np.rint(array / _positive(scale))
        kept = (np.abs(rounded) >= scale / np.float32(2)) & (scale > 0)
        found = kept * np.sign(array)
        scale = _fitted(spec.alpha, array, found)
    return Integers(found, _positive(scale))


def _signs(array: np.ndarray) -> np.ndarray:
    return np.where(array < 0, np.float32(-1), np.float32(1))


def _given_scale(spec: Spec, array: np.ndarray) -> np.ndarray:
    alpha = np.asarray(1.0 if spec.alpha is None else spec.alpha, np.float32)
    try:
        fits = np.broadcast_shapes(alpha.shape, array.shape) == array.shape
    except ValueError:
        fits = False
    if not fits or not (np.isfinite(alpha).all() and (alpha > 0).all()):
        raise SpecError(f"{spec.name}: alpha is {str(spec.alpha)[:60]}")
    return alpha


def _largest(array: np.ndarray) -> np.ndarray:
    """The largest size of each channel; of all of a vector."""
    axes = tuple(range(array.ndim - 1)) or (0,)
    found: np.ndarray = np.abs(array).max(axis=axes, keepdims=True)
    return found


def _least_squares(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The scale of each channel; of each element of a vector, other than `_largest`."""
    axes = tuple(range(x.ndim - 1))
    xq = (x * q).mean(axis=axes, keepdims=True, dtype=np.float32)
    qq = (q * q).mean(axis=axes, keepdims=True, dtype=np.float32)
    found: np.ndarray = xq / (qq + _EPSILON)
    return found


def _fitted(alpha: str, x: np.ndarray, q: np.ndarray) -> np.ndarray:
    scale = _least_squares(x, q)
    return _power_of_two(scale) if alpha == "auto_po2" else scale


def _power_of_two(scale: np.ndarray) -> np.ndarray:
    logarithm = np.log(scale + _EPSILON) / np.float32(np.log(2.0))
    found: np.ndarray = np.exp2(np.rint(logarithm)).astype(np.float32)
    return found


def _positive(scale: np.ndarray) -> np.ndarray:
    """A scale that can be divided by: a channel of zeros has none."""
    found: np.ndarray = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    return found
