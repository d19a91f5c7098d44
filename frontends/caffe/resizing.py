"""Layers of forks that enlarge maps: Interp and Upsample."""

from __future__ import annotations

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
    sizes = layer.constant("sizes", [*shape[:2], *target])
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return [layer.op("Resize", [value, None, None, sizes], (*shape[:2], *target), attributes)]


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
    other = [name for name in param.names() if name != "scale"]
    if other:
        layer.no_form(f"an Upsample with {', '.join(other)}, of which forks disagree")
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
