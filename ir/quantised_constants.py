"""The integers of quantised constants, computed once for all who want them at the same time.

A conversion needs them for the hardware, and once more to run the source beside it.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import onnx_ir as ir

from dlaconv.ir.blocks import each_block, forget
from dlaconv.ir.quantisation import Quantisation

_TYPES = (np.int8, np.int16, np.int32)
_EXACT_IN_FLOAT32 = 1 << 24
_held: WeakKeyDictionary[ir.TensorProtocol, WeakValueDictionary[tuple[object, ...], np.ndarray]]
_held = WeakKeyDictionary()


def constant_integers(constant: ir.TensorProtocol, quantisation: Quantisation) -> np.ndarray | None:
    """Integers less their zero point, in the smallest type; None if they are none or too large.

    Args:
        constant: what is quantised.
        quantisation: how.
    """
    zero_point = quantisation.zero_point
    if (zero_point != np.rint(zero_point)).any() or not np.isfinite(zero_point).all():
        return None
    ends = quantisation.qmin - float(zero_point.max()), quantisation.qmax - float(zero_point.min())
    if max(map(abs, ends)) >= np.iinfo(_TYPES[-1]).max:
        return None
    array = constant.numpy()
    key = _key(quantisation)
    held = _held.setdefault(constant, WeakValueDictionary())
    found = held.get(key)
    if found is None:
        found = _quantised(np.atleast_1d(array), quantisation, array.ndim, _smallest_type(*ends))
        if found is None:
            return None
        held[key] = found
    return found.reshape(array.shape)


def _key(quantisation: Quantisation) -> tuple[object, ...]:
    arrays = (quantisation.step, quantisation.zero_point)
    parts = [part for array in arrays for part in (array.shape, array.tobytes())]
    return (*parts, quantisation.qmin, quantisation.qmax, quantisation.rounding)


def _quantised(
    reals: np.ndarray, quantisation: Quantisation, rank: int, dtype: type[np.signedinteger]
) -> np.ndarray | None:
    integers = np.empty(reals.shape, dtype)

    def quantise(rows: slice) -> tuple[float, float]:
        part, block = quantisation.of_rows(rows, rank), reals[rows]
        shifted = part.integers(block)
        forget(block)
        if not part.symmetric:
            shifted -= part.zero_point
        ends = float(shifted.min(initial=0)), float(shifted.max(initial=0))  # nan if one is
        if not np.isnan(ends).any():
            integers[rows] = shifted
        return ends

    ends = np.array(each_block(quantise, reals.shape)).reshape(-1, 2)
    low, high = ends[:, 0].min(initial=0), ends[:, 1].max(initial=0)
    if not max(-low, high) <= _EXACT_IN_FLOAT32:
        return None
    return integers.astype(_smallest_type(low, high), copy=False)


def _smallest_type(low: float, high: float) -> type[np.signedinteger]:
    return next(t for t in _TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
