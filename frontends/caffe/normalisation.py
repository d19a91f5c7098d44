"""Layers that normalise: BatchNorm, LRN, MVN and the Normalize of SSD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer, Shape
from dlaconv.frontends.caffe.windows import MOST


def batch_norm(layer: CaffeLayer) -> list[ir.Value]:
    """BatchNorm: (x - mean) / sqrt(variance + eps), without a scale of its own.

    The stored statistics are sums: mean and variance are blobs 0 and 1 times 1 / blob 2, or zero
    if blob 2 is zero, as in a network that was never trained.
    """
    layer.require_bottoms(1)
    param, shape = layer.param("batch_norm_param"), layer.shape()
    require_plain(layer)
    if param.has("use_global_stats") and not param.flag("use_global_stats"):
        return [_standardised(layer, (0, *range(2, len(shape))), param.number("eps"))]
    channels = shape[1] if len(shape) > 1 else 1
    mean, variance, eps = statistics(layer, channels)
    if len(shape) < 2:
        layer.no_form(f"a BatchNorm of shape {list(shape)}")
    parameters = [
        layer.constant("scale", np.ones(channels, np.float32)),
        layer.constant("bias", np.zeros(channels, np.float32)),
        layer.constant("mean", mean),
        layer.constant("variance", variance),
    ]
    return [
        layer.op("BatchNormalization", [layer.x, *parameters], shape, {"epsilon": eps}),
    ]


def require_plain(layer: CaffeLayer) -> None:
    """Sees to it that a BatchNorm has statistics and nothing else."""
    if layer.param("batch_norm_param").flag("scale_bias") or layer.blob_count() > 3:
        layer.no_form(
            "a BatchNorm with a scale and a bias of its own, whose order of blobs differs between "
            "versions of NVIDIA's Caffe",
            remedy="save it as BatchNorm and Scale",
        )


def statistics(layer: CaffeLayer, channels: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and variance of a BatchNorm, float32 ``[C]``, and what is added to the variance."""
    mean = layer.blob(0, (channels,), "mean")
    variance = layer.blob(1, (channels,), "variance")
    total = float(layer.blob(2, (1,), "scale factor")[0])
    factor = np.float32(0 if total == 0 else 1 / total)
    return mean * factor, variance * factor, layer.param("batch_norm_param").number("eps")


def lrn(layer: CaffeLayer) -> list[ir.Value]:
    """LRN: x / (k + alpha / n * sum of squares) ** beta, over n channels or an n by n window.

    Within a channel Caffe takes 1 for k, and counts padding in its windows.
    """
    layer.require_bottoms(1)
    layer.require_rank(4)
    param, shape = layer.param("lrn_param"), layer.shape()
    size, alpha, beta = param.integer("local_size"), param.number("alpha"), param.number("beta")
    if size > MOST:
        layer.refuse(f"local_size {size}: dlaconv takes up to {MOST}")
    if size % 2 == 0:
        layer.refuse(f"local_size {size}: Caffe takes odd sizes only")
    if param.text("norm_region") == "ACROSS_CHANNELS":
        attributes = {"size": size, "alpha": alpha, "beta": beta, "bias": param.number("k")}
        return [layer.op("LRN", [layer.x], shape, attributes)]
    squares = layer.op("Mul", [layer.x, layer.x], shape)
    window = {
        "kernel_shape": [size, size],
        "strides": [1, 1],
        "pads": [size // 2] * 4,
        "count_include_pad": 1,
    }
    mean = layer.op("AveragePool", [squares], shape, window)
    mean = layer.op("Mul", [mean, layer.constant("alpha", alpha)], shape)
    mean = layer.op("Add", [mean, layer.constant("k", 1.0)], shape)
    divisor = layer.op("Pow", [mean, layer.constant("beta", beta)], shape)
    return [layer.op("Div", [layer.x, divisor], shape)]


def mvn(layer: CaffeLayer) -> list[ir.Value]:
    """MVN: mean 0, and deviation 1 unless asked otherwise, for each image or each channel of it.

    eps is added to the deviation, not to the variance.
    """
    layer.require_bottoms(1)
    param, shape = layer.param("mvn_param"), layer.shape()
    layer.require_rank(4)
    axes = (1, 2, 3) if param.flag("across_channels") else (2, 3)
    centred = _centred(layer, axes)
    if not param.flag("normalize_variance"):
        return [centred]
    reduced = _reduced(shape, axes)
    deviation = layer.op("Sqrt", [_mean_square(layer, centred, axes)], reduced)
    eps = layer.constant("eps", param.number("eps"))
    return [layer.op("Div", [centred, layer.op("Add", [deviation, eps], reduced)], shape)]


def normalize(layer: CaffeLayer) -> list[ir.Value]:
    """Normalize: x / sqrt(sum of squares + eps) * scale, over channels or the whole image."""
    layer.require_bottoms(1)
    layer.require_rank(4)
    param, shape = layer.param("norm_param"), layer.shape()
    axes = (1, 2, 3) if param.flag("across_spatial") else (1,)
    reduced = _reduced(shape, axes)
    squares = layer.op("Mul", [layer.x, layer.x], shape)
    total = _over(layer, "ReduceSum", squares, axes)
    total = layer.op("Add", [total, layer.constant("eps", param.number("eps"))], reduced)
    result = layer.op("Div", [layer.x, layer.op("Sqrt", [total], reduced)], shape)
    shared = param.flag("channel_shared")
    scale = layer.blob(0, () if shared else (shape[1],), "scale").reshape(-1, 1, 1)
    return [layer.op("Mul", [result, layer.constant("scale", scale)], shape)]


def _standardised(layer: CaffeLayer, axes: Sequence[int], eps: float) -> ir.Value:
    """Normalised by the statistics of the data itself, with eps in the variance."""
    centred = _centred(layer, axes)
    reduced = _reduced(layer.shape(), axes)
    variance = _mean_square(layer, centred, axes)
    variance = layer.op("Add", [variance, layer.constant("eps", eps)], reduced)
    return layer.op("Div", [centred, layer.op("Sqrt", [variance], reduced)], layer.shape())


def _centred(layer: CaffeLayer, axes: Sequence[int]) -> ir.Value:
    mean = _over(layer, "ReduceMean", layer.x, axes)
    return layer.op("Sub", [layer.x, mean], layer.shape())


def _mean_square(layer: CaffeLayer, value: ir.Value, axes: Sequence[int]) -> ir.Value:
    return _over(layer, "ReduceMean", layer.op("Mul", [value, value], layer.shape()), axes)


def _over(layer: CaffeLayer, op_type: str, value: ir.Value, axes: Sequence[int]) -> ir.Value:
    inputs = [value, layer.constant("axes", list(axes))]
    return layer.op(op_type, inputs, _reduced(layer.shape(), axes), {"keepdims": 1})


def _reduced(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(1 if index in axes else size for index, size in enumerate(shape))
