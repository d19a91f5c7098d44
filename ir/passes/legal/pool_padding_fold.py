"""GR-3: Pads before pools, in the pool's own padding."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.calibration.bounds import IntervalBounds
from dlaconv.ir.graph import (
    attribute,
    input_array,
    is_op,
    is_optional_input_absent,
    producer,
    shape_of,
)
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Plan, legalisation
from dlaconv.ir.passes.legal.pool_windows import indices_read, plain_pool
from dlaconv.ir.passes.non_negative import non_negative
from dlaconv.ir.passes.windows import Window
from dlaconv.ir.pipeline import Context


@legalisation("MaxPool", "AveragePool", rules=("GR-3",))
def pool_padding_fold(node: ir.Node, context: Context) -> Plan | None:
    """A Pad before a pool becomes the pool's own padding.

    Identity: An average with count_include_pad = 1 counts zeros, whoever padded them. A maximum
    does not change by values that are not larger than all others: infinitely small ones, those
    below what the map can hold, or zeros where nothing is negative.

    Conditions: Rows and columns are padded with one number, by less than a window. An average pool
    has no padding of its own that it does not count.

    Cost: None.
    """
    del context
    window, pad = plain_pool(node), producer(node.inputs[0])
    if window is None or pad is None or not is_op(pad, "Pad") or indices_read(node):
        return None
    padding, x = _padding(pad), pad.inputs[0]
    if padding is None or x is None or shape_of(x) is None:
        return None
    amounts, fill = padding
    total = [own + more for own, more in zip(window.pads, amounts, strict=True)]
    if any(pads >= window.kernel[index % 2] for index, pads in enumerate(total)):
        return None
    builder = Builder(node)
    if is_op(node, "MaxPool"):
        if not _never_wins(fill, x):
            return None
        builder.max_pool(x, window.kernel, window.strides, total)
    elif fill == 0 and _counted(node, window):
        builder.average_pool(x, window.kernel, window.strides, total)
    else:
        return None
    return builder.plan(f"padding {list(amounts)} of a Pad with its own")


def _padding(pad: ir.Node) -> tuple[tuple[int, ...], float] | None:
    """What a Pad adds around rows and columns (beginnings, ends), and its value."""
    rank = len(shape_of(pad.outputs[0]) or ())
    pads = input_array(pad, 1)
    if rank != 4 or pads is None or attribute(pad, "mode", "constant") != "constant":
        return None
    fill = np.zeros(1) if is_optional_input_absent(pad, 2) else input_array(pad, 2)
    axes = np.arange(rank) if is_optional_input_absent(pad, 3) else input_array(pad, 3)
    if fill is None or axes is None or np.isnan(fill).any():
        return None
    both = np.zeros((2, rank), np.int64)
    both[:, axes.reshape(-1) % rank] = pads.reshape(2, -1)
    if both[:, :2].any() or (both < 0).any():
        return None
    return tuple(int(amount) for amount in both[:, 2:].reshape(-1)), float(fill.reshape(-1)[0])


def _never_wins(fill: float, x: ir.Value) -> bool:
    """True if a value is not above anything that a map can hold."""
    if fill <= float(np.finfo(np.float32).min):
        return True
    return (fill <= 0 and non_negative(x)) or fill <= IntervalBounds().of(x)[0]


def _counted(node: ir.Node, window: Window) -> bool:
    return not any(window.pads) or attribute(node, "count_include_pad", 0) == 1
