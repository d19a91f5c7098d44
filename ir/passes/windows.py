"""The window of a convolution or pooling node: kernel, strides, dilations, pads."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from dlaconv.ir.graph import attribute, ints_attribute, is_op, shape_of

POOLS = ("MaxPool", "AveragePool", "LpPool")


@dataclass(frozen=True)
class Window:
    """A window over the spatial axes of a map ``[N, C, D1, ...]``.

    Attributes:
        size: extents of the input, per spatial axis.
        kernel: extents of the kernel.
        strides: steps between windows.
        dilations: distance of taps.
        pads: ONNX order, all beginnings and then all ends.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """What one window covers, dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def same_pads(self, *, upper: bool) -> tuple[int, ...]:
        """Pads of ``auto_pad = SAME_UPPER`` (or ``SAME_LOWER``): ceil(size / stride) windows."""
        begins, ends = [], []
        for size, extent, stride in zip(self.size, self.extents, self.strides, strict=True):
            windows = -(-size // stride)
            total = max((windows - 1) * stride + extent - size, 0)
            small, large = total // 2, total - total // 2
            begins.append(small if upper else large)
            ends.append(large if upper else small)
        return (*begins, *ends)

    def ceil_matters(self) -> bool:
        """True if ``ceil_mode`` gives another number of windows than rounding down."""
        rank = len(self.size)
        for axis in range(rank):
            begin, end = self.pads[axis], self.pads[axis + rank]
            room = self.size[axis] + begin + end - self.extents[axis]
            if room % self.strides[axis] == 0:
                continue
            start = (room // self.strides[axis] + 1) * self.strides[axis]
            if start < self.size[axis] + begin:  # a window that starts in the end pad is dropped
                return True
        return False


def window_of(node: ir.Node) -> Window | None:
    """The window of a Conv or pooling node; None while shapes are unknown.

    ``auto_pad`` is not looked at: absent pads are zeros.
    """
    source = node.inputs[0]
    shape = shape_of(source) if source is not None else None
    kernel = ints_attribute(node, "kernel_shape")
    if not kernel and is_op(node, "Conv") and node.inputs[1] is not None:
        kernel = (shape_of(node.inputs[1]) or ())[2:]
    if shape is None or not kernel or len(kernel) != len(shape) - 2:
        return None
    ones = (1,) * len(kernel)
    return Window(
        size=shape[2:],
        kernel=kernel,
        strides=ints_attribute(node, "strides", ones),
        dilations=ints_attribute(node, "dilations", ones),
        pads=ints_attribute(node, "pads", (0,) * (2 * len(kernel))),
    )


def set_window(node: ir.Node, window: Window) -> None:
    """Writes every attribute of a window out and drops ``auto_pad``."""
    attributes = node.attributes
    attributes.pop("auto_pad", None)
    attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", window.kernel)
    attributes["strides"] = ir.AttrInt64s("strides", window.strides)
    attributes["pads"] = ir.AttrInt64s("pads", window.pads)
    if not is_op(node, "AveragePool", "LpPool"):  # they have none in opset 18
        attributes["dilations"] = ir.AttrInt64s("dilations", window.dilations)
    if is_op(node, "Conv"):
        attributes["group"] = ir.AttrInt64("group", int(attribute(node, "group", 1)))
