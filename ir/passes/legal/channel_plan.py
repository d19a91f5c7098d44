"""Decides where the channels of each map go, for `channel_padding`.

Maps that an operator treats channel by channel have one layout: they form a class. A class takes
its layout from a Concat or Reshape that makes one of its maps, else its channels get zeros behind
them. Where an operator needs another layout than its operand has, an identity convolution between
them will move the channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.channel_layout import ChannelLayout
from dlaconv.ir.graph import consumers, is_op, producer, shape_of
from dlaconv.ir.layers import ACTIVATIONS, TABLES
from dlaconv.ir.passes.legal.channel_kinds import (
    Channels,
    Kind,
    channels_of,
    classify,
    is_depthwise,
    padded_count,
    reshaped_blocks,
)
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.pipeline import Context

_ROW_RANK, _IMAGE_RANK = 2, 4
_PASSING = (*ACTIVATIONS, *TABLES, "Transpose", "Reshape")


@dataclass
class ChannelPlan:
    """Where the channels of each map go.

    Attributes:
        nodes: how each node treats channels, in the order of the graph.
        layouts: the layout of each map with channels.
        wanted: the layout that a node needs an operand in, by node and position.
        outputs: graph outputs that must keep their shape.
        blocked: nodes whose result cannot be padded, with the reason.
    """

    nodes: dict[ir.Node, Channels] = field(default_factory=dict)
    layouts: dict[ir.Value, ChannelLayout] = field(default_factory=dict)
    wanted: dict[tuple[ir.Node, int], ChannelLayout] = field(default_factory=dict)
    outputs: list[ir.Value] = field(default_factory=list)
    blocked: list[tuple[ir.Node, str]] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """True if any channel moves."""
        return any(not layout.is_dense for layout in self.layouts.values())


def plan_channels(model: ir.Model, context: Context) -> ChannelPlan:
    """Decides where the channels of each map go; the model is not changed."""
    return _Planner(model, context).plan()


@dataclass(eq=False)
class _Class:
    """Maps with one layout.

    Attributes:
        channels: number of own channels.
        image: True for maps with height and width.
        values: the maps.
        padded: True if one of the maps has a number of channels that the hardware cannot store.
        dense: True if it must stay as it is; ``why`` is the reason if there is one.
        unit: how many channels a Reshape behind it makes one of.
        hint: the layout with which a Reshape behind it can be padded.
        layout: what was decided.
    """

    channels: int
    image: bool
    values: list[ir.Value]
    padded: bool = False
    dense: bool = False
    why: str = ""
    unit: int = 1
    hint: ChannelLayout | None = None
    layout: ChannelLayout | None = None


class _Planner:
    def __init__(self, model: ir.Model, context: Context) -> None:
        self.graph, self.target = model.graph, context.target
        self.pad_outputs = context.pad_outputs
        self.found = ChannelPlan()
        self.classes: dict[ir.Value, _Class] = {}
        self.exempt: set[ir.Value] = set(self.graph.inputs)
        self.derived: list[ir.Node] = []
        self.made: dict[ir.Value, ChannelLayout] = {}

    def plan(self) -> ChannelPlan:
        self._classify()
        self._share()
        final = self._final_maps()
        for value, group in self.classes.items():
            if value not in final and group.image and not self._fits(group.channels):
                group.padded = True
        self._pin(final)
        if not any(group.padded for group in self.classes.values()):
            return self.found
        self._hints()
        self._resolve()
        self._collect()
        return self.found

    def _classify(self) -> None:
        """Kinds of nodes, and the maps that the host feeds."""
        nodes, raw = self.found.nodes, set(self.graph.inputs)
        for node in self.graph:
            if dialect.is_dequantize(node):
                continue
            seen, result = classify(node), node.outputs[0]
            maps = [node.inputs[index] for index in seen.operands]
            if self._densely(node, maps):
                seen = Channels(Kind.WEIGHTS, seen.operands)
            if seen.kind is Kind.HOST:
                raw.update(node.outputs)
                self.exempt.update(node.outputs)
            elif dialect.is_bipolar(node) and maps[0] in raw:
                raw.add(result)
                self.exempt.add(result)
            elif dialect.is_quantize(node) and maps[0] in raw:
                self.exempt.add(result)
            if seen.kind is Kind.DERIVED:
                self.derived.append(node)
            nodes[node] = seen

    def _densely(self, node: ir.Node, maps: list[ir.Value | None]) -> bool:
        """True for a depth-wise convolution of what the host feeds: no layer pads that."""
        return is_depthwise(node) and maps[0] in self.exempt and weights_of(node) is not None

    def _share(self) -> None:
        for node, seen in self.found.nodes.items():
            result = node.outputs[0]
            channels = channels_of(result)
            if result in self.exempt or channels is None:
                continue
            image = len(shape_of(result) or ()) == _IMAGE_RANK
            if seen.kind is Kind.MIXED and image and self._fits(channels):
                self.exempt.add(result)  # it stays, and what shares its channels need not
                continue
            group = self.classes[result] = _Class(channels, image, [result])
            if seen.kind is Kind.MIXED:
                group.dense, group.why = True, f"{node.op_type} makes its channels"
            if seen.kind is Kind.SHARED:
                for index in seen.operands:
                    self._unite(node.inputs[index], result)

    def _unite(self, one: ir.Value | None, other: ir.Value) -> None:
        if one is None or one not in self.classes or self.classes[one] is self.classes[other]:
            return
        kept, gone = self.classes[one], self.classes[other]
        if len(kept.values) < len(gone.values):
            kept, gone = gone, kept
        for value in gone.values:
            self.classes[value] = kept
        kept.values += gone.values
        kept.dense, kept.why = kept.dense or gone.dense, kept.why or gone.why
        kept.unit = math.lcm(kept.unit, gone.unit)

    def _fits(self, channels: int) -> bool:
        low, high = self.target.map_channels
        return low <= channels <= high and channels % self.target.channel_multiple == 0

    def _final_maps(self) -> set[ir.Value]:
        """Maps that only become graph outputs, by activation or reshaping."""
        final: set[ir.Value] = set()
        if self.pad_outputs:
            return final
        for node in reversed(self.found.nodes):
            result = node.outputs[0]
            if all(
                (dialect.is_quantize(reader) or is_op(reader, *_PASSING))
                and reader.outputs[0] in final
                for reader in consumers(result)
            ):
                final.add(result)
        return final

    def _pin(self, final: set[ir.Value]) -> None:
        """Finds the classes that must stay as they are."""
        for node, seen in self.found.nodes.items():
            for index in seen.operands:
                value = node.inputs[index]
                if seen.kind is Kind.HOST:
                    self._keep(value, "", final)
                elif seen.kind is Kind.MIXED or self._splits_unevenly(node, seen):
                    self._keep(value, f"{node.op_type} mixes its channels", final)
                elif seen.kind is not Kind.WEIGHTS and self._unmovable(value):
                    self._keep(node.outputs[0], "", final)
        if not self.pad_outputs:
            self.found.outputs = [v for v in dict.fromkeys(self.graph.outputs) if v in self.classes]
            for value in self.found.outputs:
                self._keep(value, "", final)
        for group in dict.fromkeys(self.classes.values()):
            if group.padded and padded_count(group.channels, self.target) is None:
                group.dense = True
                most = self.target.map_channels[1]
                group.why = group.why or f"{group.channels} are more than {most}"
            if group.dense and group.why:
                for value in group.values:
                    for other in self._operands(value):
                        self._keep(other, group.why, final)

    def _unmovable(self, value: ir.Value | None) -> bool:
        """True for what the host feeds if no layer can move its channels: lines, and volumes."""
        rank = len(shape_of(value) or ()) if value is not None else 0
        return value in self.exempt and rank not in {_ROW_RANK, _IMAGE_RANK}

    def _keep(self, value: ir.Value | None, why: str, final: set[ir.Value]) -> None:
        """Sees to it that a value can be had as it is.

        An identity convolution can select its channels, unless that is a map that the hardware
        cannot store either.

        Args:
            value: the value.
            why: why it must be as it is; empty where that will be a map that the host reads.
            final: maps that only become graph outputs.
        """
        stack = [value]
        while stack:
            value = stack.pop()
            group = self.classes.get(value) if value is not None else None
            if value is None or group is None:
                continue
            if group.image and (not why or value in final or self._fits(group.channels)):
                continue
            if group.dense and (group.why or not why):
                continue
            group.dense, group.why = True, why
            for member in group.values:
                stack += self._operands(member)

    def _operands(self, value: ir.Value) -> list[ir.Value | None]:
        """What a value is derived from."""
        node = producer(value)
        if node is None or node not in self.found.nodes:
            return []
        seen = self.found.nodes[node]
        return [node.inputs[i] for i in seen.operands] if seen.kind is Kind.DERIVED else []

    def _splits_unevenly(self, node: ir.Node, seen: Channels) -> bool:
        """True for a Reshape that makes one channel of several which padding would tear apart."""
        value = node.inputs[0]
        group = self.classes.get(value) if value is not None else None
        if seen.kind is not Kind.DERIVED or not is_op(node, "Reshape") or group is None:
            return False
        _, size = reshaped_blocks(node) or (1, 1)
        if not group.image or padded_count(group.channels, self.target) is None:
            return False
        unit = math.lcm(group.unit, size)
        if padded_count(group.channels, self.target, unit) is None:
            return True
        group.unit = unit
        return False

    def _hints(self) -> None:
        """Lets layers make room for the channels of the maps that are made of theirs."""
        for node in reversed(self.derived):
            value, group = node.inputs[0], self.classes[node.outputs[0]]
            before = self.classes.get(value) if value is not None else None
            if before is None or before.dense or group.dense or before.hint is not None:
                continue
            count = padded_count(group.channels, self.target) if group.padded else None
            wanted = ChannelLayout.behind(group.channels, count) if count is not None else None
            wanted = group.hint or wanted
            if wanted is None or not is_op(node, "Reshape"):
                continue
            more, fewer = reshaped_blocks(node) or (1, 1)
            hint = wanted.repeated(fewer).divided(more)
            if hint is not None and (not before.image or self._fits(hint.count)):
                before.hint = hint

    def _resolve(self) -> None:
        """Gives each class its layout, those that follow from others behind them."""
        makers = {self.classes[node.outputs[0]] for node in self.derived}
        groups = list(dict.fromkeys(self.classes.values()))
        for group in groups:
            if group.dense:
                group.layout = ChannelLayout.dense(group.channels)
            elif group not in makers:
                group.layout = group.hint or self._behind(group)
        while len(self.made) < len(self.derived):
            before = len(self.made)
            for node in self.derived:
                result = node.outputs[0]
                layout = None if result in self.made else self._derived(node)
                if layout is not None:
                    self.made[result] = layout
                    group = self.classes[result]
                    group.layout = group.layout or layout
            if len(self.made) == before:  # maps that are made of each other
                group = next(group for group in groups if group.layout is None)
                group.layout = self._behind(group)

    def _behind(self, group: _Class) -> ChannelLayout:
        count = padded_count(group.channels, self.target, group.unit) if group.padded else None
        return ChannelLayout.behind(group.channels, count or group.channels)

    def _derived(self, node: ir.Node) -> ChannelLayout | None:
        """The layout of a result that follows from those of the operands; None if they are open."""
        parts = [self._needed(node, index) for index in self.found.nodes[node].operands]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        if is_op(node, "Concat"):
            return ChannelLayout.joined(known)
        more, fewer = (reshaped_blocks(node) or (1, 1)) if is_op(node, "Reshape") else (1, 1)
        return known[0].repeated(more).divided(fewer)

    def _needed(self, node: ir.Node, index: int) -> ChannelLayout | None:
        """The layout in which a node that derives its result's needs an operand."""
        value, group = node.inputs[index], self.classes[node.outputs[0]]
        own = self._layout(value)
        if own is None:
            return None
        if group.dense:
            return ChannelLayout.dense(own.channels)
        if is_op(node, "Concat") and group.image and group.padded and not self._fits(own.count):
            count = padded_count(own.channels, self.target)
            return ChannelLayout.behind(own.channels, count or own.channels)
        if is_op(node, "Reshape"):
            more, fewer = reshaped_blocks(node) or (1, 1)
            made = own.repeated(more).divided(fewer)
            worse = made is not None and group.image and not self._fits(made.count)
            if made is None or (worse and not group.padded):
                return ChannelLayout.dense(own.channels)
        return own

    def _layout(self, value: ir.Value | None) -> ChannelLayout | None:
        """The layout of a map as it is made; None while it is open."""
        assert value is not None
        group = self.classes.get(value)
        if group is None:
            return ChannelLayout.dense(channels_of(value) or 0)
        node = producer(value)
        if node is not None and self.found.nodes[node].kind is Kind.DERIVED:
            return self.made.get(value)
        return group.layout

    def _collect(self) -> None:
        found = self.found
        for node, seen in found.nodes.items():
            result = node.outputs[0]
            layout = self._layout(result) if channels_of(result) is not None else None
            if layout is not None:
                found.layouts[result] = layout
            for index, needed in self._demands(node, seen):
                found.wanted[node, index] = needed
        for value in self.graph.inputs:
            if (channels := channels_of(value)) is not None:
                found.layouts[value] = ChannelLayout.dense(channels)
        found.blocked = list(self._reasons())

    def _demands(self, node: ir.Node, seen: Channels) -> Iterator[tuple[int, ChannelLayout]]:
        group = self.classes.get(node.outputs[0])
        for index in seen.operands:
            channels = channels_of(node.inputs[index])
            if channels is None or seen.kind is Kind.WEIGHTS:
                continue
            if seen.kind is Kind.DERIVED:
                needed = self._needed(node, index)
            elif seen.kind is Kind.SHARED and group is not None:
                needed = group.layout
            else:
                needed = ChannelLayout.dense(channels)
            if needed is not None:
                yield index, needed

    def _reasons(self) -> Iterator[tuple[ir.Node, str]]:
        most = self.target.map_channels[1]
        for node, seen in self.found.nodes.items():
            group = self.classes.get(node.outputs[0])
            arises = seen.kind in {Kind.WEIGHTS, Kind.MIXED} or is_depthwise(node)
            if group is not None and group.padded and group.dense and arises:
                yield node, group.why
            made = self.made.get(node.outputs[0])
            if made is not None and made.count > most and group is not None and group.image:
                yield node, f"padded it has {made.count} channels, more than {most}"
