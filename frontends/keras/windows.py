"""Windows of convolutions and pools: how many there are, and what padding they need.

``same`` gives ``ceil(size / stride)`` windows. The padding that this needs is halved, and the odd
element is put at the end, so it depends on the size: with a stride of 2 an even size is padded at
the end only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dlaconv.frontends.keras.building import KerasLayer, Shape

_DIMENSIONS = re.compile(r"([123])D")


@dataclass(frozen=True)
class Axis:
    """The windows along one axis.

    Attributes:
        count: number of windows.
        begin: elements of padding before the first element.
        end: elements of padding behind the last one.
    """

    count: int
    begin: int
    end: int


def axes_of(
    layer: KerasLayer,
    sizes: tuple[int | None, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    *,
    causal: bool = False,
) -> list[Axis]:
    """The windows along each axis, by the layer's ``padding``.

    Args:
        layer: the layer.
        sizes: elements of the map along each axis.
        kernel: elements of a window.
        stride: distance of two windows.
        dilation: distance of two elements of a window.
        causal: allows ``causal`` padding, all of it at the beginning.
    """
    padding = padding_of(layer, "same", "valid", *(["causal"] if causal else []))
    found = []
    for size, k, s, d in zip(known(layer, sizes), kernel, stride, dilation, strict=True):
        extent = d * (k - 1) + 1
        if padding == "same":
            count = -(-size // s)
            total = max((count - 1) * s + extent - size, 0)
            found.append(Axis(count, total // 2, total - total // 2))
            continue
        begin = extent - 1 if padding == "causal" else 0
        if size + begin < extent:
            layer.refuse(f"a window of {extent} on {size} elements")
        found.append(Axis((size + begin - extent) // s + 1, begin, 0))
    return found


def map_shape(layer: KerasLayer) -> Shape:
    """The shape of the map that a layer such as Conv2D reads; operations have no digit."""
    match = _DIMENSIONS.search(layer.layer.kind)
    return layer.require_rank(*([int(match[1]) + 2] if match is not None else [3, 4, 5]))


def space(layer: KerasLayer, rank: int) -> list[int]:
    """The axes of a map without those of batch and channels."""
    return [*range(1, rank - 1)] if layer.channels_last else [*range(2, rank)]


def padding_of(layer: KerasLayer, *allowed: str) -> str:
    """The layer's ``padding``, in lower case."""
    padding = layer.given("padding")
    name = padding.lower() if isinstance(padding, str) else ""
    if padding is None:
        return "valid"
    if name not in allowed:
        layer.refuse(f"padding {padding!r}, not {' or '.join(allowed)}")
    return name


def known(layer: KerasLayer, sizes: tuple[int | None, ...]) -> list[int]:
    """Sizes that must not be open."""
    found = [size for size in sizes if size is not None]
    if len(found) != len(sizes):
        layer.refuse(f"sizes {list(sizes)} are open")
    return found


def pads(axes: list[Axis]) -> list[int]:
    """The padding as ONNX has it: all beginnings, then all ends."""
    return [*(axis.begin for axis in axes), *(axis.end for axis in axes)]
