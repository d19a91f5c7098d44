"""Layers that only arrange elements anew."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer, Shape


def flatten(layer: CaffeLayer) -> list[ir.Value]:
    """Flatten: the dimensions from ``axis`` to ``end_axis`` become one."""
    layer.require_bottoms(1)
    param, shape = layer.param("flatten_param"), layer.shape()
    begin = layer.axis(param.integer("axis"))
    end = layer.axis(param.integer("end_axis"), name="end_axis")
    if end < begin:
        layer.refuse(f"end_axis {end} before axis {begin}")
    result = (*shape[:begin], math.prod(shape[begin : end + 1]), *shape[end + 1 :])
    return [layer.reshaped(layer.x, result)]


def reshape(layer: CaffeLayer) -> list[ir.Value]:
    """Reshape: 0 copies a dimension, -1 is what is left, for ``num_axes`` from ``axis`` on."""
    layer.require_bottoms(1)
    param, shape = layer.param("reshape_param"), layer.shape()
    rank, begin, count = len(shape), param.integer("axis"), param.integer("num_axes")
    begin = begin if begin >= 0 else rank + begin + 1
    end = rank if count == -1 else begin + count
    if not 0 <= begin <= rank or not begin <= end <= rank:
        layer.refuse(f"axis {param.integer('axis')}, num_axes {count} of {list(shape)}")
    dims = param.message("shape").integers("dim")
    if dims.count(-1) > 1 or any(dim < -1 for dim in dims):
        layer.refuse(f"shape {dims}")
    known: list[int] = []
    for index, dim in enumerate(dims):
        if dim == 0 and begin + index >= end:
            layer.refuse(f"shape {dims} copies dimension {begin + index} of {list(shape)}")
        known.append(shape[begin + index] if dim == 0 else dim)
    result = [*shape[:begin], *known, *shape[end:]]
    if -1 in known:
        rest = math.prod(size for size in result if size != -1)
        if not rest or math.prod(shape) % rest:
            layer.refuse(f"{list(shape)} cannot become {result}")
        result[begin + known.index(-1)] = math.prod(shape) // rest
    if math.prod(result) != math.prod(shape):
        layer.refuse(f"{list(shape)} has {math.prod(shape)} elements, {result} has others")
    return [layer.reshaped(layer.x, tuple(result))]


def unsqueeze(layer: CaffeLayer) -> list[ir.Value]:
    """Unsqueeze of forks: a dimension of one becomes number ``dim``."""
    layer.require_bottoms(1)
    shape, dim = layer.shape(), layer.param("unsqueeze_param").integer("dim")
    place = layer.axis(dim, len(shape) + 1, name="dim")
    return [layer.reshaped(layer.x, (*shape[:place], 1, *shape[place:]))]


_PADDING = {"CONSTANT": "constant", "REPLICATE": "edge", "REFLECT": "reflect"}


def pad(layer: CaffeLayer) -> list[ir.Value]:
    """Pad of forks: rows above (``u``) and below, columns left and right; all negative, it cuts."""
    layer.require_bottoms(1)
    layer.require_rank(4)
    param, shape = layer.param("pad_param"), layer.shape()
    up, down, left, right = (param.integer(f"pad_{side}") for side in "udlr")
    size = [shape[2] + up + down, shape[3] + left + right]
    result = (*shape[:2], *size)
    layer.require_size(result)
    if max(up, down, left, right) < 0:
        return [sliced(layer, [2, 3], [-up, -left], [shape[2] + down, shape[3] + right])]
    if min(up, down, left, right) < 0:
        layer.refuse(f"pad_u {up}, pad_d {down}, pad_l {left}, pad_r {right}: signs differ")
    kind = param.text("pad_type")
    if kind == "REFLECT" and (max(up, down) >= shape[2] or max(left, right) >= shape[3]):
        layer.refuse(f"a map of {list(shape[2:])} is too small for what it would reflect")
    pads = layer.constant("pads", [0, 0, up, left, 0, 0, down, right])
    value = layer.constant("value", param.number("pad_value"))
    inputs = [layer.x, pads, value] if kind == "CONSTANT" else [layer.x, pads]
    return [layer.op("Pad", inputs, result, {"mode": _PADDING[kind]})]


def permute(layer: CaffeLayer) -> list[ir.Value]:
    """Permute: dimensions that ``order`` does not name follow in their order."""
    layer.require_bottoms(1)
    shape, order = layer.shape(), layer.param("permute_param").integers("order")
    if len(set(order)) != len(order) or any(axis >= len(shape) for axis in order):
        layer.refuse(f"order {order} of {len(shape)} dimensions")
    order += [axis for axis in range(len(shape)) if axis not in order]
    return [_transposed(layer, layer.x, shape, order)]


def tile(layer: CaffeLayer) -> list[ir.Value]:
    """Tile: an axis repeated."""
    layer.require_bottoms(1)
    param, shape = layer.param("tile_param"), layer.shape()
    axis, tiles = layer.axis(param.integer("axis")), param.integer("tiles")
    if tiles < 1:
        layer.refuse(f"tiles {tiles}")
    repeats = [tiles if index == axis else 1 for index in range(len(shape))]
    result = [size * count for size, count in zip(shape, repeats, strict=True)]
    return [layer.op("Tile", [layer.x, layer.constant("repeats", repeats)], result)]


def crop(layer: CaffeLayer) -> list[ir.Value]:
    """Crop: the dimensions from ``axis`` on get the sizes of the second bottom."""
    layer.require_bottoms(2)
    param, shape, like = layer.param("crop_param"), layer.shape(), layer.shape(1)
    axis, offsets = layer.axis(param.integer("axis")), param.integers("offset")
    axes = list(range(axis, len(shape)))
    if len(like) != len(shape):
        layer.refuse(f"a map of shape {list(shape)} like one of {list(like)}")
    if len(offsets) not in {0, 1, len(axes)}:
        layer.refuse(f"{len(offsets)} offsets for {len(axes)} axes")
    if len(offsets) < 2:
        offsets = (offsets or [0]) * len(axes)
    ends = [offset + like[index] for index, offset in zip(axes, offsets, strict=True)]
    if any(end > shape[index] for index, end in zip(axes, ends, strict=True)):
        layer.refuse(f"offsets {offsets} and sizes {list(like[axis:])} leave {list(shape[axis:])}")
    return [sliced(layer, axes, offsets, ends)]


def sliced(layer: CaffeLayer, axes: list[int], begins: list[int], ends: list[int]) -> ir.Value:
    """The elements of the first bottom between two bounds of each axis."""
    result = list(layer.shape())
    for axis, begin, end in zip(axes, begins, ends, strict=True):
        result[axis] = end - begin
    inputs = [
        layer.x,
        layer.constant("begins", begins),
        layer.constant("ends", ends),
        layer.constant("axes", axes),
    ]
    return layer.op("Slice", inputs, result)


def shuffle_channel(layer: CaffeLayer) -> list[ir.Value]:
    """ShuffleChannel: channels of g groups in turn."""
    layer.require_bottoms(1)
    layer.require_rank(4)
    shape, group = layer.shape(), layer.param("shuffle_channel_param").integer("group")
    if group < 1 or shape[1] % group:
        layer.refuse(f"{shape[1]} channels in {group} groups")
    grouped = (shape[0], group, shape[1] // group, *shape[2:])
    value = layer.reshaped(layer.x, grouped)
    return [layer.reshaped(_transposed(layer, value, grouped, [0, 2, 1, 3, 4]), shape)]


def pixel_shuffle(layer: CaffeLayer) -> list[ir.Value]:
    """PixelShuffle: channels c*r*r + i*r + j become pixel (i, j) of channel c."""
    layer.require_bottoms(1)
    layer.require_rank(4)
    names = [n for n in ("pixelshuffle_param", "pixel_shuffle_param") if layer.layer.message.has(n)]
    param = layer.param(names[0] if names else "pixelshuffle_param")
    shape, factor = layer.shape(), param.integer("upscale_factor")
    if factor < 1 or shape[1] % factor**2:
        layer.refuse(f"{shape[1]} channels and a factor of {factor}")
    result = (shape[0], shape[1] // factor**2, shape[2] * factor, shape[3] * factor)
    attributes = {"blocksize": factor, "mode": "CRD"}
    return [layer.op("DepthToSpace", [layer.x], result, attributes)]


def _transposed(layer: CaffeLayer, x: ir.Value, shape: Shape, order: list[int]) -> ir.Value:
    if order == sorted(order):
        return x
    return layer.op("Transpose", [x], [shape[axis] for axis in order], {"perm": order})
