"""GR-3: nearest-neighbour enlargement, which the hardware has no operator for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    ints_attribute,
    is_optional_input_absent,
    shape_of,
    sole_consumer,
)
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.phases import depth_to_space
from dlaconv.ir.passes.legal.picking import Picks, pick
from dlaconv.ir.pipeline import Context

_COORDINATES: dict[str, Callable[[np.ndarray, float, int, int], np.ndarray]] = {
    "half_pixel": lambda at, scale, _, __: (at + 0.5) / scale - 0.5,
    "half_pixel_symmetric": lambda at, scale, _, __: (at + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda at, scale, _, count: (
        (at + 0.5) / scale - 0.5 if count > 1 else 0.0 * at
    ),
    "asymmetric": lambda at, scale, _, __: at / scale,
    "align_corners": lambda at, _, size, count: at * (size - 1) / max(count - 1, 1),
}
"""The place in the source of a position of the result, by factor, size and count of positions."""
_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@legalisation("Resize", rules=("GR-3",))
def resize_nearest(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """Nearest-neighbour enlargement by whole factors becomes a convolution and a move.

    Identity: Every value is shown s x s times. A 1x1 convolution with weights of one makes s x s
    copies of each channel; Reshape, Transpose and Reshape put them side by side. Integers are
    copied as they are.

    Conditions: The mode is nearest, the factors for rows and columns are whole, and positions are
    counted such that each value is repeated evenly. The copies of all channels fit one layer.
    Where the result is rounded, it is rounded in one way with one step.

    Cost: s x s x C^2 multiplications per position of the source.
    """
    x = node.inputs[0]
    shape = shape_of(x) if x is not None else None
    result = shape_of(node.outputs[0])
    if x is None or shape is None or result is None or len(shape) != 4:
        return Blocked("the map has no rows and columns")
    factors = _factors(node, shape, result)
    if isinstance(factors, Blocked):
        return factors
    quantisation = stored_quantisation(x)
    if quantisation is not None and not quantisation.per_tensor:
        return Blocked("the map has one step per channel")
    if (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    copies = factors[0] * factors[1]
    channels = np.repeat(np.arange(shape[1]), copies)
    starts = np.zeros((len(channels), 2), np.int64)
    builder = Builder(node)
    value = pick(builder, x, Picks(channels, starts, (1, 1), (shape[2], shape[3])), context)
    if isinstance(value, Blocked):
        return value
    if not dialect.is_quantize(sole_consumer(node.outputs[0])):
        value = builder.stored_like(value, x)
    depth_to_space(builder, value, factors)
    by = "x".join(map(str, factors))
    return builder.plan(f"nearest enlargement by {by} as a 1x1 convolution that copies and a move")


def _factors(
    node: ir.Node, shape: tuple[int, ...], result: tuple[int, ...]
) -> tuple[int, int] | Blocked:
    """The factors for rows and columns; why a convolution cannot do it otherwise."""
    mode = str(attribute(node, "mode", "nearest"))
    if mode != "nearest":
        return Blocked(f"mode {mode} computes values between those of the map")
    if shape[:2] != result[:2]:
        return Blocked("it changes the number of samples or channels")
    scales = _scales(node, shape, result)
    place = _COORDINATES.get(str(attribute(node, "coordinate_transformation_mode", "half_pixel")))
    nearest = _NEAREST.get(str(attribute(node, "nearest_mode", "round_prefer_floor")))
    if scales is None or place is None or nearest is None:
        return Blocked("it resizes a part of the map, or by factors that are not known")
    factors = []
    for axis, scale in zip((2, 3), scales, strict=True):
        size, count = shape[axis], result[axis]
        if scale != round(scale) or count != size * round(scale):
            return Blocked(f"a factor of {scale:g} is not whole")
        shown = nearest(place(np.arange(count, dtype=np.float64), scale, size, count))
        if not np.array_equal(np.clip(shown, 0, size - 1), np.arange(count) // round(scale)):
            return Blocked("it does not repeat each value evenly")
        factors.append(round(scale))
    return factors[0], factors[1]


def _scales(
    node: ir.Node, shape: tuple[int, ...], result: tuple[int, ...]
) -> tuple[float, float] | None:
    """The factors that rows and columns are resized by; None if they are not known."""
    axes = [axis % 4 for axis in ints_attribute(node, "axes", range(4))]
    if not is_optional_input_absent(node, 2):
        stated = input_array(node, 2)
        if stated is None:
            return None
        if stated.size == len(axes) and np.isfinite(stated).all():
            known = dict(zip(axes, stated.reshape(-1).tolist(), strict=True))
            return float(known.get(2, 1.0)), float(known.get(3, 1.0))
        if stated.size:
            return None
    if str(attribute(node, "keep_aspect_ratio_policy", "stretch")) != "stretch":
        return None
    if 0 in shape or math.prod(result) == 0:
        return None
    return result[2] / shape[2], result[3] / shape[3]
