"""GR-3: clips by the saturation of the map behind a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir.calibration.bounds import IntervalBounds
from dlaconv.ir.graph import consumers, is_op, producer, shape_of, sole_consumer
from dlaconv.ir.layers import ACTIVATED, TABLES
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import scaled_window
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context
from dlaconv.ir.saturation import Saturation, clip_ends, saturation_of

_PINNED = (*TABLES, "Div", "MatMul")
_MOVES = ("MaxPool", "Reshape", "Transpose")
_IMAGE_RANK = 4


@dataclass(frozen=True)
class _Place:
    """Where a Clip has to be.

    Attributes:
        x: what it reads there.
        moved: operators between there and where it was, first one first.
    """

    x: ir.Value
    moved: list[ir.Node]


@legalisation("Clip", rules=("GR-3",))
def clip_by_saturation(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A Clip, such as ReLU6, is done by the map behind a layer, which saturates at its end.

    Identity: A map of step hi/127 holds 127 units at most, which are hi; below zero a ReLU clips.
    A clip between -c and c is the saturation on both sides with a step of c/127.5, each end half a
    unit beside. Scales are free between layers with weights, so the step can be just that. The
    Clip stays in the graph until maps get their steps; in front of a quantiser of the source it is
    part of that quantiser's range already.

    Conditions: The clip is from zero on, or as far below zero as above, or cannot be reached on the
    other side. It follows a layer, maybe with a pool or a Reshape in between, in front of which it
    moves; elsewhere an identity layer is put before it. The step is not free where graph outputs,
    Tanh, Sigmoid, HardSwish, Div or MatMul read the map: an identity layer copies it for them.

    Cost: The identity layers, one multiplication for each value of the map.
    """
    ends, x = clip_ends(node), node.inputs[0]
    if ends is None or x is None or shape_of(x) is None:
        return Blocked("its ends are no constants")
    low, high = ends
    saturation = _saturation(x, low, high)
    if saturation is None:
        return Blocked(
            f"maps saturate on both sides of zero alike, and a ReLU clips at zero: nothing clips "
            f"at {low:g} and {high:g}"
        )
    place, layer = _place(x), producer(x)
    behind = is_op(layer, *ACTIVATED)
    copied = _needs_copy(node, context)
    if behind and not copied and ends == (saturation.low, saturation.high):
        return None
    builder = Builder(node)
    value: ir.Value | Blocked = place.x if place is not None else x
    if place is None and not behind:
        value = _identity(builder, context, x)
    if isinstance(value, Blocked):
        return value
    low_high = [
        builder.constant(word, np.array(end, np.float32))
        for word, end in (("min", saturation.low), ("max", saturation.high))
    ]
    value = builder.op("Clip", [value, *low_high], shape_of(value) or ())
    for move in place.moved if place is not None else ():
        shape = shape_of(move.outputs[0]) or ()
        value = builder.op(
            move.op_type, [value, *move.inputs[1:]], shape, **dict(move.attributes.items())
        )
    if copied:
        copy = _identity(builder, context, value)
        if isinstance(copy, Blocked):
            return copy
    words = "the map saturates where it clips"
    where = ", behind an identity layer" if place is None and not behind else ""
    before = ", and an identity layer copies it" if copied else ""
    return builder.plan(f"{words}{where}{before}")


def _saturation(x: ir.Value, low: float, high: float) -> Saturation | None:
    """The saturation that does a clip, an end that is never reached being moved."""
    found = saturation_of(low, high)
    if found is not None:
        return found
    least, most = IntervalBounds().of(x)
    if low < 0 <= least:
        return saturation_of(0.0, high)
    if high > most and low < 0:
        return saturation_of(low, -low) if -low >= most else None
    return None


def _place(x: ir.Value) -> _Place | None:
    """The place behind a layer from which only other operators move the clip's operand."""
    moved: list[ir.Node] = []
    value: ir.Value | None = x
    node = producer(value)
    while value is not None and node is not None and is_op(node, *_MOVES):
        if len(value.uses()) > 1 or value.is_graph_output() or len(node.outputs) > 1:
            return None
        moved.insert(0, node)
        value = node.inputs[0]
        node = producer(value)
    if value is None or not moved or not is_op(node, *ACTIVATED):
        return None
    return _Place(value, moved) if sole_consumer(value) is moved[0] else None


def _needs_copy(node: ir.Node, context: Context) -> bool:
    """True where the step of a clip's map is not free."""
    values, pinned = [node.outputs[0]], False
    while values and not pinned:
        value = values.pop()
        readers = consumers(value)
        pinned = (value.is_graph_output() and context.io == "pin") or any(
            is_op(reader, *_PINNED) for reader in readers
        )
        values += [reader.outputs[0] for reader in readers if is_op(reader, *_MOVES)]
    return pinned


def _identity(builder: Builder, context: Context, x: ir.Value) -> ir.Value | Blocked:
    """A layer that copies a map; its result is not rounded yet."""
    shape = shape_of(x) or ()
    if len(shape) == _IMAGE_RANK:
        return scaled_window(builder, context, x, np.ones((1, 1), np.int8))
    if len(shape) != 2 or shape[1] > context.target.fc_channels[1]:
        return Blocked(f"no identity layer is as wide as a map of shape {list(shape)}")
    weights = Weights(np.eye(shape[1], dtype=np.int8), 0, np.ones(shape[1]))
    value = builder.gemm(x, weights)
    layer = producer(value)
    assert layer is not None
    context.gains.add(layer.name or "")
    return value
