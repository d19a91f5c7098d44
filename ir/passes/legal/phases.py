"""Convolutions whose positions are taken in phases: every f-th row is a channel of its own.

A map in f phases shows position f i + a of its source at position i of phase a. What a window with
a stride, an extent or an output density that the hardware lacks does to a map, a smaller window
does to its phases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import producer, shape_of, sole_consumer
from dlaconv.ir.passes.legal.activated import Activated
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan
from dlaconv.ir.passes.legal.picking import Picks, even_strides, keeps_zero, pick
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context

Factors = tuple[int, int]
"""Phases along rows and columns."""


@dataclass(frozen=True)
class PhasedAxis:
    """One axis of a window on phases.

    Attributes:
        inside: phases of the source.
        outside: phases of the result.
        stride: of the window on phases.
        windows: how many there are.
        taps: for each phase of the result and each tap of the old kernel the position that it
            meets, counted from the window's start, and its phase; None where it meets nothing.
        kernel: extent.
        begin: zeros before the map.
        end: zeros behind it.
        cut: positions of the result that are too many.
    """

    inside: int
    outside: int
    stride: int
    windows: int
    taps: tuple[tuple[tuple[int, int] | None, ...], ...]
    kernel: int
    begin: int
    end: int
    cut: int


def phased_axis(
    size: int,
    count: int,
    inside: int,
    outside: int,
    stride: int,
    taps: int,
    meets: Callable[[int, int], int | None],
) -> PhasedAxis:
    """Lays an axis out in phases.

    Args:
        size: extent of the source.
        count: extent of the result.
        inside: phases of the source.
        outside: phases of the result.
        stride: of the window on phases.
        taps: taps of the old kernel.
        meets: the position of the source, relative to ``inside * stride * i``, that tap t meets in
            window ``outside * i + r``, as a function of r and t; None where it meets none.
    """
    met = [[meets(phase, tap) for tap in range(taps)] for phase in range(outside)]
    placed = [[None if at is None else divmod(at, inside) for at in row] for row in met]
    reach = [place[0] for row in placed for place in row if place is not None]
    first, last = min(0, *reach), max(0, *reach)
    windows, coarse = -(-count // outside), -(-size // inside)
    kernel = last - first + 1
    least = (windows - 1) * stride + kernel - coarse + first
    # more positions than windows: zeros at the kernel's end; a single window must stay one where
    # it takes the stride of the other axis
    slack = least + (stride if windows > 1 else 1) - 1
    if slack < 0:
        kernel -= slack
    return PhasedAxis(
        inside,
        outside,
        stride,
        windows,
        tuple(
            tuple(None if place is None else (place[0] - first, place[1]) for place in row)
            for row in placed
        ),
        kernel,
        -first,
        max(least, 0),
        windows * outside - count,
    )


def phased_layer(
    builder: Builder,
    layer: Activated,
    axes: tuple[PhasedAxis, PhasedAxis],
    weights: Weights,
    bias: np.ndarray,
    words: str,
    context: Context,
) -> Plan | Blocked:
    """A layer that works on phases, its activation, and what puts the phases together.

    Args:
        builder: collects the nodes.
        layer: what is replaced.
        axes: rows and columns.
        weights: those of the old layer, dense, ``[O, C, ...]``.
        bias: ``[O]``.
        words: what is replaced.
        context: its target limits the layers.
    """
    inside, outside = (axes[0].inside, axes[1].inside), (axes[0].outside, axes[1].outside)
    outputs, inputs = weights.array.shape[:2]
    channels = max(inputs * inside[0] * inside[1], outputs * outside[0] * outside[1])
    if channels > context.target.conv.channels[1]:
        return Blocked(
            f"in phases it takes {channels} channels, the limit is "
            f"{context.target.conv.channels[1]}"
        )
    source = into_phases(builder, builder.x, inside, context)
    if isinstance(source, Blocked):
        return source
    repeats = outside[0] * outside[1]
    value = builder.conv(
        source[0],
        _phased_weights(weights, axes, source[1], repeats),
        np.repeat(bias, repeats) if bias.any() else None,
        strides=even_strides([(axis.stride, axis.windows) for axis in axes]),
        pads=[axes[0].begin, axes[1].begin, axes[0].end, axes[1].end],
    )
    convolution = producer(value)
    if layer.layer.name in context.gains and convolution is not None:
        builder.gains.append(convolution)
    value = layer.activate(builder, value, np.repeat(np.arange(outputs), repeats))
    cut, following = any(axis.cut for axis in axes), sole_consumer(layer.result)
    rounded = cut and following is not None and dialect.is_quantize(following)
    if rounded and following is not None:
        value = builder.quantised(value, dialect.quantisation_of(following))
    if repeats > 1:
        value = depth_to_space(builder, value, outside)
    if cut:
        shape = shape_of(value) or ()
        size = (shape[2] - axes[0].cut, shape[3] - axes[1].cut)
        kept = pick(builder, value, Picks.all_of(shape[1], (0, 0), size), context)
        if isinstance(kept, Blocked):
            return kept
    detail = f"{words} as {_words(axes, inside, outside)}"
    return replace(builder.plan(detail, behind=layer.activation), rounded=rounded)


def has_whole_blocks(size: int, phases: int) -> bool:
    """True if `into_phases` can do it: what is left once it is halved is moved, not padded."""
    while phases % 2 == 0:
        size, phases = -(-size // 2), phases // 2
    return size % phases == 0


def into_phases(
    builder: Builder, x: ir.Value, factors: Factors, context: Context
) -> tuple[ir.Value, np.ndarray] | Blocked:
    """A map in phases.

    Factors of two are convolutions of stride 2, others Reshape, Transpose and Reshape.

    Returns:
        The map, and channel, row and column phase of the source for each of its channels,
        ``[C, 3]``; on a quantised source its integers.
    """
    shape = shape_of(x)
    if shape is None or len(shape) != 4:
        return Blocked("the map has no rows and columns")
    quantisation = stored_quantisation(x)
    if quantisation is not None and not quantisation.per_tensor and factors != (1, 1):
        return Blocked("the map has one step per channel")
    index = np.stack([np.arange(shape[1]), *np.zeros((2, shape[1]), np.int64)], axis=1)
    value, done = x, [1, 1]
    rest = list(factors)
    while any(factor % 2 == 0 for factor in rest):
        now = (2 - rest[0] % 2, 2 - rest[1] % 2)
        extents = (shape_of(value) or ())[2:]
        if any(e % f for e, f in zip(extents, now, strict=True)) and not keeps_zero(quantisation):
            return Blocked("the map has no integer for the zeros around it")
        phases = Picks.phases(len(index), now, (extents[0], extents[1]))
        picked = pick(builder, value, phases, context)
        if isinstance(picked, Blocked):
            return picked
        value = builder.stored_like(picked, x)
        index = index[phases.channels] + np.pad(phases.starts * done, ((0, 0), (1, 0)))
        done = [d * n for d, n in zip(done, now, strict=True)]
        rest = [r // n for r, n in zip(rest, now, strict=True)]
    if rest != [1, 1]:
        extents = (shape_of(value) or ())[2:]
        if any(extent % factor for extent, factor in zip(extents, rest, strict=True)):
            by = "x".join(map(str, factors))
            return Blocked(f"its map of {shape[2]}x{shape[3]} has no whole blocks of {by}")
        phases = Picks.phases(len(index), (rest[0], rest[1]), (extents[0], extents[1]))
        value = space_to_depth(builder, value, (rest[0], rest[1]))
        index = index[phases.channels] + np.pad(phases.starts * done, ((0, 0), (1, 0)))
    return value, index


def space_to_depth(builder: Builder, x: ir.Value, factors: Factors, order: str = "CRD") -> ir.Value:
    """Whole blocks of positions as channels, by moving; see `Picks.phases` for ``order``."""
    samples, channels, height, width = shape_of(x) or ()
    rows, columns = factors
    size = (height // rows, width // columns)
    blocks = builder.reshape(x, (samples, channels, size[0], rows, size[1], columns))
    perm = (0, 1, 3, 5, 2, 4) if order == "CRD" else (0, 3, 5, 1, 2, 4)
    moved = builder.transpose(blocks, perm)
    return builder.reshape(moved, (samples, channels * rows * columns, *size))


def depth_to_space(builder: Builder, x: ir.Value, factors: Factors, order: str = "CRD") -> ir.Value:
    """Channels as blocks of positions, by moving; see `Picks.phases` for ``order``."""
    samples, channels, height, width = shape_of(x) or ()
    rows, columns = factors
    left = channels // (rows * columns)
    split = (left, rows, columns) if order == "CRD" else (rows, columns, left)
    blocks = builder.reshape(x, (samples, *split, height, width))
    perm = (0, 1, 4, 2, 5, 3) if order == "CRD" else (0, 3, 4, 1, 5, 2)
    moved = builder.transpose(blocks, perm)
    return builder.reshape(moved, (samples, left, height * rows, width * columns))


def _phased_weights(
    weights: Weights, axes: tuple[PhasedAxis, PhasedAxis], index: np.ndarray, repeats: int
) -> Weights:
    outputs = len(weights.array)
    rows, columns = axes
    shape = (outputs, rows.outside, columns.outside, len(index), rows.kernel, columns.kernel)
    array = np.zeros(shape, weights.array.dtype)
    where = {(a, b): np.flatnonzero((index[:, 1] == a) & (index[:, 2] == b)) for _, a, b in index}
    for r, row in enumerate(rows.taps):
        for c, column in enumerate(columns.taps):
            for t, at in enumerate(row):
                for u, across in enumerate(column):
                    if at is None or across is None:
                        continue
                    into = where[at[1], across[1]]
                    taps = weights.array[:, index[into, 0], t, u]
                    array[:, r, c, into, at[0], across[0]] = taps
    steps = weights.steps
    return replace(
        weights,
        array=array.reshape(outputs * repeats, *shape[3:]),
        steps=None if steps is None else np.repeat(steps, repeats),
    )


def _words(axes: tuple[PhasedAxis, PhasedAxis], inside: Factors, outside: Factors) -> str:
    kernel = "x".join(str(axis.kernel) for axis in axes)
    stride = "x".join(str(axis.stride) for axis in axes)
    words = f"a {kernel} convolution of stride {stride}"
    if inside != (1, 1):
        words += f" on {inside[0]}x{inside[1]} phases of the map"
    if outside != (1, 1):
        words += f", the {outside[0]}x{outside[1]} phases of the result put together"
    return words
