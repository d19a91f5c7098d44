"""Recognises activations that are spelled out in simpler operators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    drop_unread,
    input_array,
    is_constant,
    is_op,
    producer,
    replace_node,
    unique_name,
)
from dlaconv.ir.passes.linear_ops import stem
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.saturation import clip_ends

_SAME = 1e-5
"""Relative difference of constants that mean the same; float32 has no sixth."""
_DEEPEST = 8
_CLIPS = ("Clip", "Max", "Min", "Relu")
_FACTORS = ("Div", "Mul")
_RAMPS = (*_CLIPS, *_FACTORS, "Add", "HardSigmoid", "Sub")


@dataclass(frozen=True)
class Ramp:
    """``clip(slope * x + offset, low, high)``.

    Attributes:
        x: the value.
        slope: positive.
        offset: added to slope times x.
        low: least result, maybe minus infinity.
        high: largest result, maybe infinity.
    """

    x: ir.Value
    slope: float = 1.0
    offset: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    def scaled(self, factor: float) -> Ramp:
        """The ramp times a positive factor."""
        return Ramp(
            self.x,
            self.slope * factor,
            self.offset * factor,
            self.low * factor,
            self.high * factor,
        )

    def shifted(self, by: float) -> Ramp:
        """The ramp plus a number."""
        return Ramp(self.x, self.slope, self.offset + by, self.low + by, self.high + by)

    def clipped(self, low: float, high: float) -> Ramp:
        """The ramp between two numbers; of two that contradict each other the larger end counts."""
        ends = [min(max(end, low), high) for end in (self.low, self.high)]
        return Ramp(self.x, self.slope, self.offset, *ends)

    def is_near(self, slope: float, offset: float, low: float, high: float) -> bool:
        """True if it has these constants up to float32's rounding."""
        pairs = zip(
            (self.slope, self.offset, self.low, self.high), (slope, offset, low, high), strict=True
        )
        return all(math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME) for a, b in pairs)


@ir_pass(tolerance=1e-5)
def recognise_activations(model: ir.Model, context: Context) -> None:
    """Gives activations one node each, however the source spells them.

    * ``x * clip(x + 3, 0, 6) / 6`` in any order of factors, its clip being a Clip, a Relu6, a Min
      of a Relu or a HardSigmoid, becomes HardSwish;
    * Min, Max, Clip and Relu of one another and of numbers become one Clip, or one Relu.

    Other readers of what is in between keep it.
    """
    del context
    for node in list(model.graph):
        found = None
        if is_op(node, "Mul", "Div"):
            found = _hard_swish(node)
        elif is_op(node, *_CLIPS):
            found = _clip(node)
        if found is not None:
            _replace(node, found)
    drop_unread(model.graph)


def ramp_of(value: ir.Value, stop: ir.Value | None = None, ops: tuple[str, ...] = _RAMPS) -> Ramp:
    """The ramp that a value is, through factors, offsets and clips by numbers.

    Args:
        value: the value.
        stop: a value behind which not to look.
        ops: operators to look through.
    """
    steps: list[ir.Node] = []
    while value is not stop and len(steps) < _DEEPEST:
        node = producer(value)
        operand = _operand(node) if node is not None and is_op(node, *ops) else None
        if node is None or operand is None:
            break
        steps.append(node)
        value = operand
    ramp = Ramp(value)
    for node in reversed(steps):
        ramp = _applied(node, ramp)
    return ramp


def _operand(node: ir.Node) -> ir.Value | None:
    """What a node makes a ramp of, None if it is none."""
    if is_op(node, "Relu", "HardSigmoid"):
        ok = not is_op(node, "HardSigmoid") or float(attribute(node, "alpha", 0.2)) > 0
        return node.inputs[0] if ok else None
    if is_op(node, "Clip"):
        return node.inputs[0] if clip_ends(node) is not None else None
    if not is_op(node, "Add", "Sub", "Mul", "Div", "Min", "Max") or len(node.inputs) != 2:
        return None
    for index in (0, 1):
        number, other = _number(node, index), node.inputs[1 - index]
        if number is None or not math.isfinite(number) or other is None or is_constant(other):
            continue
        if is_op(node, "Sub", "Div") and index == 0:
            return None
        return None if is_op(node, "Mul", "Div") and number <= 0 else other
    return None


