"""GR-3: cropping, striding, padding and choosing channels, which the hardware has no operators for.

Slice, Pad and Gather with constant parameters, one behind the other, and Concats of such chains
that start at one map, are read as a table: which row, column and channel of the map each position
of the result shows. One convolution does what one table says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    consumers,
    input_array,
    is_op,
    is_optional_input_absent,
    producer,
    shape_of,
    sole_consumer,
)
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.picking import Picks, keeps_zero, pick, windows_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target

_STEPS = ("Slice", "Pad", "Gather")
_LONGEST = 64
"""Operators of one chain that are looked at."""


@dataclass(frozen=True, eq=False)
class _Table:
    """What the positions of a map show of ``source``; -1 where it is zero.

    Attributes:
        source: a map ``[1, C, h, w]``.
        channels: ``[O]``.
        rows: ``[O, H]``.
        columns: ``[O, W]``.
        nodes: the operators that the table stands for.
    """

    source: ir.Value
    channels: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    nodes: tuple[ir.Node, ...] = ()


@dataclass(frozen=True, eq=False)
class _Layer:
    """A table as a convolution: what it picks of ``source``, and its kernel in words."""

    source: ir.Value
    picks: Picks
    kernel: str
    nodes: tuple[ir.Node, ...]


@legalisation("Slice", "Pad", "Gather", "Concat", rules=("GR-3",))
def selection(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """Slices, zero padding and choices of channels become a convolution that picks.

    Identity: If position i of the result shows position o + s i of the source, or zero where there
    is no such position, it is a convolution with stride s whose kernel has a one at tap o, and
    zeros elsewhere. For o < 0 the map is padded with -o zeros. Each output channel has its ones
    where its source channel and its own o say, all zeros for a channel of zeros: so Slices and
    Pads that follow each other are one layer, and so is a Concat of them (the Focus layer of
    YOLO: four strided Slices are a 2x2 convolution of stride 2). The weights are integers 1, and
    the result has the grid of the source: its integers are moved as they are.

    Conditions: The parameters are constants, steps are positive, and padding is zeros. Offset
    plus what is cut off at the end stays below the largest kernel, padding and strides within
    their limits.

    Cost: One multiplication per value and tap where every channel stays and the map is large
    enough for depth-wise layers, else one per value, tap and source channel.
    """
    if is_op(node, "Concat") and not _is_joined_chains(node):
        return None
    if _absorbed(node, context.target):
        return None
    layer = _best(node, context.target)
    if isinstance(layer, Blocked):
        return None if is_op(node, "Concat") else layer
    quantisation = stored_quantisation(layer.source)
    if quantisation is not None and not quantisation.per_tensor:
        return Blocked("the map has one step per channel")
    if not keeps_zero(quantisation):
        return Blocked("the map has no integer for zeros")
    builder = Builder(node)
    value = pick(builder, layer.source, layer.picks, context)
    if isinstance(value, Blocked):
        return value
    if not dialect.is_quantize(sole_consumer(node.outputs[0])):
        builder.stored_like(value, layer.source)
    words = " and ".join(dict.fromkeys(step.op_type for step in layer.nodes))
    strides = "x".join(map(str, layer.picks.strides))
    detail = f"{words} as a {layer.kernel} convolution of stride {strides} that picks"
    return builder.plan(detail)


def _is_joined_chains(concat: ir.Node) -> bool:
    """True for a Concat of channels whose operands are all picked from something."""
    shape = shape_of(concat.outputs[0])
    if shape is None or len(shape) != 4 or int(attribute(concat, "axis", 1)) % 4 != 1:
        return False
    return all(is_op(producer(value), *_STEPS) for value in concat.inputs)


def _absorbed(node: ir.Node, target: Target) -> bool:
    """True if all that read a result do this node's work along with their own.

    A chain is cut into layers from its start, so a reader of the same layer has the work done.
    """
    result = node.outputs[0]
    readers = consumers(result)
    if not readers or result.is_graph_output():
        return False
    for reader in readers:
        joined = is_op(reader, "Concat") and _is_joined_chains(reader)
        layer = _best(reader, target) if joined or is_op(reader, *_STEPS) else Blocked("")
        if isinstance(layer, Blocked) or node not in layer.nodes:
            return False
    return True


def _best(node: ir.Node, target: Target) -> _Layer | Blocked:
    """The layer that ends at ``node``, with as much of what is before it as one layer can do."""
    if is_op(node, "Concat"):
        return _solved(_joined(node, target), target)
    chain = [node]
    while (before := producer(chain[0].inputs[0])) is not None and is_op(before, *_STEPS):
        chain.insert(0, before)
        if len(chain) > _LONGEST:
            return Blocked(f"more than {_LONGEST} operators of this kind follow each other")
    start, outcome = 0, _solved(_read(chain[:1], target), target)
    for end in range(1, len(chain)):
        outcome = _solved(_read(chain[start : end + 1], target), target)
        if isinstance(outcome, Blocked):
            start, outcome = end, _solved(_read(chain[end : end + 1], target), target)
    return outcome


def _solved(table: _Table | Blocked, target: Target) -> _Layer | Blocked:
    if isinstance(table, Blocked):
        return table
    picks = _picks(table)
    windows = picks if isinstance(picks, Blocked) else windows_of(table.source, picks, target)
    if isinstance(windows, Blocked) or isinstance(picks, Blocked):
        return windows if isinstance(windows, Blocked) else Blocked("")
    kernel = "x".join(str(window[0]) for window in windows)
    return _Layer(table.source, picks, kernel, table.nodes)


def _joined(concat: ir.Node, target: Target) -> _Table | Blocked:
    tables = []
    for value in concat.inputs:
        node = producer(value)
        assert node is not None
        layer = _best(node, target)
        table = layer if isinstance(layer, Blocked) else _read(list(layer.nodes), target)
        if isinstance(table, Blocked):
            return table
        tables.append(table)
    first = tables[0]
    if any(table.source is not first.source for table in tables):
        return Blocked("its operands are picked from different maps")
    return _Table(
        first.source,
        np.concatenate([table.channels for table in tables]),
        np.concatenate([table.rows for table in tables]),
        np.concatenate([table.columns for table in tables]),
        (*(node for table in tables for node in table.nodes), concat),
    )


def _read(chain: list[ir.Node], target: Target) -> _Table | Blocked:
    source = chain[0].inputs[0]
    if source is None or source.dtype not in {None, ir.DataType.FLOAT}:
        return Blocked("it takes no map")
    if not _is_map(source, target):
        return Blocked("it takes no map of channels, rows and columns that fits the hardware")
    shape = shape_of(source) or ()
    _, channels, rows, columns = shape
    tables = [
        np.arange(channels),
        np.tile(np.arange(rows), (channels, 1)),
        np.tile(np.arange(columns), (channels, 1)),
    ]
    for node in chain:
        moves = _MOVES[node.op_type](node)
        if isinstance(moves, Blocked):
            return moves
        if not _is_map(node.outputs[0], target):
            return Blocked("it makes no map of channels, rows and columns that fits the hardware")
        for axis, index in moves.items():
            if axis == 0:
                if list(index(np.arange(1))) != [0]:
                    return Blocked("it changes the batch axis")
            elif axis == 1:
                order = index(np.arange(len(tables[0])))
                tables = [np.where(_along(order < 0, t), -1, t[order]) for t in tables]
            else:
                table = tables[axis - 1]
                order = index(np.arange(table.shape[1]))
                tables[axis - 1] = np.where(order < 0, -1, table[:, order])
    return _Table(source, tables[0], tables[1], tables[2], tuple(chain))


def _is_map(value: ir.Value, target: Target) -> bool:
    shape, limits = shape_of(value), target.conv
    if shape is None or len(shape) != 4 or shape[0] != 1 or 0 in shape:
        return False
    return shape[1] <= limits.channels[1] and max(shape[2:]) <= limits.map_size[1]


def _along(mask: np.ndarray, table: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *(1,) * (table.ndim - 1))


class _Cut:
    """What a Slice leaves of an axis."""

    def __init__(self, start: int, end: int, step: int) -> None:
        self.part = slice(start, end, step)

    def __call__(self, order: np.ndarray) -> np.ndarray:
        cut: np.ndarray = order[self.part]
        return cut


class _Padding:
    """An axis with -1 at its ends, or less of it for negative pads."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end

    def __call__(self, order: np.ndarray) -> np.ndarray:
        kept = order[max(0, -self.begin) : len(order) - max(0, -self.end)]
        return np.pad(kept, (max(0, self.begin), max(0, self.end)), constant_values=-1)


