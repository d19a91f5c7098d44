"""What rewrites of averages ask about one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    ints_attribute,
    is_op,
    is_optional_input_absent,
    producer,
    shape_of,
    sole_consumer,
)
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.pool_windows import (
    global_window,
    pool_window,
    values_counted,
)
from dlaconv.ir.passes.windows import Window
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target

_MOST_WINDOWS = 1 << 16
"""Along an axis; no hardware has maps of such a size."""
_LINE = 3
"""Rank of a map ``[N, C, L]``."""


@dataclass(frozen=True)
class Average:
    """An average over windows of a map ``[N, C, H, W]``.

    Attributes:
        window: the windows; its pads at the ends are what the last windows reach beyond the map.
        counts: windows along each axis.
        divisor: what every sum is divided by; None if that varies.
        counted: how many values windows count, for each axis.
    """

    window: Window
    counts: tuple[int, ...]
    divisor: int | None
    counted: tuple[tuple[int, ...], ...]

    @property
    def whole(self) -> bool:
        """True if there is one window, over the whole map, and it averages just that."""
        window = self.window
        covers = all(
            kernel - begin >= size
            for kernel, begin, size in zip(window.kernel, window.pads, window.size, strict=False)
        )
        return set(self.counts) == {1} and covers and self.divisor == math.prod(window.size)


def average_of(node: ir.Node) -> Average | None:
    """The average that a pool computes; None if it is none, or shapes are unknown."""
    if is_op(node, "GlobalAveragePool"):
        window = global_window(node)
        if window is None or len(window.size) != 2:
            return None
        whole = [(extent,) for extent in window.size]
        return Average(window, (1, 1), math.prod(window.size), tuple(whole))
    window = pool_window(node) if is_op(node, "AveragePool") else None
    if window is None:
        return None
    counts = (shape_of(node.outputs[0]) or ())[2:]
    if max(counts) > _MOST_WINDOWS:
        return None
    with_padding = bool(attribute(node, "count_include_pad", 0))
    counted = [tuple(a) for a in values_counted(window, counts, with_padding=with_padding)]
    if any(min(axis) < 1 for axis in counted):
        return None
    same = all(len(set(axis)) == 1 for axis in counted)
    divisor = math.prod(axis[0] for axis in counted) if same else None
    return Average(_reaching(window, counts), counts, divisor, tuple(counted))


def legal_average(node: ir.Node, target: Target) -> bool:
    """True if the hardware has an average pool as it is."""
    limits, window = target.average_pool, pool_window(node)
    if is_op(node, "GlobalAveragePool"):
        size = (shape_of(node.inputs[0]) or ())[2:] if node.inputs[0] is not None else ()
        return len(size) == 2 and all(
            limits.kernel[0] <= extent <= limits.kernel[1] for extent in size
        )
    if window is None:
        return False
    padded = any(window.pads)
    return (
        all(limits.kernel[0] <= extent <= limits.kernel[1] for extent in window.kernel)
        and all(stride in limits.strides for stride in window.strides)
        and all(pad <= limits.padding[1] for pad in window.pads)
        and not any(window.pads[2:])
        and not attribute(node, "ceil_mode", 0)
        and (not padded or attribute(node, "count_include_pad", 0) == 1)
    )


def exact_divisor(divisor: int, source: ir.Value, context: Context) -> bool:
    """True if dividing by weights rounds no integer otherwise than dividing does.

    A weight step of 2^n/a is the inverse of any divisor whose odd part is at most a; one of a/2^n
    only of powers of two. Without integers in the source nothing can be rounded otherwise.
    """
    if stored_quantisation(source) is None:
        return True
    odd = divisor // (divisor & -divisor)
    return odd == 1 or (context.convention == "guide" and odd <= context.target.scale_divisor[1])


def early(builder: Builder, node: ir.Node) -> Callable[[ir.Value], ir.Value] | None:
    """What may round an average before its values are moved: what rounds them anyway.

    None if nothing may. Behind something that rounds down or up, that is: what is on the grid has
    no half unit for it; or if the source rounds, but not right behind the average.
    """
    following = sole_consumer(node.outputs[0])
    if following is None or not dialect.is_quantize(following):
        return None if stored_quantisation(builder.x) is not None else lambda value: value
    quantisation = dialect.quantisation_of(following)
    if not quantisation.rounding.nearest:
        return None
    return lambda value: builder.quantised(value, quantisation)


def _reaching(window: Window, counts: tuple[int, ...]) -> Window:
    """A window with the pads at the ends that its last windows reach into."""
    begins = window.pads[: len(counts)]
    ends = [
        max((count - 1) * stride + kernel - size - begin, 0)
        for count, stride, kernel, size, begin in zip(
            counts, window.strides, window.kernel, window.size, begins, strict=True
        )
    ]
    return replace(window, pads=(*begins, *ends))


@dataclass(frozen=True)
class Mean:
    """The mean over whole axes of a map.

    Attributes:
        x: the map.
        axes: the axes, from 1 on.
        keepdims: True if they stay, one element long; else the node's result says what becomes
            of them.
    """

    x: ir.Value
    axes: tuple[int, ...]
    keepdims: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the map."""
        return shape_of(self.x) or ()

    @property
    def divisor(self) -> int:
        """How many values are averaged."""
        return math.prod(self.shape[axis] for axis in self.axes)

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of the result while the axes stay."""
        return tuple(1 if axis in self.axes else n for axis, n in enumerate(self.shape))


def mean_of(node: ir.Node) -> Mean | None:
    """The mean over whole axes that a pool or ReduceMean computes; None if it is none.

    Means over some axes and then others, with nothing in between, are one.
    """
    x = node.inputs[0] if node.inputs else None
    if x is None or shape_of(x) is None:
        return None
    if is_op(node, "ReduceMean"):
        axes = reduced_axes(node)
        keepdims = bool(attribute(node, "keepdims", 1))
        mean = Mean(x, axes, keepdims) if axes and axes[0] > 0 else None
        inner = producer(x)
        first = mean_of(inner) if inner is not None and is_op(inner, "ReduceMean") else None
        if mean is None or first is None or sole_consumer(x) is not node:
            return mean
        return _both(first, mean)
    if is_op(node, "GlobalAveragePool") and len(shape_of(x) or ()) == _LINE:
        return Mean(x, (2,))
    average = average_of(node)
    return Mean(x, (2, 3)) if average is not None and average.whole else None


def _both(first: Mean, then: Mean) -> Mean:
    """One mean for two."""
    places = [a for a in range(len(first.shape)) if first.keepdims or a not in first.axes]
    axes = {*first.axes, *(places[axis] for axis in then.axes)}
    return Mean(first.x, tuple(sorted(axes)), first.keepdims and then.keepdims)


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a Reduce operator, ascending; none if it reduces nothing, None if unknown."""
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None or min(shape, default=1) < 1:
        return None
    axes: tuple[int, ...] = ints_attribute(node, "axes")
    if not is_optional_input_absent(node, 1):
        constant = input_array(node, 1)
        if constant is None:
            return None
        axes = tuple(int(axis) for axis in constant.reshape(-1))
    if not axes:
        return () if attribute(node, "noop_with_empty_axes", 0) else tuple(range(len(shape)))
    return tuple(sorted({axis % len(shape) for axis in axes}))
