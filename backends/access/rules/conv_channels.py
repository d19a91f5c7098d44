"""CV-3, DW-3: the channels of convolutions."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Malformed, Unknown, input_of
from dlaconv.backends.access.rules.window_rule import CONV, DEPTHWISE, WindowRule
from dlaconv.backends.access.rules.wording import span, within
from dlaconv.diagnostics import Diagnostic


class _Channels(WindowRule):
    sides = 2  # channels in and out are different numbers

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding each for channels in and out."""
        limits = self.limits(model, node).channels
        shape = model.shape(input_of(node, 1))
        if shape is None:
            raise Unknown("the shape of the weights is not known")
        if len(shape) < 2:
            raise Malformed(f"the weights have rank {len(shape)}")
        group = model.integer(node, "group", 1)
        channels_in = None if shape[1] is None else shape[1] * group
        for words, channels in (("reads", channels_in), ("makes", shape[0]))[: self.sides]:
            if channels is not None and not within(channels, limits):
                yield self.at(model, node, f"it {words} {channels} channels, not {span(limits)}")


class ConvChannels(_Channels):
    """A convolution has more channels than the hardware.

    What it does: Checks channels in and out.

    Why it matters on the hardware: The guide limits the channels of a layer; the bound on the
    accumulator holds for that many, too.

    What to do: Split the output channels and concatenate, which is exact. Splitting the input
    channels and adding rounds once more.
    """

    id = "CV-3"
    name = "conv-channels"
    clause = "B.2: channels up to 2048."
    kinds = (CONV,)


class DepthwiseChannels(_Channels):
    """A depth-wise convolution has more channels than the hardware.

    What it does: Checks the channels of the input map.

    Why it matters on the hardware: The guide limits the channels of a layer.

    What to do: Split the channels into several depth-wise convolutions, which is exact.
    """

    sides = 1
    id = "DW-3"
    name = "depthwise-channels"
    clause = "B, depth-wise convolution: channels up to 2048."
    kinds = (DEPTHWISE,)
