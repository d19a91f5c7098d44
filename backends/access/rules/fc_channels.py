"""FC-1: the size of fully connected layers."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Malformed, Unknown, input_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.wording import span, within
from dlaconv.diagnostics import Diagnostic


class FullyConnectedChannels(NodeRule):
    """A fully connected layer has more inputs or outputs than the hardware.

    What it does: Checks both sides of the weight matrix; the guide does not say which side it
    means.

    Why it matters on the hardware: The guide limits the channels of a layer; the bound on the
    accumulator holds for that many, too.

    What to do: After Flatten of a map of at most 7x7 write it as a convolution over the whole map,
    which is exact and has the channel limit of convolutions. Else split the outputs and
    concatenate.
    """

    id = "FC-1"
    name = "fully-connected-channels"
    clause = "B, fully connected: channels up to 2048."
    ops = ("Gemm",)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding each for inputs and outputs."""
        limits, shape = model.target.fc_channels, model.shape(input_of(node, 1))
        if shape is None:
            raise Unknown("the shape of the weights is not known")
        if len(shape) != 2:
            raise Malformed(f"the weights have rank {len(shape)}")
        sides = shape if model.integer(node, "transB", 0) else shape[::-1]
        for words, channels in zip(("makes", "reads"), sides, strict=True):
            if channels is not None and not within(channels, limits):
                yield self.at(model, node, f"it {words} {channels} channels, not {span(limits)}")
