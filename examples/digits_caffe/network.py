"""A small network in NumPy: its layers as Caffe computes them, and their gradients.

Blobs are ``[N, C, H, W]``. A layer is a function from its bottoms and weights to its top and a
function for the way back, which returns the gradients of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Arrays = list[np.ndarray]
Back = Callable[[np.ndarray], tuple[Arrays, Arrays]]

MEMORY = 0.95
"""What a running mean keeps of what it was; Caffe's ``moving_average_fraction``."""
EPS = 1e-5


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        name: its name.
        type: its type in Caffe.
        bottoms: blobs that it reads.
        top: the blob that it writes; its bottom where it works in place.
        fields: fields of its parameters in the prototxt.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    top: str
    fields: Mapping[str, object] = field(default_factory=dict)


def _conv(name: str, bottom: str, filters: int, kernel: int, **more: object) -> Layer:
    fields = {"num_output": filters, "kernel_size": kernel, "pad": kernel // 2, **more}
    return Layer(name, "Convolution", (bottom,), name, fields)


def _relu(blob: str) -> Layer:
    return Layer(f"relu_{blob}", "ReLU", (blob,), blob)


def _normalised(number: int, bottom: str) -> tuple[Layer, ...]:
    conv = f"conv{number}"
    return (
        _conv(conv, bottom, 16, 3, bias_term="false"),
        Layer(f"bn{number}", "BatchNorm", (conv,), conv, {"use_global_stats": "true"}),
        Layer(f"scale{number}", "Scale", (conv,), conv, {"bias_term": "true"}),
    )


LAYERS = (
    *_normalised(1, "data"),
    _relu("conv1"),
    *_normalised(2, "conv1"),
    Layer("sum", "Eltwise", ("conv1", "conv2"), "sum", {"operation": "SUM"}),
    _relu("sum"),
    Layer("pool1", "Pooling", ("sum",), "pool1", {"pool": "MAX", "kernel_size": 2, "stride": 2}),
    _conv("conv3", "pool1", 16, 3),
    _relu("conv3"),
    _conv("conv4", "pool1", 16, 1),
    _relu("conv4"),
    Layer("concat", "Concat", ("conv3", "conv4"), "concat"),
    Layer("pool2", "Pooling", ("concat",), "pool2", {"pool": "AVE", "kernel_size": 4}),
    Layer("fc", "InnerProduct", ("pool2",), "fc", {"num_output": 10}),
)
"""The network, from ``data`` [N, 1, 8, 8] to ``fc`` [N, 10]."""


def initial(seed: int) -> dict[str, Arrays]:
    """Weights to begin with, as Caffe stores them."""
    draw = np.random.default_rng(seed)
    channels = {"data": 1}
    found: dict[str, Arrays] = {}
    for layer in LAYERS:
        count = sum(channels[name] for name in layer.bottoms)
        if layer.type in {"Convolution", "InnerProduct"}:
            filters, kernel = int(str(layer.fields["num_output"])), layer.fields.get("kernel_size")
            shape = (filters, count) if kernel is None else (filters, count, kernel, kernel)
            weights = draw.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
            found[layer.name] = [weights]
            if layer.fields.get("bias_term") != "false":
                found[layer.name].append(np.zeros(filters))
            count = filters
        elif layer.type == "BatchNorm":
            found[layer.name] = [np.zeros(count), np.zeros(count), np.zeros(1)]
        elif layer.type == "Scale":
            found[layer.name] = [np.ones(count), np.zeros(count)]
        elif layer.type == "Eltwise":
            count = channels[layer.bottoms[0]]
        channels[layer.top] = count
    return found


def forward(
    weights: Mapping[str, Arrays], data: np.ndarray, *, train: bool = False
) -> tuple[dict[str, np.ndarray], list[tuple[Layer, Back]]]:
    """Computes every layer.

    Args:
        weights: blobs by name of the layer; running means are brought up to date by training.
        data: images in 0..1, ``[N, 1, 8, 8]``.
        train: takes mean and variance of a BatchNorm from the data.

    Returns:
        What each layer writes, by the layer's name (and ``data``), and the way back.
    """
    blobs, written, tape = {"data": data}, {"data": data}, []
    for layer in LAYERS:
        bottoms, blob = [blobs[name] for name in layer.bottoms], weights.get(layer.name, [])
        top, back = _computed(layer, bottoms, blob, train=train)
        blobs[layer.top] = written[layer.name] = top
        tape.append((layer, back))
    return written, tape


def backward(tape: list[tuple[Layer, Back]], gradient: np.ndarray) -> dict[str, Arrays]:
    """The gradients of all weights, from that of the last layer."""
    pending = {tape[-1][0].top: gradient}
    found: dict[str, Arrays] = {}
    for layer, back in reversed(tape):
        to_bottoms, to_weights = back(pending.pop(layer.top))
        found[layer.name] = to_weights
        for name, part in zip(layer.bottoms, to_bottoms, strict=True):
            pending[name] = pending[name] + part if name in pending else part
    return found


def _computed(
    layer: Layer, bottoms: Arrays, weights: Arrays, *, train: bool
) -> tuple[np.ndarray, Back]:
    x = bottoms[0]
    if layer.type == "Convolution":
        return _convolution(x, *weights)
    if layer.type == "BatchNorm":
        return _batch_norm(x, weights, train=train)
    if layer.type == "Scale":
        gamma, beta = (item[:, None, None] for item in weights)
        return x * gamma + beta, lambda g: (
            [g * gamma],
            [(g * x).sum((0, 2, 3)), g.sum((0, 2, 3))],
        )
    if layer.type == "ReLU":
        return np.maximum(x, 0), lambda g: ([g * (x > 0)], [])
    if layer.type == "Eltwise":
        return sum(bottoms[1:], x), lambda g: ([g] * len(bottoms), [])
    if layer.type == "Concat":
        ends = np.cumsum([item.shape[1] for item in bottoms])[:-1]
        return np.concatenate(bottoms, 1), lambda g: (np.split(g, ends, 1), [])
    if layer.type == "Pooling":
        return _pooling(x, str(layer.fields["pool"]), int(str(layer.fields["kernel_size"])))
    flat, (matrix, bias) = x.reshape(len(x), -1), weights
    return flat @ matrix.T + bias, lambda g: (
        [(g @ matrix).reshape(x.shape)],
        [g.T @ flat, g.sum(0)],
    )


def _convolution(
    x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None = None
) -> tuple[np.ndarray, Back]:
    filters, kernel = weights.shape[0], weights.shape[-1]
    columns, matrix = _columns(x, kernel), weights.reshape(filters, -1)
    size = (len(x), *x.shape[2:], filters)
    y = (columns @ matrix.T).reshape(size).transpose(0, 3, 1, 2)

    def back(g: np.ndarray) -> tuple[Arrays, Arrays]:
        rows = g.transpose(0, 2, 3, 1).reshape(-1, filters)
        turned = weights[:, :, ::-1, ::-1].transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
        to_x = (_columns(g, kernel) @ turned.T).reshape(len(x), *x.shape[2:], x.shape[1])
        to_weights = [(rows.T @ columns).reshape(weights.shape)]
        return [to_x.transpose(0, 3, 1, 2)], [*to_weights, *([rows.sum(0)] * (bias is not None))]

    return y if bias is None else y + bias[:, None, None], back


def _columns(x: np.ndarray, kernel: int) -> np.ndarray:
    """The windows around all pixels as rows of a matrix."""
    pad = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * kernel**2)


