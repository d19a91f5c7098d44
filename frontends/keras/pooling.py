"""Pools: padding never wins a maximum and never counts in a mean."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras.building import KerasLayer, shape_of
from dlaconv.frontends.keras.windows import axes_of, map_shape, pads, space


def maximum(layer: KerasLayer) -> list[ir.Value]:
    """MaxPooling1D, MaxPooling2D and MaxPooling3D."""
    return _pool(layer, "MaxPool")


def average(layer: KerasLayer) -> list[ir.Value]:
    """AveragePooling1D, AveragePooling2D and AveragePooling3D."""
    return _pool(layer, "AveragePool")


def global_maximum(layer: KerasLayer) -> list[ir.Value]:
    """GlobalMaxPooling1D, GlobalMaxPooling2D and GlobalMaxPooling3D."""
    return _global(layer, "ReduceMax")


def global_average(layer: KerasLayer) -> list[ir.Value]:
    """GlobalAveragePooling1D, GlobalAveragePooling2D and GlobalAveragePooling3D."""
    return _global(layer, "ReduceMean")


def _pool(layer: KerasLayer, op_type: str) -> list[ir.Value]:
    map_shape(layer)
    x = layer.channels_first(layer.x)
    shape = shape_of(x)
    axes = len(shape) - 2
    kernel = layer.integers("pool_size", axes)
    strides = layer.given("strides")
    stride = kernel if strides is None else layer.integers("strides", axes)
    windows = axes_of(layer, shape[2:], kernel, stride, (1,) * axes)
    attributes = {"kernel_shape": list(kernel), "strides": list(stride), "pads": pads(windows)}
    result = (*shape[:2], *(axis.count for axis in windows))
    return [layer.own_order(layer.op(op_type, [x], result, attributes))]


def _global(layer: KerasLayer, op_type: str) -> list[ir.Value]:
    shape, keep = map_shape(layer), layer.flag("keepdims", False)
    axes = space(layer, len(shape))
    left = [1 if axis in axes else size for axis, size in enumerate(shape)]
    if not keep:
        left = [size for axis, size in enumerate(shape) if axis not in axes]
    given = layer.constant("axes", np.asarray(axes, np.int64))
    return [layer.op(op_type, [layer.x, given], left, {"keepdims": int(keep)})]
