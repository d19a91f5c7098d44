"""Layers that scale by channel: BatchNormalization, Normalization and Rescaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras.building import KerasLayer, shape_of
from dlaconv.frontends.keras.windows import known

_SMALLEST_DEVIATION = 1e-7
"""What Normalization divides by at least: epsilon() of Keras."""


def batch_normalisation(layer: KerasLayer) -> list[ir.Value]:
    """BatchNormalization, with its moving averages."""
    shape = shape_of(layer.x)
    axis = channel_axis(layer, len(shape))
    [channels] = known(layer, (shape[axis],))
    if layer.flag("renorm", False):
        layer.no_form("a BatchNormalization with renorm, which has further variables")
    return [normalised(layer, statistics(layer, channels), axis)]


def statistics(
    layer: KerasLayer, channels: int, *, inner: tuple[str, ...] = (), prefix: str = ""
) -> dict[str, np.ndarray]:
    """The variables of a BatchNormalization, float32, without those that it leaves out.

    Args:
        layer: the layer.
        channels: how many values each has.
        inner: the object within the layer that has them.
        prefix: what the names of ``gamma`` and ``beta`` begin with in files that name variables.

    Returns:
        ``gamma``, ``beta``, ``moving_mean`` and ``moving_variance`` in the order of the file.
    """
    left_out = {"gamma": not layer.flag("scale", True), "beta": not layer.flag("center", True)}
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    kept = [name for name in names if not left_out.get(name)]
    found = {
        name: layer.variable(
            at, (channels,), f"{prefix}{name}" if name in left_out else name, inner=inner
        )
        for at, name in enumerate(kept)
    }
    for name, array in found.items():
        if array.dtype != np.float32:
            layer.refuse(f"{name} is stored as {array.dtype}")
    return found


def normalised(layer: KerasLayer, found: Mapping[str, np.ndarray], axis: int) -> ir.Value:
    """A BatchNormalization of what the layer reads.

    Args:
        layer: the layer; says epsilon.
        found: see `statistics`.
        axis: the axis of the channels.
    """
    mean = found["moving_mean"]
    whole = {"gamma": np.ones_like(mean), "beta": np.zeros_like(mean), **found}
    parameters = [
        layer.shared(name, partial(layer.graph.constant, f"{layer.name}/{name}", array))
        for name, array in whole.items()
    ]
    rank = len(shape_of(layer.x))
    first = [0, axis, *(other for other in range(1, rank) if other != axis)]
    x = layer.transposed(layer.x, first)
    epsilon = layer.number("epsilon", default=1e-3)
    value = layer.op("BatchNormalization", [x, *parameters], shape_of(x), {"epsilon": epsilon})
    return layer.transposed(value, [first.index(axis) for axis in range(rank)])


def channel_axis(layer: KerasLayer, rank: int) -> int:
    """The one axis that a BatchNormalization keeps."""
    axis: Any = layer.given("axis")
    axis = -1 if axis is None else axis
    if isinstance(axis, list) and len(axis) != 1:
        layer.no_form(f"a BatchNormalization over axes {axis}")
    found = layer.axis(axis, rank)
    if found == 0:
        layer.refuse("a BatchNormalization of the batch")
    return found


def rescaling(layer: KerasLayer) -> list[ir.Value]:
    """Rescaling: ``x * scale + offset``."""
    return [affine(layer, layer.x, layer.numbers("scale", 1.0), layer.numbers("offset", 0.0))]


def normalisation(layer: KerasLayer) -> list[ir.Value]:
    """Normalization: ``(x - mean) / max(deviation, 1e-7)``, or its inverse."""
    shape = shape_of(layer.x)
    axes = _kept_axes(layer, len(shape))
    size = tuple(known(layer, tuple(shape[axis] for axis in axes)))
    mean, variance = _statistics(layer, size)
    if variance.min(initial=0) < 0:
        layer.refuse("a variance below zero")
    deviation = np.maximum(np.sqrt(variance), np.float32(_SMALLEST_DEVIATION))
    sizes = dict(zip(axes, size, strict=True))
    spread = [sizes.get(axis, 1) for axis in range(len(shape))]
    mean, deviation = mean.reshape(spread), deviation.reshape(spread)
    if layer.flag("invert", False):
        return [affine(layer, layer.x, deviation, mean)]
    value = layer.op("Sub", [layer.x, layer.constant("mean", mean)], shape)
    return [layer.op("Div", [value, layer.constant("deviation", deviation)], shape)]


def _kept_axes(layer: KerasLayer, rank: int) -> list[int]:
    axis = layer.config.get("axis", -1)
    listed = axis if isinstance(axis, list) else [] if axis is None else [axis]
    found = sorted({layer.axis(item, rank) for item in listed})
    if 0 in found:
        layer.refuse("a Normalization that keeps the batch")
    return found


def _statistics(layer: KerasLayer, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance, float32: from the file, or as the parameters have them."""
    if layer.given("mean") is None:
        return layer.variable(0, size, "mean"), layer.variable(1, size, "variance")
    found = [layer.numbers(name, 0.0).astype(np.float32) for name in ("mean", "variance")]
    if any(array.size not in {1, math.prod(size)} for array in found):
        layer.refuse(f"{found[0].size} means and {found[1].size} variances for {list(size)}")
    mean, variance = (
        np.broadcast_to(array.reshape(()) if array.size == 1 else array.reshape(size), size)
        for array in found
    )
    return mean, variance


def affine(layer: KerasLayer, x: ir.Value, scale: np.ndarray, offset: np.ndarray) -> ir.Value:
    """``x * scale + offset``, without what changes nothing; both broadcast against x."""
    shape = shape_of(x)
    for array in (scale, offset):
        sizes = (1,) * (len(shape) - array.ndim) + array.shape
        if array.ndim > len(shape) or any(
            size not in {1, of} for size, of in zip(sizes, shape, strict=True)
        ):
            layer.refuse(f"values of shape {list(array.shape)} on a tensor of {list(shape)}")
    if (scale != 1).any():
        x = layer.op("Mul", [x, layer.constant("scale", scale.astype(np.float32))], shape)
    if (offset != 0).any():
        x = layer.op("Add", [x, layer.constant("offset", offset.astype(np.float32))], shape)
    return x