def _batch_norm(x: np.ndarray, stored: Arrays, *, train: bool) -> tuple[np.ndarray, Back]:
    """Caffe stores sums of means and variances, and by what they are to be divided."""
    axes, count = (0, 2, 3), x.size // x.shape[1]
    if train:
        mean, variance = x.mean(axes), x.var(axes)
        for blob, seen in zip(stored, (mean, variance * count / (count - 1), 1.0), strict=True):
            blob[:] = blob * MEMORY + seen
    else:
        mean, variance = (item / (stored[2][0] or 1) for item in stored[:2])
    deviation = np.sqrt(variance + EPS)[:, None, None]
    y = (x - mean[:, None, None]) / deviation

    def back(g: np.ndarray) -> tuple[Arrays, Arrays]:
        centred = g - g.mean(axes, keepdims=True) - y * (g * y).mean(axes, keepdims=True)
        return [centred / deviation], [np.zeros_like(item) for item in stored]

    return y, back


def _pooling(x: np.ndarray, pool: str, kernel: int) -> tuple[np.ndarray, Back]:
    """Windows that do not overlap and fill the map."""
    n, c, h, w = x.shape
    tiles = x.reshape(n, c, h // kernel, kernel, w // kernel, kernel)
    if pool == "AVE":
        share = np.full(tiles.shape, 1 / kernel**2)
        y = tiles.mean((3, 5))
    else:
        y = tiles.max((3, 5))
        share = tiles == y[:, :, :, None, :, None]
        share = share / share.sum((3, 5), keepdims=True)
    return y, lambda g: ([(share * g[:, :, :, None, :, None]).reshape(x.shape)], [])
