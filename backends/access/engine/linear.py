"""Conv, Gemm and MatMul in the engine: exact integer sums on float kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.engine.builder import Builder, Signal
from dlaconv.backends.access.engine.precision import SINGLE, Factors, holds, odd_part
from dlaconv.backends.access.engine.requantise import Accumulator
from dlaconv.backends.access.semantics.problems import beyond_double
from dlaconv.backends.access.semantics.windows import Window, window_of
from dlaconv.ir.layers import Layer, Weights, signed_sums

_EXACT = 1 << SINGLE
"""Up to here float32 holds every integer."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Constant integers that a map is multiplied by.

    Attributes:
        weights: ``[O, I/group, ...]``, or ``[O, K]`` of a fully connected layer.
        bias: int64 ``[O]``, in place of the weights' own.
        window: the window of a convolution, None for a fully connected layer.
        groups: groups of a convolution.
    """

    weights: Weights
    bias: np.ndarray
    window: Window | None = None
    groups: int = 1

    @property
    def channel_shape(self) -> tuple[int, ...]:
        """The shape in which per-channel constants broadcast against the result."""
        return (-1,) if self.window is None else (-1, *(1,) * len(self.window.kernel))

    def emit(self, build: Builder, x: ir.Value, w: ir.Value, bias: np.ndarray) -> ir.Value:
        """One float32 kernel; ``w`` and ``bias`` take the place of the kernel's own."""
        constants = [w, *([build.constant(bias)] if bias.any() else [])]
        if self.window is None:
            return build.op("Gemm", x, *constants, transB=1)
        return build.op(
            "Conv",
            x,
            *constants,
            kernel_shape=self.window.kernel,
            strides=self.window.strides,
            dilations=self.window.dilations,
            pads=self.window.pads,
            group=self.groups,
        )


def weighted_sum(build: Builder, layer: Layer, x: Signal) -> Accumulator:
    """Conv or Gemm with constant weights."""
    weights = layer.weights
    assert weights is not None
    bias = np.zeros(weights.shape[0], np.int64) if weights.bias is None else weights.bias
    window = window_of(layer) if layer.op == "Conv" else None
    groups = layer.node.attributes.get_int("group", 1)
    kernel = Kernel(weights, bias, window, groups)
    different, which = layer.distinct_multipliers
    factors = Factors(different, which.reshape(kernel.channel_shape))
    return exact_sum(build, layer, x, kernel, factors)


def exact_sum(
    build: Builder, layer: Layer, x: Signal, kernel: Kernel, factors: Factors
) -> Accumulator:
    """The exact integer sums of a kernel.

    One float32 kernel where every partial sum stays within 2^24, in any order; else the taps are
    cut into parts for which that holds, which are added in double precision.

    Args:
        build: the graph.
        layer: the layer, for messages.
        x: what it reads.
        kernel: the constants.
        factors: worth of one unit of the sum in units of the output.

    Raises:
        ConversionError: if a single weight is too large for float32.
    """
    kernel = replace(kernel, bias=kernel.bias * x.parts)
    total = _reach(kernel.weights.sums, x) + np.abs(kernel.bias)
    bounds = total.reshape(kernel.channel_shape)
    factors = factors.over(x.parts)
    if not x.exact or total.max(initial=0) <= _EXACT:
        return _one_kernel(build, x, kernel, factors, bounds)
    parts = [
        build.to_double(kernel.emit(build, part, build.weights(w), np.zeros(0)))
        for part, w in _parts(build, layer, x, kernel)
    ]
    value = parts[0]
    for other in parts[1:]:
        value = build.op("Add", value, other)
    if kernel.bias.any():
        offset = kernel.bias.reshape(kernel.channel_shape)
        value = build.op("Add", value, build.constant(offset, double=True))
    return Accumulator(value, bounds, factors, x.parts, double=True, kernels=len(parts))


