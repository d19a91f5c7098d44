"""Layers that move, cut, pad and repeat elements, in Keras's own order of axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras.building import KerasLayer, Shape, shape_of
from dlaconv.frontends.keras.windows import known, map_shape, space

_MOST = 1 << 16


def same(layer: KerasLayer) -> list[ir.Value]:
    """Layers that do nothing at inference, such as Dropout."""
    return [layer.inputs[0] if layer.inputs else layer.x]


def flatten(layer: KerasLayer) -> list[ir.Value]:
    """Flatten: in the order of channels-last maps, whatever ``data_format`` is."""
    shape, x = shape_of(layer.x), layer.x
    if len(shape) < 2:
        layer.refuse(f"a Flatten of {list(shape)}")
    if not layer.channels_last and len(shape) > 2:
        x = layer.transposed(x, [0, *range(2, len(shape)), 1])
    return [layer.reshaped(x, (shape[0], math.prod(known(layer, shape[1:]))))]


def reshape(layer: KerasLayer) -> list[ir.Value]:
    """Reshape: all but the batch; one size may be -1."""
    shape = shape_of(layer.x)
    target = layer.given("target_shape")
    if not isinstance(target, list) or not all(type(item) is int for item in target):
        layer.refuse(f"target_shape is {target!r}")
    count = math.prod(known(layer, shape[1:]))
    return [layer.reshaped(layer.x, (shape[0], *sizes_of(layer, target, count)))]


def sizes_of(layer: KerasLayer, target: list[int], count: int) -> list[int]:
    """Sizes with what -1 stands for, which must have ``count`` elements."""
    rest = math.prod(size for size in target if size != -1)
    if target.count(-1) > 1 or rest < 1 or (-1 not in target and rest != count) or count % rest:
        layer.refuse(f"{count} elements in the shape {target}")
    return [count // rest if size == -1 else size for size in target]


def permute(layer: KerasLayer) -> list[ir.Value]:
    """Permute: axes behind the batch, counted from 1."""
    rank, dims = len(shape_of(layer.x)), layer.given("dims")
    if not isinstance(dims, list) or sorted(dims, key=str) != [*range(1, rank)]:
        layer.refuse(f"dims is {dims!r} for {rank} dimensions")
    return [layer.transposed(layer.x, [0, *dims])]


def repeat_vector(layer: KerasLayer) -> list[ir.Value]:
    """RepeatVector: ``[N, C]`` as ``[N, n, C]``."""
    shape, count = layer.require_rank(2), layer.integer("n")
    value = layer.reshaped(layer.x, (shape[0], 1, shape[1]))
    repeats = layer.constant("repeats", np.asarray([1, count, 1], np.int64))
    return [layer.op("Tile", [value, repeats], (shape[0], count, shape[1]))]


def zero_padding(layer: KerasLayer) -> list[ir.Value]:
    """ZeroPadding1D, ZeroPadding2D and ZeroPadding3D."""
    shape, axes = _spatial(layer)
    ends = _ends(layer, "padding", len(axes))
    begin, end = [0] * len(shape), [0] * len(shape)
    result = list(shape)
    for axis, (before, behind) in zip(axes, ends, strict=True):
        begin[axis], end[axis] = before, behind
        result[axis] = known(layer, (shape[axis],))[0] + before + behind
    pads = layer.constant("pads", np.asarray([*begin, *end], np.int64))
    return [layer.op("Pad", [layer.x, pads], result, {"mode": "constant"})]


def cropping(layer: KerasLayer) -> list[ir.Value]:
    """Cropping1D, Cropping2D and Cropping3D."""
    shape, axes = _spatial(layer)
    ends = _ends(layer, "cropping", len(axes))
    begins, stops, result = [], [], list(shape)
    for axis, (before, behind) in zip(axes, ends, strict=True):
        [size] = known(layer, (shape[axis],))
        if before + behind >= size:
            layer.refuse(f"cuts {before} and {behind} of {size} elements")
        begins.append(before)
        stops.append(size - behind)
        result[axis] = size - before - behind
    given = [np.asarray(item, np.int64) for item in (begins, stops, axes)]
    names = ("starts", "ends", "axes")
    constants = [layer.constant(name, item) for name, item in zip(names, given, strict=True)]
    return [layer.op("Slice", [layer.x, *constants], result)]


def up_sampling(layer: KerasLayer) -> list[ir.Value]:
    """UpSampling1D and UpSampling2D: nearest, or bilinear between the centres of pixels."""
    shape, axes = _spatial(layer)
    method = layer.given("interpolation") or "nearest"
    if method not in ("nearest", "bilinear"):
        layer.no_form(f"interpolation {method!r}", remedy="use 'nearest' or 'bilinear'")
    factors = layer.integers("size", len(axes), 2)
    result, scales = list(shape), [1.0] * len(shape)
    for axis, factor in zip(axes, factors, strict=True):
        [size] = known(layer, (shape[axis],))
        if factor > _MOST:
            layer.refuse(f"size is {factor}")
        result[axis], scales[axis] = size * factor, float(factor)
    if method == "bilinear":
        return [_interpolated(layer, factors)]
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    given = layer.constant("scales", scales)
    return [layer.op("Resize", [layer.x, None, given], result, attributes)]


def _interpolated(layer: KerasLayer, factors: tuple[int, ...]) -> ir.Value:
    """Bilinear: ONNX interpolates the last axes, and runtimes no others."""
    x = layer.channels_first(layer.x)
    shape = shape_of(x)
    sizes = known(layer, shape[2:])
    result = (*shape[:2], *(size * factor for size, factor in zip(sizes, factors, strict=True)))
    scales = layer.constant("scales", [1.0, 1.0, *map(float, factors)])
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return layer.own_order(layer.op("Resize", [x, None, scales], result, attributes))


def _spatial(layer: KerasLayer) -> tuple[Shape, list[int]]:
    """The shape of the map, and its axes without batch and channels."""
    shape = map_shape(layer)
    return shape, space(layer, len(shape))


def _ends(layer: KerasLayer, name: str, axes: int) -> list[tuple[int, int]]:
    """What happens at both ends of each axis.

    ``2``, ``[1, 2]`` for each axis, ``[[0, 1], [1, 2]]`` for each end; ``[1, 2]`` if there is one
    axis only.
    """
    value: Any = layer.given(name)
    if type(value) is int:
        value = [[value, value]] * axes
    elif axes == 1 and isinstance(value, list) and all(type(item) is int for item in value):
        value = [value]
    elif isinstance(value, list):
        value = [[item, item] if type(item) is int else item for item in value]
    if (
        not isinstance(value, list)
        or len(value) != axes
        or not all(isinstance(pair, list) and len(pair) == 2 for pair in value)
        or not all(type(item) is int and 0 <= item <= _MOST for pair in value for item in pair)
    ):
        layer.refuse(f"{name} is {layer.given(name)!r}")
    return [(before, behind) for before, behind in value]
