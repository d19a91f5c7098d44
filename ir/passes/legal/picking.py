"""Convolutions that only pick: every position of the result shows one of the source, or zero.

The kernels hold zeros and ones, so integers come out as they went in. Cropping, striding, padding,
choosing channels and moving space into channels are all of this kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import producer, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.target import KernelLimits, Target


@dataclass(frozen=True, eq=False)
class Picks:
    """What a map ``[1, O, H, W]`` shows of a source ``[1, C, h, w]``.

    Position (i, j) of channel o shows row ``starts[o, 0] + strides[0] * i`` and column
    ``starts[o, 1] + strides[1] * j`` of channel ``channels[o]``; zero outside of the source.

    Attributes:
        channels: int ``[O]``, -1 for a channel of zeros.
        starts: int ``[O, 2]``.
        strides: along rows and columns.
        size: H and W.
    """

    channels: np.ndarray
    starts: np.ndarray
    strides: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def all_of(cls, channels: int, begins: Sequence[int], size: tuple[int, int]) -> Picks:
        """Every channel, with ``begins`` zeros before rows and columns."""
        starts = np.tile(-np.asarray(begins, np.int64), (channels, 1))
        return cls(np.arange(channels), starts, (1, 1), size)

    @classmethod
    def phases(
        cls, channels: int, factors: tuple[int, int], size: tuple[int, int], order: str = "CRD"
    ) -> Picks:
        """Space to depth: blocks of ``factors`` positions become channels.

        Args:
            channels: channels of the source.
            factors: rows and columns of a block.
            size: size of the source; what lacks to whole blocks is zeros.
            order: ``CRD`` numbers channels (channel, row, column), ``DCR`` (row, column, channel).
        """
        axes = (channels, *factors) if order == "CRD" else (*factors, channels)
        index = np.indices(axes).reshape(3, -1)
        channel, row, column = index if order == "CRD" else index[[2, 0, 1]]
        blocks = (-(-size[0] // factors[0]), -(-size[1] // factors[1]))
        return cls(channel, np.stack([row, column], axis=1), factors, blocks)

    @property
    def adds_zeros(self) -> bool:
        """True if a channel is nothing but zeros."""
        return bool((self.channels < 0).any())


def pick(builder: Builder, x: ir.Value, picks: Picks, context: Context) -> ir.Value | Blocked:
    """A convolution that shows what ``picks`` says; depth-wise where the hardware can.

    The result is unrounded, but its values are those of ``x``, and zeros.
    """
    windows = windows_of(x, picks, context.target)
    if isinstance(windows, Blocked):
        return windows
    shape, used = shape_of(x) or (), picks.channels >= 0
    depthwise = _is_depthwise(x, picks, context.target)
    (height, top, bottom), (width, left, right) = windows
    kernel = np.zeros((len(picks.channels), 1 if depthwise else shape[1], height, width), np.int8)
    rows, columns = (picks.starts[used] + np.array([top, left])).T
    kernel[np.flatnonzero(used), 0 if depthwise else picks.channels[used], rows, columns] = 1
    value = builder.conv(
        x,
        Weights(kernel, 0, np.ones(len(kernel))),
        strides=even_strides(zip(picks.strides, picks.size, strict=True)),
        pads=(top, left, bottom, right),
        group=shape[1] if depthwise else 1,
    )
    layer = producer(value)
    assert layer is not None
    builder.gains.append(layer)
    return value


def even_strides(axes: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Strides of all axes from stride and number of windows of each.

    The guide does not speak of strides that differ. Where there is one window its stride is free.
    """
    axes = list(axes)
    fixed = [stride for stride, windows in axes if windows > 1]
    free = max(fixed or [stride for stride, _ in axes])
    return tuple(stride if windows > 1 else free for stride, windows in axes)


def windows_of(x: ir.Value, picks: Picks, target: Target) -> list[tuple[int, int, int]] | Blocked:
    """Kernel extent, beginning and end pad of the convolution that `pick` makes, for both axes."""
    shape = shape_of(x)
    if shape is None or len(shape) != 4:
        return Blocked("the map has no rows and columns")
    limits = target.depthwise if _is_depthwise(x, picks, target) else target.conv
    channels = max(len(picks.channels), shape[1])
    if channels > limits.channels[1]:
        return Blocked(f"it takes {channels} channels, the limit is {limits.channels[1]}")
    used = picks.channels >= 0
    windows = []
    for axis in range(2):
        starts = picks.starts[used, axis] if used.any() else np.zeros(1, np.int64)
        window = _window(
            shape[2 + axis],
            picks.size[axis],
            picks.strides[axis],
            int(starts.min()),
            int(starts.max()),
            limits,
        )
        if isinstance(window, Blocked):
            return window
        windows.append(window)
    return windows


def keeps_zero(quantisation: Quantisation | None) -> bool:
    """True if zero is on a grid, so that padding a map of that grid leaves it there."""
    if quantisation is None:
        return True
    zero = quantisation.on_grid(np.zeros(1, np.float32))
    return not zero.any()


def _is_depthwise(x: ir.Value, picks: Picks, target: Target) -> bool:
    """True if every channel stays and the map is large enough.

    A graph input whose channels fill no whole groups gets a dense layer: its result can be padded.
    """
    shape, maker = shape_of(x) or (), producer(x)
    source = maker.inputs[0] if maker is not None and dialect.is_quantize(maker) else x
    whole = shape[1] % target.channel_multiple == 0
    if source is not None and source.is_graph_input() and not whole:
        return False
    low, high = target.depthwise.map_size
    sizes = all(low <= extent <= high for extent in shape[2:])
    return sizes and np.array_equal(picks.channels, np.arange(shape[1]))


def _window(
    size: int, count: int, stride: int, first: int, last: int, limits: KernelLimits
) -> tuple[int, int, int] | Blocked:
    """Kernel extent, beginning and end pad of one axis.

    Window i starts at ``stride * i - begin`` and has to reach ``first`` to ``last`` behind
    ``stride * i``. A kernel that is longer at its end makes fewer windows.
    """
    if stride not in limits.strides:
        return Blocked(f"a convolution has no stride of {stride}")
    begin = max(0, -first)
    kernel = last + begin + 1
    # more change nothing; but a single window may get the stride of the other axis
    more = stride - 1 if count > 1 else 0
    least = (count - 1) * stride + kernel - size - begin
    if least + more < 0:
        kernel -= least + more
        least = -more
    end = begin if least <= begin <= least + more else max(least, 0)
    if max(begin, end) > limits.padding[1]:
        return Blocked(f"it takes padding of {max(begin, end)}, the limit is {limits.padding[1]}")
    if kernel > limits.kernel[1]:
        return Blocked(f"it takes a kernel of {kernel}, the limit is {limits.kernel[1]}")
    return kernel, begin, end
