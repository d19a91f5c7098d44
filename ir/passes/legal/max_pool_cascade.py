"""PL-1, PL-3: max pools with windows that the hardware does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir.graph import is_op
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import oversized, shape, subsampled, swapped
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.neutral_border import neutral_border
from dlaconv.ir.passes.legal.pool_cascades import Axis, Cascade, Stage, shortest_cascade
from dlaconv.ir.passes.legal.pool_windows import border_of, global_window, indices_read, plain_pool
from dlaconv.ir.passes.windows import Window
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target

_HEIGHT, _WIDTH = 2, 3


@legalisation("MaxPool", "GlobalMaxPool", rules=("PL-1", "PL-3", "PL-4"))
def max_pool_cascade(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A max pool with a large window or stride becomes several small ones, one after another.

    Identity: The maximum of maxima is the maximum of everything, and is not rounded. Windows
    k1, k2 with strides s1, s2 make one of k1 + (k2 - 1) s1 with stride s1 s2: 2x2 stride 2 twice
    is 4x4 stride 4, 3x3 stride 1 twice is 5x5 stride 1. A window over the whole map may be made of
    any that cover it.

    Conditions: Padding at the top and left is brought by convolutions as in max_pool_padding. What
    is left of the stride is taken by identity convolutions that skip rows and columns. A window
    with unequal sides works along one axis while the other is one element high, with its rows as
    channels; the hardware must be able to store as many.

    Cost: None for pools; one multiplication per element of a map that is padded, or of which rows
    and columns are skipped, times the channels if it is smaller than depth-wise convolutions need.
    """
    window = global_window(node) if is_op(node, "GlobalMaxPool") else plain_pool(node)
    if window is None or len(window.size) > 2 or _legal(node, window, context.target):
        return None
    if indices_read(node):
        return Blocked("the positions of the maxima are read, which the hardware does not compute")
    sides = zip(window.size, window.pads, window.pads[len(window.size) :], strict=False)
    size = [extent + begin + end for extent, begin, end in sides]
    if max(size) > context.target.max_pool.map_size[1]:
        return Blocked(f"a map of {_by(size)} is larger than the hardware pools")
    builder = Builder(node)
    line = len(window.size) == 1  # the hardware has maps, not lines
    x = builder.reshape(builder.x, _one_row(shape(builder.x))) if line else builder.x
    window = _as_row(window) if line else window
    words = _cascade(builder, context, x, window)
    if isinstance(words, Blocked):
        return words
    result = shape(node.outputs[0])
    if line or not builder.nodes:
        builder.reshape(builder.nodes[-1].outputs[0] if builder.nodes else x, result)
    detail = f"{_by(window.kernel)} with stride {_by(window.strides)} as "
    return builder.plan(detail + (", ".join(words) or "a copy"))


def _cascade(
    builder: Builder, context: Context, x: ir.Value, window: Window
) -> list[str] | Blocked:
    """Adds all nodes; returns what they are, in words."""
    along = [_along(window, index) for index in range(2)]
    whole = [axis.whole for axis, _ in along] * 2  # such a window needs no padding
    padded = border_of(replace(window, strides=tuple(axis.stride for axis, _ in along)))
    border = [0 if needless else pad for needless, pad in zip(whole, padded, strict=True)]
    bordered = neutral_border(builder, context, x, border)
    if isinstance(bordered, Blocked):
        return bordered
    axes, counts = tuple(axis for axis, _ in along), [count for _, count in along]
    target = context.target
    cascade = shortest_cascade(axes, target.max_pool_kernels, target.max_pool.strides)
    if cascade is not None:
        pooled, left = _pools(builder, bordered, cascade, counts), cascade.left
        words = [_stage(stage) for stage in cascade.stages]
    else:
        lines = _line_by_line(builder, context, bordered, axes, counts)
        if isinstance(lines, Blocked):
            return lines
        pooled, left, words = lines

    def store(value: ir.Value) -> ir.Value:
        return builder.stored_like(value, x)

    thinned = subsampled(builder, context, pooled, left, counts, store)
    if isinstance(thinned, Blocked):
        return thinned
    if thinned is not pooled:
        store(thinned)
        words.append(f"every {_by(left)}th by convolutions")
    return words


