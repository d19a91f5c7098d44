"""Pooling, which Caffe rounds, pads and averages in a way of its own.

How many windows: with ``E = H + 2 pad - kernel`` there are ``ceil(E / stride) + 1``, rounded down
instead with ``round_mode: FLOOR`` (BVLC) or ``ceil_mode: false`` (forks). If anything is padded, a
last window that would begin at or behind ``H + pad``, in the padding at the end, is left out.

What a window holds: MAX sees the elements of the map only. AVE divides their sum by the size of the
window cut off at ``H + pad``: padding counts, what hangs over it does not. A kernel that is larger
than map and padding by less than the stride gives one such window.

MAX becomes a MaxPool whose padding at the end is just what the last window needs, so that rounding
down finds all windows. AVE becomes an AveragePool that counts padding; where windows hang over, a
Pad before it has the padding, and the AveragePool does not count what it pads itself. ``ceil_mode``
of ONNX is avoided, since runtimes disagree on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer, shape_of
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.windows import extents, require_positive

_MOST_LEVELS = 16


@dataclass(frozen=True)
class Axis:
    """The windows along one axis; positions count from the beginning of the padding.

    Attributes:
        size: elements of the map.
        kernel: elements of a window.
        stride: distance of two windows.
        pad: elements of padding at each end.
        count: number of windows.
    """

    size: int
    kernel: int
    stride: int
    pad: int
    count: int

    @property
    def last(self) -> int:
        """Where the last window begins."""
        return (self.count - 1) * self.stride

    @property
    def needed(self) -> int:
        """The padding at the end that the last window reaches into."""
        return max(self.last + self.kernel - self.pad - self.size, 0)

    @property
    def overhang(self) -> int:
        """How far the last window reaches beyond the padding."""
        return max(self.last + self.kernel - self.size - 2 * self.pad, 0)


def pooling(layer: CaffeLayer) -> list[ir.Value]:
    """Pooling: MAX, with its mask if there is a second top, and AVE."""
    layer.require_bottoms(1)
    layer.require_rank(4)
    param = layer.param("pooling_param")
    method = _method(layer, param)
    if param.flag("global_pooling"):
        return _global(layer, param, method)
    axes = _axes(layer, param)
    if method == "MAX":
        return _max(layer, axes)
    return _average(layer, axes)


def spatial_pyramid(layer: CaffeLayer) -> list[ir.Value]:
    """SPP: poolings into 1, 2, 4... windows along each axis, of which all results make one vector.

    Windows are as far apart as they are large, ``ceil(size / windows)``, with half of what is left
    over as padding at each end, rounded up. A pyramid of one level keeps its four dimensions.
    """
    layer.require_bottoms(1)
    layer.require_rank(4)
    param, shape = layer.param("spp_param"), layer.shape()
    method, height = _method(layer, param), param.integer("pyramid_height")
    if not 1 <= height <= _MOST_LEVELS:
        layer.refuse(f"pyramid_height {height}: dlaconv takes 1 to {_MOST_LEVELS}")
    found = []
    for level in range(height):
        kernel = tuple(-(-size // (1 << level)) for size in shape[2:])
        left = [(k << level) - size for k, size in zip(kernel, shape[2:], strict=True)]
        pad = tuple((rest + 1) // 2 for rest in left)
        axes = _windows(layer, kernel, kernel, pad, up=True)
        found.append((_max if method == "MAX" else _average)(layer, axes)[0])
    if height == 1:
        return found
    vectors = [layer.reshaped(one, (shape[0], math.prod(shape_of(one)[1:]))) for one in found]
    total = sum(shape_of(vector)[1] for vector in vectors)
    return [layer.op("Concat", vectors, (shape[0], total), {"axis": 1})]


def _method(layer: CaffeLayer, param: Message) -> str:
    method = param.text("pool")
    if method == "STOCHASTIC":
        layer.no_form(
            "stochastic pooling", remedy="use AVE or MAX; Caffe itself has it on GPUs only"
        )
    return method


def rounds_up(layer: CaffeLayer, param: Message) -> bool:
    """How the number of windows is rounded, in the words of BVLC or of the forks."""
    up = param.text("round_mode") == "CEIL"
    if param.has("round_mode") and param.has("ceil_mode") and up != param.flag("ceil_mode"):
        layer.refuse("round_mode and ceil_mode contradict each other")
    return up and param.flag("ceil_mode")


def _axes(layer: CaffeLayer, param: Message) -> tuple[Axis, Axis]:
    kernel = extents(layer, param, "kernel", 2, None)
    stride = extents(layer, param, "stride", 2, 1)
    pad = extents(layer, param, "pad", 2, 0)
    require_positive(layer, "kernel_size", kernel)
    require_positive(layer, "stride", stride)
    return _windows(layer, kernel, stride, pad, up=rounds_up(layer, param))


def _windows(
    layer: CaffeLayer,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    *,
    up: bool,
) -> tuple[Axis, Axis]:
    """The windows along both axes, whose number is rounded up or down."""
    if any(p >= k for p, k in zip(pad, kernel, strict=True)):
        layer.refuse(f"pad {list(pad)} of windows of {list(kernel)}: it must be smaller")
    padded = any(pad)
    found = []
    for size, k, s, p in zip(layer.shape()[2:], kernel, stride, pad, strict=True):
        room = size + 2 * p - k
        if up and -s < room < 0:  # one window, cut off where the padding ends
            k, room = size + 2 * p, 0
        if room < 0:
            layer.refuse(f"a window of {k} is larger than {size} elements and padding")
        count = (-(-room // s) if up else room // s) + 1
        if padded and (count - 1) * s >= size + p:
            count -= 1
        axis = Axis(size, k, s, p, count)
        if axis.last >= size + p:
            layer.no_form(
                f"the last window begins behind the map of {size} (kernel {k}, stride {s}, pad "
                f"{p}): Caffe gives it no value",
                remedy="use a larger kernel, or round_mode: FLOOR as the network was trained with",
            )
        found.append(axis)
    return found[0], found[1]


def _max(layer: CaffeLayer, axes: tuple[Axis, Axis]) -> list[ir.Value]:
    shape = layer.shape()
    result = (*shape[:2], axes[0].count, axes[1].count)
    window = {
        "kernel_shape": [axis.kernel for axis in axes],
        "strides": [axis.stride for axis in axes],
        "pads": [*(axis.pad for axis in axes), *(axis.needed for axis in axes)],
    }
    if len(layer.tops) < 2:
        return [layer.op("MaxPool", [layer.x], result, window)]
    values, places = layer.ops("MaxPool", [layer.x], [result, result], window)
    places.dtype = ir.DataType.INT64
    plane = layer.constant("plane", shape[2] * shape[3])
    place = layer.op("Mod", [places, plane], result, dtype=ir.DataType.INT64)
    mask = layer.op("Cast", [place], result, {"to": int(ir.DataType.FLOAT)})
    return [values, mask]


def _average(layer: CaffeLayer, axes: tuple[Axis, Axis]) -> list[ir.Value]:
    """An AveragePool that counts padding; none of what hangs over where anything does."""
    shape = layer.shape()
    result = (*shape[:2], axes[0].count, axes[1].count)
    pads = [axis.pad for axis in axes]
    window = {
        "kernel_shape": [axis.kernel for axis in axes],
        "strides": [axis.stride for axis in axes],
    }
    if not any(axis.overhang for axis in axes):
        counted = {"pads": [*pads, *pads], "count_include_pad": 1}
        return [layer.op("AveragePool", [layer.x], result, {**window, **counted})]
    value = layer.x
    if any(pads):  # these zeros count, so they become part of the map
        padded = (*shape[:2], *(axis.size + 2 * axis.pad for axis in axes))
        ends = layer.constant("pads", [0, 0, *pads, 0, 0, *pads])
        value = layer.op("Pad", [value, ends, layer.constant("zero", 0.0)], padded)
    uncounted = {"pads": [0, 0, *(axis.overhang for axis in axes)], "count_include_pad": 0}
    return [layer.op("AveragePool", [value], result, {**window, **uncounted})]


def _global(layer: CaffeLayer, param: Message, method: str) -> list[ir.Value]:
    """Global pooling; as in Caffe, nothing about a window may be written beside it."""
    shape = layer.shape()
    if any(param.has(name) for name in ("kernel_size", "kernel_h", "kernel_w")):
        layer.refuse("global_pooling and a kernel size")
    if any(extents(layer, param, "pad", 2, 0)) or set(extents(layer, param, "stride", 2, 1)) != {1}:
        layer.refuse("global_pooling with padding or a stride")
    if len(layer.tops) > 1:
        axes = (Axis(shape[2], shape[2], 1, 0, 1), Axis(shape[3], shape[3], 1, 0, 1))
        return _max(layer, axes)
    op_type = "GlobalMaxPool" if method == "MAX" else "GlobalAveragePool"
    return [layer.op(op_type, [layer.x], (*shape[:2], 1, 1))]
