"""Pools and sums in the engine."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.engine.builder import Builder, Signal
from dlaconv.backends.access.engine.linear import Kernel, exact_sum
from dlaconv.backends.access.engine.precision import SINGLE, Factors
from dlaconv.backends.access.engine.requantise import Accumulator
from dlaconv.backends.access.semantics.windows import reduced_axes, window_of
from dlaconv.ir.layers import Layer, Weights

_EXACT = 1 << SINGLE


def average_pool(build: Builder, layer: Layer, x: Signal) -> Accumulator:
    """AveragePool: sums by a depth-wise convolution with ones, divided per window."""
    window = window_of(layer)
    channels = layer.inputs[0].shape[1]
    include = bool(layer.node.attributes.get_int("count_include_pad", 0))
    counts = window.counts(layer.inputs[0].shape[2:], include_pad=include)
    if (counts == counts.flat[0]).all():
        counts = counts.reshape(-1)[:1]
    ones = Weights(
        ir.Tensor(np.ones((channels, 1, *window.kernel), np.int8)), np.ones(channels), None
    )
    kernel = Kernel(ones, np.zeros(channels, np.int64), window, channels)
    divisors, which = np.unique(counts, return_inverse=True)
    worth = tuple(layer.multipliers[0] / int(divisor) for divisor in divisors)
    return exact_sum(build, layer, x, kernel, Factors(worth, which.reshape(counts.shape)))


def global_average_pool(build: Builder, layer: Layer, x: Signal) -> Accumulator:
    """GlobalAveragePool: the sum of each channel, divided by its number of positions."""
    shape = layer.inputs[0].shape
    axes = tuple(range(2, len(shape)))
    return _reduced(build, layer, x, axes, keep=True, divisor=prod(shape[2:]))


def reduce_sum(build: Builder, layer: Layer, x: Signal) -> Accumulator:
    """ReduceSum: the sum over its axes."""
    axes = reduced_axes(layer.node, len(layer.inputs[0].shape))
    keep = bool(layer.node.attributes.get_int("keepdims", 1))
    return _reduced(build, layer, x, axes, keep=keep, divisor=1)


def max_pool(build: Builder, layer: Layer, x: Signal) -> Signal:
    """MaxPool; onnxruntime pads with minus infinity, which no window shows unless it is empty."""
    window = window_of(layer)
    value = build.op(
        "MaxPool",
        x.value,
        kernel_shape=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
    )
    return Signal(value, x.low, x.high, x.parts, x.exact)


def _reduced(
    build: Builder, layer: Layer, x: Signal, axes: tuple[int, ...], *, keep: bool, divisor: int
) -> Accumulator:
    shape = layer.inputs[0].shape
    bound = prod(shape[axis] for axis in axes) * x.magnitude
    double = bound > _EXACT
    value = build.to_double(x.value) if double else x.value
    if axes:
        which = build.tensor(np.array(axes, np.int64))
        value = build.op("ReduceSum", value, which, keepdims=int(keep))
    return Accumulator(
        value,
        np.array(bound, dtype=object),
        Factors.one(layer.multipliers[0] / (divisor * x.parts)),
        x.parts,
        double=double,
        exact=x.exact,
    )
