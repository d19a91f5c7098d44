"""IO-3: the channels of feature maps."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.backends.access.rules.wording import span, within
from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir.graph import consumers
from dlaconv.ir.passes.legal.channel_kinds import Kind, classify

_MOVING = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "MatMul", "ReduceSum")
"""Operators that may make channels of other axes."""


class UnalignedChannels(Rule):
    """The channels of a feature map do not fill the hardware's channel groups.

    What it does: Checks axis 1 of every 4-D map that the network computes, where the number of
    channels arises; maps that only inherit it are not reported again. Graph inputs are exempt. For
    maps that become graph outputs it is a warning.

    Why it matters on the hardware: Maps are stored and computed in groups of channels, and the
    guide knows no partial groups. For a final map only a crash of the timing simulator is known.

    What to do: Pad the producing layer with zero channels (finite weight scales, zero weights and
    bias) and ignore them in what follows, or train with a width that is a multiple. Channels that a
    Transpose, Reshape or MatMul makes of other axes cannot be padded: leave it to the host.
    """

    id = "IO-3"
    name = "unaligned-channels"
    clause = "A, Feature map: channels 16 to 2048, times of 16."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields one finding per map at which an illegal channel count arises."""
        limits, multiple = model.target.map_channels, model.target.channel_multiple
        for value, node in model.produced_maps:
            shape = model.shape(value)
            if shape is None or len(shape) != 4 or (channels := shape[1]) is None:
                continue
            if within(channels, limits) and channels % multiple == 0:
                continue
            source = next(iter(model.map_inputs(node)), None)
            before = model.shape(source) if source is not None and source.producer() else None
            if before is not None and len(before) == 4 and before[1] == channels:
                continue
            padded = -(-channels // multiple) * multiple
            final = value in model.final_maps
            kind = classify(node).kind
            if _moves(node):
                remedy = _instead(node, final=final)
            elif padded > limits[1]:
                remedy = ""
            else:
                remedy = f"pad it to {padded} channels with zeros"
                mixed = kind in {Kind.MIXED, Kind.HOST} or any(map(_moves, consumers(value)))
                if final and not mixed:
                    remedy += "; --pad-outputs does it when converting"
            yield self.finding(
                model.location(value),
                f"map {value.name!r} has {channels} channels, not {span(limits)} in steps of "
                f"{multiple}",
                severity=Severity.WARNING if final else None,
                help=remedy,
            )


def _moves(node: ir.Node) -> bool:
    """True if a node makes channels of other axes, so that padding stops before it."""
    return node.op_type in _MOVING and classify(node).kind is Kind.MIXED


def _instead(node: ir.Node, *, final: bool) -> str:
    """What to do about channels that no layer with weights makes, so that none can be added."""
    where = "end the network before it, and let the host do it" if final else "give it to the host"
    return f"{node.op_type} mixes channels with other axes, so they cannot be padded: {where}"
