"""What the quantisers of HGQ2 compute: fixed-point numbers whose widths were trained.

A number has a sign or none (k), i integer bits without the sign, and f bits behind the point.
Widths are stored as floats, and rounded half to even. They may differ from element to element; a
width of nothing makes a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlaconv.frontends.keras.dialects.integers import Integers, smallest
from dlaconv.ir.element_grids import ElementGrids
from dlaconv.ir.rounding import Rounding, round_array

_ROUNDINGS = {
    "RND": Rounding.HALF_UP,
    "RND_CONV": Rounding.HALF_EVEN,
    "TRN": Rounding.FLOOR,
}
_OVERFLOWS = {"SAT", "SAT_SYM", "WRAP"}
_MOST_BITS = 30
_FURTHEST = 64
"""Bits before or behind the point of a map that are counted."""
_ORDERS = {
    ("kif", False): ("i", "f", "k"),
    ("kif", True): ("f", "k", "i"),
    ("kbi", False): ("b", "i", "k"),
    ("kbi", True): ("b", "k", "i"),
}
"""Variables in the order in which a file has them: the trained ones first."""


class WidthError(ValueError):
    """A quantiser that cannot be read, or whose meaning is not kept."""


@dataclass(frozen=True)
class Kind:
    """What the parameters of a quantiser say.

    Attributes:
        order: names of its variables in the order of the file.
        rounding: how it rounds at inference; stochastic rounding is plain then.
        overflow: SAT, SAT_SYM (no smallest number) or WRAP.
        is_weight: True if its numbers are constants, which are not wrapped.
    """

    order: tuple[str, ...]
    rounding: Rounding
    overflow: str
    is_weight: bool = False


@dataclass(frozen=True)
class FixedPoint:
    """A quantiser.

    Attributes:
        kind: see `Kind`.
        k: 1 where there is a sign.
        i: integer bits without the sign.
        f: bits behind the point.
    """

    kind: Kind
    k: np.ndarray
    i: np.ndarray
    f: np.ndarray


def kind_of(config: Any) -> Kind | None:
    """What a stored QuantizerConfig says; None for a quantiser that does nothing.

    Raises:
        WidthError: if it is none that is read.
    """
    inner = config.get("config") if isinstance(config, Mapping) else None
    if not isinstance(inner, Mapping):
        raise WidthError(f"{str(config)[:60]} is no quantiser of HGQ2")
    kind = inner.get("q_type")
    if kind == "dummy":
        return None
    rounding = str(inner.get("round_mode", "")).upper().removeprefix("S_")
    overflow = str(inner.get("overflow_mode", "")).upper()
    order = _ORDERS.get((str(kind), overflow == "WRAP"))
    if order is None:
        raise WidthError(f"a quantiser of type {kind!r}")
    if rounding not in _ROUNDINGS or overflow not in _OVERFLOWS:
        raise WidthError(f"round_mode {inner.get('round_mode')!r}, overflow_mode {overflow!r}")
    for name in ("scaler", "affine"):
        if inner.get(name) is not None:
            raise WidthError(f"a quantiser with a {name}")
    place = bool(inner.get("is_weight", inner.get("place") == "weight"))
    return Kind(order, _ROUNDINGS[rounding], overflow, place)


def fixed_point(kind: Kind, variables: Mapping[str, np.ndarray]) -> FixedPoint:
    """A quantiser with its widths.

    Args:
        kind: what its parameters say.
        variables: its variables by name.

    Raises:
        WidthError: if a width is not finite.
    """
    held = {name: np.rint(np.asarray(array, np.float64)) for name, array in variables.items()}
    if not all(np.isfinite(array).all() and (abs(array) < 128).all() for array in held.values()):
        raise WidthError("a width that is no number of bits")
    if not np.isin(held["k"], (0, 1)).all():
        raise WidthError("a sign that is neither there nor not")
    shapes = {array.shape for array in held.values()}
    if len(shapes) > 1:
        raise WidthError(f"widths of shapes {', '.join(map(str, map(list, sorted(shapes))))}")
    f = held["f"] if "f" in held else held["b"] - held["i"]
    return FixedPoint(kind, held["k"], held["i"], f)


def constant(quantiser: FixedPoint, array: np.ndarray) -> Integers:
    """The integers of a constant, exactly as HGQ2 computes it.

    Args:
        quantiser: its quantiser.
        array: its values, in Keras's layout.

    Raises:
        WidthError: if the widths do not fit the values.
    """
    try:
        k, i, f = (np.broadcast_to(w, array.shape) for w in (quantiser.k, quantiser.i, quantiser.f))
    except ValueError:
        shape = list(quantiser.f.shape)
        raise WidthError(f"widths of shape {shape} for values of {list(array.shape)}") from None
    kind, step = quantiser.kind, np.exp2(-f)
    rounded = round_array(array.astype(np.float64) / step, kind.rounding)
    unwrapped = kind.overflow == "WRAP" and kind.is_weight and kind.rounding is Rounding.HALF_UP
    if not unwrapped:
        span = np.exp2(np.maximum(i + f, 0))
        if kind.overflow == "WRAP":
            low = -k * span
            rounded = (rounded - low) % (span * (1 + k)) + low
        else:
            low = -k * (span - (kind.overflow == "SAT_SYM"))
            rounded = np.clip(rounded, low, span - 1)
        rounded = np.where(k + i + f > 0, rounded, 0)
    if quantiser.f.size == 1:
        return Integers(rounded, np.exp2(-quantiser.f.reshape(())).astype(np.float32))
    try:
        return smallest(rounded, -f)
    except OverflowError:
        raise WidthError("weights of widths that are too far apart") from None


def element_grids(quantiser: FixedPoint) -> ElementGrids:
    """What a quantiser makes of each element of a map.

    Raises:
        WidthError: if an element takes more bits than are counted.
    """
    k, i, f = np.broadcast_arrays(quantiser.k, quantiser.i, quantiser.f)
    live = k + i + f > 0
    step = np.exp2(-np.where(live, f, 0))
    size = np.where(live, np.exp2(np.maximum(i + f, 0)), 0)
    if size.max(initial=0) > 2.0**_MOST_BITS:
        raise WidthError(f"a map of {int((i + f).max())} bits")
    if (abs(f[live]) > _FURTHEST).any():
        raise WidthError(f"a map with {int(abs(f[live]).max())} bits on one side of the point")
    high = np.where(live, size - 1, 0) * step
    least = size - 1 if quantiser.kind.overflow == "SAT_SYM" else size
    low = np.where(live, -k * least, 0) * step
    step, low, high = (array.astype(np.float32) for array in (step, low + 0.0, high))
    return ElementGrids(step, low, high, quantiser.kind.rounding, quantiser.kind.overflow == "WRAP")
