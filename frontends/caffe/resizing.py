"""Layers of forks that change the size of maps: Interp, Upsample, MaxUnPool and their like."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.caffe.arranging import sliced
from dlaconv.frontends.caffe.building import CaffeLayer
from dlaconv.frontends.caffe.message import Message


def interp(layer: CaffeLayer) -> list[ir.Value]:
    """Interp: bilinear with aligned corners, after cutting off the border that pads name."""
    layer.require_bottoms(1, 2)
    layer.require_rank(4)
    param, shape = layer.param("interp_param"), layer.shape()
    begin, end = param.integer("pad_beg"), param.integer("pad_end")
    if begin > 0 or end > 0:
        layer.refuse(f"pad_beg {begin}, pad_end {end}: Interp cuts off only, they are 0 or less")
    size = [shape[axis] + begin + end for axis in (2, 3)]
    if min(size) < 1:
        layer.refuse(f"pad_beg {begin} and pad_end {end} leave {size}")
    target = _like_second(layer, param) if len(layer.bottoms) == 2 else _target(layer, param, size)
    value = layer.x
    if begin or end:
        ends = [shape[axis] + end for axis in (2, 3)]
        value = sliced(layer, [2, 3], [-begin, -begin], ends)
    if size == target:
        return [value]
    return [_bilinear(layer, value, target, "align_corners")]


def _like_second(layer: CaffeLayer, param: Message) -> list[int]:
    """The size of a second map, which is not read but for that."""
    layer.require_rank(4, 1)
    sizes = [name for name in param.names() if not name.startswith("pad_")]
    if sizes or layer.layer.type != "Interp":
        layer.no_form(f"{layer.layer.type} of two bottoms, of which forks disagree")
    return list(layer.shape(1)[2:])


def _target(layer: CaffeLayer, param: Message, size: list[int]) -> list[int]:
    """The size of the result; a single factor goes before height and width, as in DeepLab."""
    factors = [name for name in ("shrink_factor", "zoom_factor") if param.has(name)]
    if len(factors) != 1 and param.has("height") and param.has("width"):
        return [param.integer("height"), param.integer("width")]
    shrink, zoom = param.integer("shrink_factor"), param.integer("zoom_factor")
    if shrink < 1 or zoom < 1:
        layer.refuse(f"shrink_factor {shrink}, zoom_factor {zoom}")
    if not factors:
        layer.refuse("neither height and width nor a factor is given")
    smaller = [(extent - 1) // shrink + 1 for extent in size]
    return [extent + (extent - 1) * (zoom - 1) for extent in smaller]


def upsample(layer: CaffeLayer) -> list[ir.Value]:
    """Upsample with one bottom: each pixel becomes scale by scale of them."""
    param = layer.param("upsample_param")
    if len(layer.bottoms) == 2:
        layer.no_form(
            "SegNet's unpooling by the mask of a pool: how it fits sizes differs between forks",
            remedy="train with an Upsample of one bottom, or with Deconvolution",
        )
    layer.require_bottoms(1)
    layer.require_rank(4)
    other = [name for name in param.names() if name not in {"scale", "dims_num"}]
    if other or param.integer("dims_num") != 4:
        words = ", ".join(other) or f"dims_num {param.integer('dims_num')}"
        layer.no_form(f"an Upsample with {words}, of which forks disagree")
    if not param.has("scale"):
        layer.no_form(
            "an Upsample without scale, which is 1 in some forks and 2 in others",
            remedy="write the scale that the network was trained with",
        )
    shape, scale = layer.shape(), param.integer("scale")
    if scale < 1:
        layer.refuse(f"scale {scale}")
    scales = layer.constant("scales", [1.0, 1.0, float(scale), float(scale)])
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    result = (*shape[:2], shape[2] * scale, shape[3] * scale)
    return [layer.op("Resize", [layer.x, None, scales], result, attributes)]


def bilinear_interpolate(layer: CaffeLayer) -> list[ir.Value]:
    """BilinearInterpolate: bilinear, with aligned corners or centres of pixels."""
    layer.require_bottoms(1)
    layer.require_rank(4)
    param, shape = layer.param("bilinear_interpolate_param"), layer.shape()
    sized, scaled = param.has("dst_h") or param.has("dst_w"), param.has("scale_factor")
    if sized == scaled:
        layer.refuse("either dst_h and dst_w or scale_factor says how large the result is")
    if scaled:
        factor = np.float32(param.number("scale_factor"))
        target = [int(np.float32(size) * factor) for size in shape[2:]]
    else:
        target = [
            param.integer(name) if param.has(name) else size
            for name, size in zip(("dst_h", "dst_w"), shape[2:], strict=True)
        ]
    corners = param.flag("align_corners")
    if min(shape[2:]) < 2 or min(target) < (2 if corners else 1):
        layer.no_form(f"{list(shape[2:])} to {target}: it interpolates between two elements")
    kind = "align_corners" if corners else "half_pixel"
    return [_bilinear(layer, layer.x, target, kind)]


def max_unpool(layer: CaffeLayer) -> list[ir.Value]:
    """MaxUnPool: each element goes where the mask of a pool says, all else is zero."""
    layer.require_bottoms(2)
    layer.require_rank(4)
    param, shape = layer.param("max_unpool_param"), layer.shape()
    if layer.shape(1) != shape:
        layer.refuse(f"a mask of shape {list(layer.shape(1))} for a map of {list(shape)}")
    if not (param.has("dst_h") and param.has("dst_w")):
        layer.refuse("dst_h and dst_w are both needed")
    size = (param.integer("dst_h"), param.integer("dst_w"))
    result, plane = (*shape[:2], *size), (*shape[:2], math.prod(size))
    layer.require_size(result)
    flat = (*shape[:2], math.prod(shape[2:]))
    places = layer.op("Cast", [layer.bottoms[1]], shape, {"to": 7}, ir.DataType.INT64)
    places = layer.op(
        "Reshape", [places, layer.constant("flat", flat)], flat, dtype=ir.DataType.INT64
    )
    values = layer.reshaped(layer.x, flat)
    zeros = layer.op("Expand", [layer.constant("zero", 0.0), layer.constant("plane", plane)], plane)
    filled = layer.op("ScatterElements", [zeros, places, values], plane, {"axis": 2})
    return [layer.reshaped(filled, result)]


def _bilinear(layer: CaffeLayer, value: ir.Value, target: list[int], kind: str) -> ir.Value:
    shape = (*layer.shape()[:2], *target)
    attributes = {"mode": "linear", "coordinate_transformation_mode": kind}
    return layer.op(
        "Resize", [value, None, None, layer.constant("sizes", shape)], shape, attributes
    )
