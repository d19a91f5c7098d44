"""CV-2, DW-1: the map that a convolution reads."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import CONV, DEPTHWISE, WindowRule
from dlaconv.backends.access.rules.wording import by, span, within
from dlaconv.diagnostics import Diagnostic


class _MapSize(WindowRule):
    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per convolution."""
        limits, size = self.limits(model, node).map_size, window.map_size(model, node)
        if not all(within(extent, limits) for extent in size):
            yield self.at(
                model, node, f"it reads a map of {by(size)}, each side must be {span(limits)}"
            )


class ConvMapSize(_MapSize):
    """A convolution reads a map that is too large.

    What it does: Checks height and width of the input map. Computed maps have the tighter limit of
    IO-4, so this one is about graph inputs.

    Why it matters on the hardware: The guide limits the map that the convolution unit can walk
    over.

    What to do: Train for a smaller image, or run the network on tiles.
    """

    id = "CV-2"
    name = "conv-map-size"
    clause = "B.2: feature map 1x1 to 512x512."
    kinds = (CONV,)


class DepthwiseMapSize(_MapSize):
    """A depth-wise convolution reads a map of a size that it does not have.

    What it does: Checks height and width of the input map; there is a lower limit, too.

    Why it matters on the hardware: The guide sets a smallest map for depth-wise convolutions, and
    only for them; below it the compiler has no mapping.

    What to do: On a small map write it as a standard convolution whose weights are zero between
    different channels, which is exact.
    """

    id = "DW-1"
    name = "depthwise-map-size"
    clause = "B, depth-wise convolution: feature map 4x4 to 512x512."
    kinds = (DEPTHWISE,)