class _Taken:
    """Entries of an axis by number, negative ones counted from its end."""

    def __init__(self, indices: np.ndarray) -> None:
        self.indices = indices

    def __call__(self, order: np.ndarray) -> np.ndarray:
        taken: np.ndarray = order[self.indices]
        return taken


_Moves = dict[int, "_Cut | _Padding | _Taken"]


def _slice(node: ir.Node) -> _Moves | Blocked:
    starts, ends = input_array(node, 1), input_array(node, 2)
    axes, steps = _optional(node, 3), _optional(node, 4)
    if starts is None or ends is None or axes is None or steps is None:
        return Blocked("its parameters are not constants")
    axes = axes if axes.size else np.arange(starts.size)
    steps = steps if steps.size else np.ones(starts.size, np.int64)
    parameters = [array.reshape(-1).tolist() for array in (axes, starts, ends, steps)]
    if len({*map(len, parameters)}) > 1 or 0 in parameters[-1]:
        return Blocked("its parameters contradict each other")
    return {axis % 4: _Cut(*rest) for axis, *rest in zip(*parameters, strict=True)}


def _pad(node: ir.Node) -> _Moves | Blocked:
    if attribute(node, "mode", "constant") != "constant":
        return Blocked("it pads with copies of the map")
    fill = _optional(node, 2)
    pads, axes = input_array(node, 1), _optional(node, 3)
    if pads is None or fill is None or axes is None:
        return Blocked("its parameters are not constants")
    if fill.any():
        return Blocked(f"it pads with {fill.reshape(-1)[0]:g}, a convolution with zeros")
    chosen = axes.reshape(-1).tolist() if axes.size else range(4)
    half = pads.reshape(2, -1).tolist()
    return {axis % 4: _Padding(begin, end) for axis, begin, end in zip(chosen, *half, strict=True)}


