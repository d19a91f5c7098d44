"""PriorBox of SSD: boxes that depend on sizes only, so they are a constant.

For each pixel of the map, boxes around its centre: a square for each ``min_size``, one of the
geometric mean with its ``max_size``, then one for each aspect ratio. The result is
``[1, 2, boxes * 4]``: corners as shares of the image, then variances.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.caffe.building import MOST_CONSTANT, CaffeLayer
from dlaconv.frontends.caffe.message import Message

_SAME_RATIO = 1e-6


def prior_box(layer: CaffeLayer) -> list[ir.Value]:
    """PriorBox of a map (first bottom) on an image (second bottom)."""
    layer.require_bottoms(2)
    layer.require_rank(4)
    layer.require_rank(4, 1)
    param = layer.param("prior_box_param")
    height, width = layer.shape()[2:]
    sizes = _sizes(layer, param)
    if height * width * len(sizes) * 8 > MOST_CONSTANT:
        layer.refuse(f"{len(sizes)} boxes at each of {height}x{width} places")
    image_height, image_width = _image(param, layer.shape(1))
    step_h, step_w = _steps(param, image_height / height, image_width / width)
    offset = param.number("offset")
    x, y = np.meshgrid((np.arange(width) + offset) * step_w, (np.arange(height) + offset) * step_h)
    centres = np.stack([x, y], -1)[:, :, None]
    halves = np.asarray(sizes)[None, None] / 2
    corners = np.concatenate([centres - halves, centres + halves], -1)
    corners /= [image_width, image_height] * 2
    if param.flag("clip"):
        corners = corners.clip(0, 1)
    boxes = corners.reshape(-1)
    variances = np.tile(_variances(layer, param), boxes.size // 4)
    constant = layer.constant("boxes", np.stack([boxes, variances])[None])
    return [layer.op("Identity", [constant], (1, 2, boxes.size))]


def _sizes(layer: CaffeLayer, param: Message) -> list[tuple[float, float]]:
    """Width and height of the boxes at one place."""
    smallest, largest = param.numbers("min_size"), param.numbers("max_size")
    if not smallest or min(smallest) <= 0:
        layer.refuse(f"min_size {smallest}")
    if largest and len(largest) != len(smallest):
        layer.refuse(f"{len(largest)} max_size for {len(smallest)} min_size")
    ratios = _ratios(layer, param)
    if len(smallest) * (len(ratios) + 2) > MOST_CONSTANT:
        layer.refuse(f"{len(smallest)} sizes of {len(ratios)} ratios")
    found = []
    for index, size in enumerate(smallest):
        found.append((size, size))
        if largest:
            if largest[index] <= size:
                layer.refuse(f"max_size {largest[index]:g} is not above min_size {size:g}")
            mean = math.sqrt(size * largest[index])
            found.append((mean, mean))
        found += [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios]
    return found


def _ratios(layer: CaffeLayer, param: Message) -> list[float]:
    """The aspect ratios besides 1, each once, and turned round with ``flip``."""
    ratios = [1.0]
    given = param.numbers("aspect_ratio")
    if len(given) > 1000 or any(not ratio > 0 for ratio in given):
        layer.refuse("aspect_ratio of zero or less, or more than 1000 of them")
    for ratio in given:
        if any(abs(ratio - known) < _SAME_RATIO for known in ratios):
            continue
        ratios.append(ratio)
        if param.flag("flip"):
            ratios.append(1 / ratio)
    return ratios[1:]


def _image(param: Message, shape: tuple[int, ...]) -> tuple[int, int]:
    if param.has("img_size"):
        return param.integer("img_size"), param.integer("img_size")
    if param.has("img_h") and param.has("img_w"):
        return param.integer("img_h"), param.integer("img_w")
    return shape[2], shape[3]


def _steps(param: Message, height: float, width: float) -> tuple[float, float]:
    if param.number("step"):
        return param.number("step"), param.number("step")
    if param.number("step_h") and param.number("step_w"):
        return param.number("step_h"), param.number("step_w")
    return height, width


def _variances(layer: CaffeLayer, param: Message) -> list[float]:
    found = param.numbers("variance") or [0.1]
    if len(found) not in {1, 4}:
        layer.refuse(f"{len(found)} variances; there is one, or one for each of 4 corners")
    return found * (4 // len(found))