def _along(window: Window, index: int) -> tuple[Axis, int]:
    """What the windows cover along one axis, and how many there are."""
    size, kernel, stride = window.size[index], window.kernel[index], window.strides[index]
    begin, end = window.pads[index], window.pads[index + len(window.size)]
    room = size + begin + end - kernel
    if stride <= room:
        return Axis(kernel, stride), room // stride + 1
    if kernel - begin >= size:
        return Axis(size, whole=True), 1
    return Axis(kernel, 1 << room.bit_length()), 1  # any stride beyond the room will do


def _pools(builder: Builder, x: ir.Value, cascade: Cascade, counts: Sequence[int]) -> ir.Value:
    """Adds the pools of a cascade, of which ``counts`` rows and columns are wanted in the end.

    A pool is padded at its end by what the next ones need and it has not got. Windows of nothing
    but padding are left out: the next pool pads instead, with what wins no maximum either.
    """
    wanted = [(count - 1) * stride + 1 for count, stride in zip(counts, cascade.left, strict=True)]
    needs = []
    for stage in reversed(cascade.stages):
        moves = zip(wanted, stage.strides, strict=True)
        wanted = [(count - 1) * stride + stage.kernel for count, stride in moves]
        needs.append(wanted)
    for stage, needed in zip(cascade.stages, reversed(needs), strict=True):
        ends = [
            min(max(need - extent, 0), stage.kernel - 1)
            for need, extent in zip(needed, shape(x)[_HEIGHT:], strict=True)
        ]
        x = builder.max_pool(x, (stage.kernel,) * 2, stage.strides, (0, 0, *ends))
    return x


def _line_by_line(
    builder: Builder, context: Context, x: ir.Value, axes: Sequence[Axis], counts: Sequence[int]
) -> tuple[ir.Value, tuple[int, ...], list[str]] | Blocked:
    """Pools one axis at a time, each while the other is one element high."""
    target, words = context.target, []
    left = [axis.stride for axis in axes]
    for axis in (_WIDTH, _HEIGHT):
        todo, index = axes[axis - _HEIGHT], axis - _HEIGHT
        if todo.done:
            continue
        found = shortest_cascade((todo,), target.max_pool_kernels, target.max_pool.strides)
        if found is None:
            return Blocked(f"the hardware's windows make none of {todo.extent}")
        left[index] = found.left[0]
        lines = swapped(builder, x) if axis == _HEIGHT else x
        samples, channels, height, width = shape(lines)
        row = (samples, channels * height, 1, width)
        if (too_large := oversized(context, row)) is not None:
            return too_large
        square = [Stage(stage.kernel, stage.strides * 2) for stage in found.stages]
        cascade = Cascade(tuple(square), (1, *found.left))
        pooled = _pools(builder, builder.reshape(lines, row), cascade, (1, counts[index]))
        lines = builder.reshape(pooled, (samples, channels, height, shape(pooled)[_WIDTH]))
        x = swapped(builder, lines) if axis == _HEIGHT else lines
        along = "columns" if axis == _WIDTH else "rows"
        words += [f"{_stage(stage)} along {along}" for stage in found.stages]
    return x, tuple(left), words


def _legal(node: ir.Node, window: Window, target: Target) -> bool:
    """True if nothing but padding at the top and left is in the way."""
    limits, kernel = target.max_pool, window.kernel
    return (
        is_op(node, "MaxPool")
        and len(kernel) == 2
        and len(set(kernel)) == 1
        and kernel[0] in target.max_pool_kernels
        and all(stride in limits.strides for stride in window.strides)
        and all(pad <= min(limits.padding[1], kernel[0] - 1) for pad in window.pads)
    )


def _as_row(window: Window) -> Window:
    """A window along a line as one along a map of one row."""
    return Window(
        (1, *window.size),
        (1, *window.kernel),
        (1, *window.strides),
        (1, 1),
        (0, window.pads[0], 0, window.pads[1]),
    )


def _one_row(line: tuple[int, ...]) -> tuple[int, ...]:
    samples, channels, length = line
    return samples, channels, 1, length


def _stage(stage: Stage) -> str:
    return f"{stage.kernel}x{stage.kernel} stride {_by(stage.strides)}"


def _by(extents: Sequence[int]) -> str:
    return "x".join(map(str, extents))
