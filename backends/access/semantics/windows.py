"""Sliding windows of convolutions and pools, and the axes of a reduction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import ints_attribute, is_optional_input_absent
from dlaconv.ir.layers import Layer


@dataclass(frozen=True)
class Window:
    """Geometry of a sliding window; one entry per spatial axis.

    Attributes:
        kernel: extents in taps.
        strides: steps between windows.
        dilations: steps between taps.
        before: padding in front of the map.
        after: padding behind the map.
        excess: further positions behind ``after`` that the last window of a ``ceil_mode`` pool
            touches; they are padding that is never counted.
        output: number of windows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    excess: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def pads(self) -> list[int]:
        """Padding in the order of ONNX, ``excess`` included."""
        behind = (after + excess for after, excess in zip(self.after, self.excess, strict=True))
        return [*self.before, *behind]

    @property
    def taps(self) -> int:
        """Positions under one window."""
        return int(np.prod(self.kernel))

    def padded(self, x: np.ndarray, value: int) -> np.ndarray:
        """A map ``[N, C, ...]`` with its padding."""
        rank = len(self.kernel)
        sides = list(zip(self.pads[:rank], self.pads[rank:], strict=True))
        padded: np.ndarray = np.pad(x, [(0, 0), (0, 0), *sides], constant_values=value)
        return padded

    def positions(self, padded: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """For each tap its index in the kernel and what all windows see there, ``[N, C, ...]``."""
        for tap in product(*map(range, self.kernel)):
            cut = tuple(
                slice(index * dilation, index * dilation + (windows - 1) * stride + 1, stride)
                for index, dilation, windows, stride in zip(
                    tap, self.dilations, self.output, self.strides, strict=True
                )
            )
            yield tap, padded[(slice(None), slice(None), *cut)]

    def counts(self, spatial: tuple[int, ...], *, include_pad: bool) -> np.ndarray:
        """How many positions each window of an average counts, ``[1, 1, ...]``, at least 1."""
        ones = np.ones((1, 1, *spatial), np.int64)
        inner = list(zip(self.before, self.after, strict=True))
        ones = np.pad(ones, [(0, 0), (0, 0), *inner], constant_values=int(include_pad))
        ones = np.pad(ones, [(0, 0), (0, 0), *((0, excess) for excess in self.excess)])
        total = np.asarray(sum(seen for _, seen in self.positions(ones)))
        return np.asarray(np.maximum(total, 1))


def window_of(layer: Layer) -> Window:
    """The window of a convolution or pool with explicit pads."""
    node, spatial = layer.node, layer.inputs[0].shape[2:]
    rank = len(spatial)
    if layer.weights is not None:
        kernel = tuple(layer.weights.integers.shape[2:])
    else:
        kernel = ints_attribute(node, "kernel_shape")
    strides = ints_attribute(node, "strides", (1,) * rank)
    dilations = ints_attribute(node, "dilations", (1,) * rank)
    pads = ints_attribute(node, "pads", (0,) * (2 * rank))
    output = layer.output.shape[2:]
    reach = [
        (windows - 1) * stride + (extent - 1) * dilation + 1
        for windows, stride, extent, dilation in zip(
            output, strides, kernel, dilations, strict=True
        )
    ]
    excess = tuple(
        max(0, far - (size + begin + end))
        for far, size, begin, end in zip(reach, spatial, pads[:rank], pads[rank:], strict=True)
    )
    return Window(kernel, strides, dilations, pads[:rank], pads[rank:], excess, output)


def reduced_axes(node: ir.Node, rank: int) -> tuple[int, ...]:
    """The axes of a ReduceSum as non-negative numbers, from its input or its attribute.

    Raises:
        ValueError: if the axes are no constant.
    """
    if is_optional_input_absent(node, 1):
        axes = ints_attribute(node, "axes")
        if not axes and node.attributes.get_int("noop_with_empty_axes", False):
            return ()
    else:
        value = node.inputs[1]
        if value is None or value.const_value is None:
            raise ValueError(f"{node.name!r}: the axes are no constant")
        axes = tuple(int(axis) for axis in value.const_value.numpy().reshape(-1))
    return tuple(sorted(axis % rank for axis in axes)) if axes else tuple(range(rank))