def matrix_product(build: Builder, layer: Layer, a: Signal, b: Signal) -> Accumulator:
    """MatMul of two maps; in double precision where K |a| |b| can pass 2^24."""
    bound = layer.inputs[0].shape[-1] * a.magnitude * b.magnitude
    double = bound > _EXACT
    operands = [build.to_double(x.value) if double else x.value for x in (a, b)]
    parts = a.parts * b.parts
    return Accumulator(
        build.op("MatMul", *operands),
        np.array(bound, dtype=object),
        Factors.one(layer.multipliers[0] / parts),
        parts,
        double=double,
        exact=a.exact and b.exact,
    )


def _reach(sums: tuple[np.ndarray, np.ndarray], x: Signal) -> np.ndarray:
    """How far sums over taps can go from 0, up or down, whatever their order.

    Args:
        sums: of the positive weights and of the negative ones' magnitudes, per channel.
        x: what is weighted.
    """
    positive, negative = sums
    low, high = min(x.low, 0), max(x.high, 0)
    up, down = high * positive - low * negative, high * negative - low * positive
    return np.asarray(np.maximum(up, down))


def _one_kernel(
    build: Builder, x: Signal, kernel: Kernel, factors: Factors, bounds: np.ndarray
) -> Accumulator:
    """The layer as one kernel; powers of two go into the weights and save the division."""
    plain = kernel.bias.astype(np.float32)
    acc = Accumulator(x.value, bounds, factors, x.parts, exact=x.exact)
    folded = (
        build.folding
        and x.exact
        and factors.which.shape == bounds.shape
        and all(
            odd_part(term.factor.numerator) == odd_part(term.factor.denominator) == 1
            and holds(term.factor, SINGLE)
            # the optimiser may add the 0.5 of a rounding to the bias: leave room for it
            and 2 * term.bound + 2 * max(Fraction(1), 1 / term.factor) <= _EXACT
            for term in acc.terms
        )
    )
    weights = kernel.weights
    if not folded:
        w = build.weights(weights.integers)
        return replace(acc, value=kernel.emit(build, x.value, w, plain))
    scale = factors.floats().astype(np.float32).reshape(-1)
    w = build.weights(weights.integers, scale)
    return replace(acc, value=kernel.emit(build, x.value, w, plain * scale), folded=True)


def _parts(
    build: Builder, layer: Layer, x: Signal, kernel: Kernel
) -> list[tuple[ir.Value, np.ndarray]]:
    """Cuts the sum into parts that float32 adds exactly: (input, weights) of each.

    Input channels are cut where that is possible, which costs no work; the taps of a channel else,
    with zeros in the place of the other parts' weights.
    """
    integers = kernel.weights.integers
    by_channel = integers.reshape(*integers.shape[:2], -1)
    runs = _runs(by_channel, x) if kernel.groups == 1 else None
    if runs is not None:
        return [(_channels(build, x.value, *run), integers[:, slice(*run)]) for run in runs]
    flat = integers.reshape(len(integers), -1, 1)
    runs = _runs(flat, x)
    if runs is None:
        raise beyond_double(layer)
    parts = []
    for start, stop in runs:
        kept = np.zeros_like(flat)
        kept[:, start:stop] = flat[:, start:stop]
        parts.append((x.value, kept.reshape(integers.shape)))
    return parts


def _runs(columns: np.ndarray, x: Signal) -> list[tuple[int, int]] | None:
    """Halves the middle axis of ``[O, n, taps]`` until the sums of each run stay within 2^24.

    Returns:
        (start, stop) pairs, None if one column alone goes further.
    """

    def cut(start: int, stop: int) -> list[tuple[int, int]] | None:
        if _reach(signed_sums(columns[:, start:stop]), x).max() <= _EXACT:
            return [(start, stop)]
        middle = (start + stop) // 2
        if middle == start:
            return None
        left, right = cut(start, middle), cut(middle, stop)
        return None if left is None or right is None else left + right

    return cut(0, columns.shape[1])


def _channels(build: Builder, x: ir.Value, start: int, stop: int) -> ir.Value:
    bounds = (build.tensor(np.array([n], np.int64)) for n in (start, stop, 1))
    return build.op("Slice", x, *bounds)
