"""Weights and biases on the grids of CHaiDNN and Ristretto."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer, shape_of
from dlaconv.frontends.caffe.precision import FilterThresholds, MapFormat, Mode, Precision
from dlaconv.frontends.caffe.precision.grids import ROUNDING, Grid
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of
from dlaconv.ir.blocks import row_blocks, tensor_of
from dlaconv.ir.formats import QFormat, integer_range
from dlaconv.ir.quantisation import Quantisation

_BIAS_BITS = 16
_SATURATED = 0.5 + 1e-4
"""Units that rounding alone does not take from a bias."""


def largest_of_filters(constant: ir.Value, outputs: int, groups: int) -> np.ndarray:
    """The largest magnitude of the weights of each output channel, float64 ``[O]``.

    Args:
        constant: the weights.
        outputs: the axis that counts output channels, 0 or 1.
        groups: how many groups share it, see `CaffeLayer.weights`.
    """
    shape = shape_of(constant)
    found = np.zeros((1, shape[0]) if outputs == 0 else (groups, shape[1]))
    for rows, block in row_blocks(tensor_of(constant)):
        magnitudes = np.abs(block)
        if outputs == 0:
            found[0, rows] = magnitudes.reshape(len(block), -1).max(axis=1)
        else:
            group = np.arange(rows.start, rows.stop) // (shape[0] // groups)
            found_here = magnitudes.reshape(*block.shape[:2], -1).max(axis=2)
            np.maximum.at(found, group, found_here)
    return found.reshape(-1)


def thresholds_of(
    layer: CaffeLayer, form: FilterThresholds, constant: ir.Value, outputs: int, groups: int
) -> np.ndarray:
    """The threshold of each output channel as the file has it, float64 ``[O]``.

    Raises:
        RefusalError: if one is zero for weights that are not.
    """
    given = np.array([float(threshold) for threshold in form.thresholds])
    if given.size and (given > 0).all():
        return given
    largest = largest_of_filters(constant, outputs, groups)
    if not np.isfinite(largest).all():
        layer.refuse("weights that are not finite cannot be quantised")
    if not given.size:
        return largest
    wrong = np.flatnonzero((given == 0) & (largest > 0))
    if wrong.size:
        first = int(wrong[0])
        raise layer.refusal(
            "DLA151",
            "zero-threshold",
            f"th_params is zero for {wrong.size} output channels whose weights are not, such as "
            f"{first} with weights up to {largest[first]:.6g}",
            remedy="give each filter a positive threshold; zero is for filters of zeros",
            notes=("CHaiDNN clips to the threshold, so nothing is left of such a filter",),
        )
    return given


def quantised_by_thresholds(
    layer: CaffeLayer,
    constant: ir.Value,
    bits: int,
    thresholds: np.ndarray,
    outputs: int,
    groups: int,
) -> ir.Value:
    """Weights of which the largest integer stands for the threshold of the output channel.

    Args:
        layer: whose they are.
        constant: the weights.
        bits: bits of an integer.
        thresholds: ``[O]``; where one is zero all weights are, so any step will do, as where none
            can be.
        outputs: the axis that counts output channels, 0 or 1.
        groups: how many groups share it.
    """
    top = (1 << (bits - 1)) - 1
    steps = thresholds / top
    usable = (steps >= np.finfo(np.float32).tiny) & (steps <= np.finfo(np.float32).max)
    steps = np.where(usable, steps, steps[usable].max(initial=0) or 1.0)
    shape = shape_of(constant)
    if outputs == 0:
        shaped = steps.reshape(-1, *(1,) * (len(shape) - 1))
    elif groups == 1:
        shaped = steps.reshape(1, -1, *(1,) * (len(shape) - 2))
    else:
        rows = np.repeat(steps.reshape(groups, -1), shape[0] // groups, axis=0)
        shaped = rows.reshape(*rows.shape, *(1,) * (len(shape) - 2))
    made = Quantisation.of(shaped, bits, narrow=True, rounding=ROUNDING)
    return _quantised(layer, constant, made)


def quantised_by_format(layer: CaffeLayer, constant: ir.Value, form: QFormat) -> ir.Value:
    """Weights in one Q format."""
    return _quantised(layer, constant, Grid.of(form).quantisation)


def _quantised(layer: CaffeLayer, constant: ir.Value, made: Quantisation) -> ir.Value:
    stem = f"{layer.layer.name}/weights/quantise"
    return layer.graph.quantised(constant, made, stem, layer.layer)


def quantised_bias(
    layer: CaffeLayer, bias: np.ndarray, form: MapFormat, mode: Mode, unit: float | None = None
) -> np.ndarray:
    """A bias as the layer adds it, in real terms, float32 ``[O]``.

    CHaiDNN rounds it to the format of the layer's result. In DynamicFixed mode its hardware then
    holds it in 16 bits of the accumulator's unit, where it may saturate once more.

    Args:
        layer: whose it is; gets a warning for channels that saturate.
        bias: ``[O]``.
        form: the format to round to.
        mode: whose arithmetic it is.
        unit: see `accumulated_unit`.
    """
    grid = Grid.of(form, narrow=True)
    made = grid.quantisation
    values = bias.astype(np.float32)
    rounded = made.reals(made.integers(values)).astype(np.float64)
    if unit is not None:
        low, high = integer_range(_BIAS_BITS, signed=True)
        rounded = np.clip(rounded, low * unit, high * unit)
    lost = np.abs(values - rounded)
    wide = lost > float(grid.step) * _SATURATED
    if wide.any():
        worst = int(np.argmax(lost))
        held = "the weights" if mode is Mode.RISTRETTO else "the result"
        layer.graph.diagnostics.warning(
            "DLA148",
            "bias-saturates",
            f"the bias of {int(wide.sum())} of {bias.size} channels saturates: {bias[worst]:.6g} "
            f"of channel {worst} becomes {rounded[worst]:.6g}",
            location=layer.layer.location(layer.graph.file),
            help="calibrate the network again, or widen the format",
            notes=(f"{mode} mode has biases in the format of {held}, {grid}",),
        )
    return rounded.astype(np.float32)


def accumulated_unit(layer: CaffeLayer, precision: Precision) -> float | None:
    """The unit in which CHaiDNN's hardware holds a bias; None where it has another way."""
    read, weights = precision.maps_in, precision.weights
    if precision.mode is not Mode.DYNAMIC_FIXED or kind_of(layer.layer) is not Kind.WEIGHTED:
        return None
    if not isinstance(read, QFormat) or not isinstance(weights, QFormat):
        return None
    return float(read.step * weights.step)