def _gather(node: ir.Node) -> _Moves | Blocked:
    indices, axis = input_array(node, 1), int(attribute(node, "axis", 0)) % 4
    if indices is None or indices.ndim != 1 or node.inputs[0] is None:
        return Blocked("its indices are not a constant list")
    extent = (shape_of(node.inputs[0]) or (0,) * 4)[axis]
    if (indices < -extent).any() or (indices >= extent).any():
        return Blocked("its indices are outside of the map")
    return {axis: _Taken(indices)}


def _optional(node: ir.Node, index: int) -> np.ndarray | None:
    """A constant input, empty if there is none, None if it is computed."""
    if is_optional_input_absent(node, index):
        return np.zeros(0, np.int64)
    return input_array(node, index)


_MOVES = {"Slice": _slice, "Pad": _pad, "Gather": _gather}


def _picks(table: _Table) -> Picks | Blocked:
    """The table as strides and starts, if its positions are evenly spaced."""
    shape = shape_of(table.source) or ()
    starts, strides = [], []
    shown = table.channels >= 0
    for positions, extent in ((table.rows, shape[2]), (table.columns, shape[3])):
        shown = shown & (positions >= 0).any(axis=1)
        even = _evenly(positions[shown], extent)
        if even is None:
            return Blocked("what it shows is not evenly spaced, from the start to the end")
        first = np.zeros(len(positions), np.int64)
        first[shown] = even[0]
        starts.append(first)
        strides.append(even[1])
    return Picks(
        np.where(shown, table.channels, -1),
        np.stack(starts, axis=1),
        (strides[0], strides[1]),
        (table.rows.shape[1], table.columns.shape[1]),
    )


def _evenly(positions: np.ndarray, extent: int) -> tuple[np.ndarray, int] | None:
    """First positions ``[O]`` and their common distance; None if there is no such thing.

    Args:
        positions: ``[O, n]``, -1 where zeros are shown.
        extent: positions that there are.
    """
    if not len(positions):
        return np.zeros(0, np.int64), 1
    inside = positions >= 0
    pairs = inside[:, 1:] & inside[:, :-1]
    stride = 1
    if pairs.any():
        row, index = np.argwhere(pairs)[0]
        stride = int(positions[row, index + 1] - positions[row, index])
    if stride < 1:
        return None
    index = np.argmax(inside, axis=1)
    first = positions[np.arange(len(positions)), index] - stride * index
    expected = first[:, None] + stride * np.arange(positions.shape[1])
    expected = np.where((expected < 0) | (expected >= extent), -1, expected)
    return (first, stride) if np.array_equal(expected, positions) else None
