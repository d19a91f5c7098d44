"""Gives pruned elements the grid of their map, where nothing can clear them."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import bypass, consumers, input_array, shape_of
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass(tolerance=None)
def unmasked_elements(model: ir.Model, context: Context) -> None:
    """Removes the zeros of single elements that are left of a grid per element.

    An element without bits is the end of what `one_grid` does to those with few: it gets the map's
    grid. The hardware cannot multiply a map by other factors at each position. Where a whole
    channel is zero it can, so those stay. For networks of which the host may take parts this is
    left out: it can clear elements.
    """
    for node in list(model.graph):
        if not provenance.is_pruning(node):
            continue
        shape, mask = shape_of(node.outputs[0]), input_array(node, 1)
        if shape is None or mask is None or math.prod(mask.shape) == mask.shape[1]:
            continue
        pruned = int((np.broadcast_to(mask, shape) == 0).sum())
        words = f"{pruned} of {math.prod(shape)} elements are always zero in the source, not here"
        for reader in consumers(node.outputs[0]):
            if dialect.is_quantize(reader):
                provenance.mark_loss(reader, words)
        context.diagnostics.add(_unmasked(node, words, model))
        bypass(node)


def _unmasked(node: ir.Node, words: str, model: ir.Model) -> Diagnostic:
    return Diagnostic(
        "DLA184",
        "unmasked-map",
        f"{words}: they get the map's grid",
        Severity.WARNING,
        provenance.location(node, model),
        help="nothing has to be done where they are zero for want of a signal, as at the edge of "
        "pictures; else --partition lets the host clear them, or train with homogeneous widths",
        notes=("the hardware cannot clear single elements of a map",),
    )
