"""Kernel sizes, strides and pads, which Caffe lets one write in two ways each."""

from __future__ import annotations

from collections.abc import Sequence

from dlaconv.frontends.caffe.building import CaffeLayer
from dlaconv.frontends.caffe.message import Message

MOST = 1 << 16
"""The largest kernel, stride, padding or dilation that is taken for one."""


def extents(
    layer: CaffeLayer, param: Message, name: str, axes: int, default: int | None
) -> tuple[int, ...]:
    """A quantity per spatial axis, height first.

    Args:
        layer: the layer.
        param: its parameters.
        name: ``kernel``, ``stride``, ``pad`` or ``dilation``.
        axes: the number of spatial axes.
        default: its value where it is not written; None if it must be.
    """
    listed = "kernel_size" if name == "kernel" else name
    single = param.kind.fields[listed]
    written = [param.integer(listed)] if not single.repeated and param.has(listed) else []
    if single.repeated:
        written = param.integers(listed)
    pair = [f"{name}_h", f"{name}_w"]
    by_axis = [item for item in pair if item in param.kind.fields and param.has(item)]
    if by_axis:
        if written:
            layer.refuse(f"both {listed} and {by_axis[0]} are written")
        if axes != 2:
            layer.refuse(f"{by_axis[0]} of {axes} spatial dimensions")
        if len(by_axis) == 1 and name in {"kernel", "stride"}:
            layer.refuse(f"{by_axis[0]} is written without the other axis")
        written = [param.integer(item) for item in pair]
    if not written:
        if default is None:
            layer.refuse(f"{listed} is missing")
        return (default,) * axes
    if max(written) > MOST:
        layer.refuse(f"{listed} {written}: dlaconv takes up to {MOST}")
    if len(written) not in {1, axes}:
        layer.refuse(f"{len(written)} values of {listed} for {axes} spatial dimensions")
    return tuple(written) if len(written) == axes else (written[0],) * axes


def require_positive(layer: CaffeLayer, name: str, values: Sequence[int]) -> None:
    """Sees to it that sizes are not zero."""
    if min(values, default=1) < 1:
        layer.refuse(f"{name} {list(values)}: zero is no size")
