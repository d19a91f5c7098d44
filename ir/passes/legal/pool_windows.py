"""The windows of pools that legalisations look at."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dlaconv.ir.graph import attribute, ints_attribute, shape_of
from dlaconv.ir.passes.windows import Window, window_of

_SPATIAL = 2


def plain_pool(node: ir.Node) -> Window | None:
    """The window of a pool over rows and columns that is not dilated and rounds its size down."""
    window = pool_window(node)
    if window is None or set(window.dilations) != {1} or attribute(node, "ceil_mode", 0):
        return None
    return window


def pool_window(node: ir.Node) -> Window | None:
    """The window of a pool over rows and columns; None where shapes are unknown."""
    x, result = node.inputs[0], node.outputs[0]
    if x is None or x.dtype not in {None, ir.DataType.FLOAT}:
        return None
    window = window_of(node)
    shapes = shape_of(x), shape_of(result)
    if window is None or None in shapes or len(window.size) != _SPATIAL:
        return None
    if len(ints_attribute(node, "pads")) != 2 * _SPATIAL or min(shape_of(result) or ()) < 1:
        return None
    return window


def global_window(node: ir.Node) -> Window | None:
    """The one window of a global pool, over the whole map."""
    x = node.inputs[0]
    size = (shape_of(x) or ())[2:] if x is not None and x.dtype == ir.DataType.FLOAT else ()
    if not size or min(size) < 1:
        return None
    ones = (1,) * len(size)
    return Window(size, size, ones, ones, (0,) * (2 * len(size)))


def border_of(window: Window) -> tuple[int, ...]:
    """Padding that stands for a window's padding at the top and left, as a convolution has it.

    The same at both ends where that makes no window more: the guide does not speak of convolutions
    whose ends are padded differently.
    """
    rank = len(window.size)
    ends = []
    for index in range(rank):
        size, kernel, stride = window.size[index], window.kernel[index], window.strides[index]
        begin, end = window.pads[index], window.pads[index + rank]
        windows = (size + begin + end - kernel) // stride
        ends.append(begin if (size + 2 * begin - kernel) // stride <= windows else 0)
    return (*window.pads[:rank], *ends)


def indices_read(node: ir.Node) -> bool:
    """True if anything reads the positions of the maxima, a max pool's second result."""
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])


def end_pads(window: Window) -> tuple[int, ...]:
    """The padding at the ends with which rounding down gives as many windows as rounding up.

    A window that would start in the end's padding is none (as onnxruntime has it).
    """
    rank, ends = len(window.size), []
    for axis in range(rank):
        begin, end = window.pads[axis], window.pads[axis + rank]
        reached, stride = window.size[axis] + begin, window.strides[axis]
        room = reached + end - window.extents[axis]
        last = -(-room // stride) * stride
        if last >= reached:
            last -= stride
        ends.append(max(end, last + window.extents[axis] - reached))
    return tuple(ends)


def values_counted(window: Window, counts: Sequence[int], *, with_padding: bool) -> list[list[int]]:
    """How many values each window of an average divides by, for each axis.

    What lies beyond the padding (``ceil_mode``) never counts.

    Args:
        window: not dilated.
        counts: windows along each axis.
        with_padding: True for ``count_include_pad``.
    """
    rank = len(window.size)
    found = []
    for axis, count in enumerate(counts):
        size, begin, end = window.size[axis], window.pads[axis], window.pads[axis + rank]
        low, high = (-begin, size + end) if with_padding else (0, size)
        starts = [index * window.strides[axis] - begin for index in range(count)]
        reach = window.kernel[axis]
        found.append([min(start + reach, high) - max(start, low) for start in starts])
    return found


def counts_of(node: ir.Node) -> tuple[int, ...]:
    """How many windows a pool has along each axis."""
    return (shape_of(node.outputs[0]) or ())[2:]
