"""IO-3: the channels of every map filled up to a multiple of what the hardware stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.channel_layout import ChannelLayout
from dlaconv.ir.graph import (
    attribute,
    is_op,
    producer,
    shape_of,
    unique_name,
)
from dlaconv.ir.macs import macs
from dlaconv.ir.passes.legal.channel_constants import pad_input
from dlaconv.ir.passes.legal.channel_kinds import Channels, Kind
from dlaconv.ir.passes.legal.channel_mover import ChannelMover
from dlaconv.ir.passes.legal.channel_plan import ChannelPlan, plan_channels
from dlaconv.ir.passes.legal.grouped_conv import block_diagonal
from dlaconv.ir.passes.legal.legalisation import Blocked, Change, graph_legalisation
from dlaconv.ir.passes.linear_ops import place_weights, weights_of
from dlaconv.ir.pipeline import Context

Outcome = tuple[ir.Node, Change | Blocked]


@graph_legalisation("Conv", "Gemm", rules=("IO-3",))
def channel_padding(model: ir.Model, context: Context) -> Iterator[Outcome]:
    """Maps get further channels, up to a multiple of what the hardware stores.

    Identity: An output channel whose weights and bias are zero is zero, and nothing depends on a
    channel whose column of weights is zero in every layer that reads it. In between, activations,
    pools, sums, concatenations and depth-wise convolutions treat each channel on its own, and a
    flattened channel is a block of columns. What a further channel holds (a sigmoid makes 0.5 of
    zero) is never read, so no other integer changes.

    Conditions: What the host feeds stays as it is, and so do graph outputs and maps that only
    become graph outputs, unless --pad-outputs asks for them. Where a layer needs a map that has
    other channels in between as it was (a graph output that is read inside, too; maps that are
    added and have them in different places), a 1x1 identity convolution moves the channels. Div
    (0/0), MatMul, a Transpose or Reshape that mixes channels and a ReduceSum over them (unless they
    are known to be zero) need them as they were: if the hardware cannot store that, the map stays,
    and everything that shares its channels does.

    Cost: The multiplications with the zeros, and those of the identity convolutions.
    """
    plan = plan_channels(model, context)
    for node, why in plan.blocked:
        yield node, Blocked(why)
    if plan.changes:
        yield from _Padding(model.graph, context, plan).run()


class _Padding:
    def __init__(self, graph: ir.Graph, context: Context, plan: ChannelPlan) -> None:
        self.graph, self.context, self.plan = graph, context, plan
        self.mover = ChannelMover(graph, context, dict(plan.layouts))

    def run(self) -> Iterator[Outcome]:
        costs = {node: macs(node) for node in self.plan.nodes}
        for node, seen in self.plan.nodes.items():
            spent = self.mover.macs
            words = [self._deliver(node, index) for index in seen.operands]
            words.append(self._pad(node, seen))
            if any(words):
                cost = macs(node) - costs[node] + self.mover.macs - spent
                yield node, Change("; ".join(filter(None, words)), cost)
        for value in self.plan.outputs:
            layout, spent = self.mover.layouts[value], self.mover.macs
            if not layout.is_dense:
                self._restore(value)
                detail = f"an identity layer selects the {layout.channels} channels of the output"
                yield _maker(value), Change(detail, self.mover.macs - spent)
        for value, layout in self.plan.layouts.items():
            if not layout.is_dense:
                self._record(value, layout)

    def _deliver(self, node: ir.Node, index: int) -> str:
        """Gives a node an operand in the layout that it needs; says so if that takes a layer."""
        value, needed = node.inputs[index], self.plan.wanted.get((node, index))
        assert value is not None
        if needed is None or self.mover.layouts[value] == needed:
            return ""
        # a second quantiser can round what the identity layer computes
        moved = self.mover.move(value, needed, stored=not dialect.is_quantize(node))
        node.replace_input_with(index, moved)
        return f"an identity layer moves {needed.channels} channels to where they are needed"

    def _pad(self, node: ir.Node, seen: Channels) -> str:
        """Pads the constants and the result of a node; says what a layer with weights gets."""
        result, source = node.outputs[0], node.inputs[0]
        layout = self.plan.layouts.get(result)
        if layout is None or source is None:
            return ""
        words = ""
        if seen.kind is Kind.WEIGHTS:
            words = self._pad_weights(node, layout, self.mover.layouts[source])
        elif not layout.is_dense:
            words = self._pad_channelwise(node, layout)
        if not layout.is_dense:
            shape = list(shape_of(result) or ())
            shape[1] = layout.count
            result.shape = ir.Shape(shape)
        return words

    def _pad_weights(self, node: ir.Node, rows: ChannelLayout, columns: ChannelLayout) -> str:
        if rows.is_dense and columns.is_dense:
            return ""
        words = []
        group = int(attribute(node, "group", 1))
        if group != 1:  # depth-wise, of what the host feeds
            weights = weights_of(node)
            assert weights is not None
            dense = replace(weights, array=block_diagonal(weights.array, group))
            node.replace_input_with(1, place_weights(node, dense))
            node.attributes["group"] = ir.AttrInt64("group", 1)
            words.append("it becomes dense")
        pad_input(node, 1, {0: rows, 1: columns})
        if not rows.is_dense:
            pad_input(node, 2, {-1: rows})
            words.append(f"{rows.channels} channels become {rows.count}")
        if not columns.is_dense:
            words.append(f"it reads {columns.channels} of {columns.count}")
        return ", ".join(words)

    def _pad_channelwise(self, node: ir.Node, layout: ChannelLayout) -> str:
        rank = len(shape_of(node.outputs[0]) or ())
        if is_op(node, "Conv"):
            pad_input(node, 1, {0: layout})
            pad_input(node, 2, {-1: layout})
            node.attributes["group"] = ir.AttrInt64("group", layout.count)
            return f"{layout.channels} channels become {layout.count}"
        if dialect.is_quantize(node) or dialect.is_bipolar(node) or is_op(node, "PRelu"):
            for index in range(1, len(node.inputs)):
                pad_input(node, index, {1 - rank: layout}, alike=True)
        elif is_op(node, "Reshape"):
            shape = list(shape_of(node.outputs[0]) or ())
            shape[1] = layout.count
            name = unique_name(self.graph, f"{node.name}/shape")
            target = dialect.constant(name, np.array(shape, np.int64))
            self.graph.register_initializer(target)
            node.replace_input_with(1, target)
        return ""

    def _restore(self, value: ir.Value) -> None:
        """Gives a graph output its own shape back: a layer behind the map selects its channels."""
        name = value.name or ""
        selected = self.mover.move(value, ChannelLayout.dense(self.mover.layouts[value].channels))
        for index, output in enumerate(self.graph.outputs):
            if output is value:
                self.graph.outputs[index] = selected
        value.name = unique_name(self.graph, f"{name}/padded")
        selected.name = name
        self.context.originals[value.name] = self.context.originals.get(name, name)

    def _record(self, value: ir.Value, layout: ChannelLayout) -> None:
        """Notes where the source's channels are, in a map that may have been padded before."""
        name = value.name or ""
        known = self.context.layouts.get(name)
        if known is not None:
            layout = ChannelLayout.at(layout.positions[known.positions], layout.count)
        self.context.layouts[name] = layout


def _maker(value: ir.Value) -> ir.Node:
    node = producer(value)
    assert node is not None
    return node
