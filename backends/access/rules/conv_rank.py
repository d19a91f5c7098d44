"""CV-9: two-dimensional convolutions."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Unknown, input_of
from dlaconv.backends.access.rules.window_rule import CONV, DEPTHWISE, WindowRule
from dlaconv.diagnostics import Diagnostic


class NonPlanarConv(WindowRule):
    """A convolution is not two-dimensional.

    What it does: Checks that weights and input map of every convolution have rank 4.

    Why it matters on the hardware: Maps are stored as channels, rows and columns.

    What to do: A one-dimensional convolution is a two-dimensional one on maps of height 1. One with
    more axes is for the host, or has to become two-dimensional ones whose results are added.
    """

    id = "CV-9"
    name = "non-planar-conv"
    clause = "B.2: 2-D convolution."
    kinds = (CONV, DEPTHWISE)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per convolution."""
        shapes = {
            "weights": model.shape(input_of(node, 1)),
            "input": model.shape(input_of(node, 0)),
        }
        ranks = {what: len(shape) for what, shape in shapes.items() if shape is not None}
        if wrong := {what: rank for what, rank in ranks.items() if rank != 4}:
            words = " and ".join(f"{what} of rank {rank}" for what, rank in wrong.items())
            yield self.at(model, node, f"{words}, it must be 4", help=_remedy(max(ranks.values())))
        elif not ranks:
            raise Unknown("neither the shape of the weights nor that of the input is known")


def _remedy(rank: int) -> str:
    if rank < 4:
        return "give the map a width of 1: that is the same convolution on rows and columns"
    return "give it to the host (--partition), or add up convolutions on rows and columns"