def _applied(node: ir.Node, ramp: Ramp) -> Ramp:
    if is_op(node, "Relu"):
        return ramp.clipped(0.0, math.inf)
    if is_op(node, "HardSigmoid"):
        alpha, beta = (float(attribute(node, *item)) for item in (("alpha", 0.2), ("beta", 0.5)))
        return ramp.scaled(alpha).shifted(beta).clipped(0.0, 1.0)
    if is_op(node, "Clip"):
        ends = clip_ends(node)
        assert ends is not None
        return ramp.clipped(*ends)
    number = next(n for n in (_number(node, 0), _number(node, 1)) if n is not None)
    if is_op(node, "Add", "Sub"):
        return ramp.shifted(number if is_op(node, "Add") else -number)
    if is_op(node, "Mul", "Div"):
        return ramp.scaled(number if is_op(node, "Mul") else 1 / number)
    return ramp.clipped(-math.inf, number) if is_op(node, "Min") else ramp.clipped(number, math.inf)


def _number(node: ir.Node, index: int) -> float | None:
    array = input_array(node, index)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _hard_swish(node: ir.Node) -> ir.Node | None:
    """The HardSwish that a product is, None if it is none."""
    values = _peeled(node.outputs[0])
    core = producer(values[-1])
    if core is None or not is_op(core, "Mul") or any(map(is_constant, core.inputs)):
        return None
    factor = ramp_of(node.outputs[0], values[-1], _FACTORS).slope
    for x, gate in (core.inputs, core.inputs[::-1]):
        assert x is not None
        assert gate is not None
        for bare in _peeled(x):
            inner = ramp_of(x, bare, _FACTORS).slope
            ramp = ramp_of(gate, bare).scaled(factor * inner)
            if ramp.x is bare and ramp.is_near(1 / 6, 0.5, 0.0, 1.0):
                return ir.node("HardSwish", [bare], name=node.name)
    return None


def _peeled(value: ir.Value) -> list[ir.Value]:
    """A value, and what is left of it without its factors, one after the other."""
    values = [value]
    while len(values) < _DEEPEST:
        node = producer(values[-1])
        operand = _operand(node) if node is not None and is_op(node, *_FACTORS) else None
        if operand is None:
            break
        values.append(operand)
    return values


def _clip(node: ir.Node) -> ir.Node | None:
    """One Clip or Relu for a clip of clips, None where it is one already."""
    ramp = ramp_of(node.outputs[0], ops=_CLIPS)
    if ramp.x is node.outputs[0] or not ramp.low < ramp.high:
        return None
    if not math.isfinite(ramp.low) and not math.isfinite(ramp.high):
        return None
    if (ramp.low, ramp.high) == (0.0, math.inf):
        alone = is_op(node, "Relu") and node.inputs[0] is ramp.x
        return None if alone else ir.node("Relu", [ramp.x], name=node.name)
    if is_op(node, "Clip") and node.inputs[0] is ramp.x and len(node.inputs) == 3:
        return None
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    ends = [
        dialect.constant(unique_name(graph, f"{stem(node)}/{word}"), np.array(end, np.float32))
        for word, end in (("min", ramp.low), ("max", ramp.high))
    ]
    return ir.node("Clip", [ramp.x, *ends], name=node.name)


def _replace(old: ir.Node, new: ir.Node) -> None:
    new.outputs[0].shape, new.outputs[0].type = old.outputs[0].shape, old.outputs[0].type
    replace_node(old, new)
