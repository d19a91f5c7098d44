"""Gives maps whose elements have grids of their own one grid."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir import dialect, provenance
from dlaconv.ir.element_grids import ElementGrids
from dlaconv.ir.graph import replace_node
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.target import Target


@ir_pass(tolerance=None)
def one_grid(model: ir.Model, context: Context) -> None:
    """Replaces a grid per element by the grid that has the finest step and the widest range.

    Elements of coarser grids are rounded too finely then, and those of narrower ones saturate
    later. What wraps saturates instead; of values that do not wrap, other ends change nothing.
    Elements that are always zero are multiplied by zero, which is exact, between two quantisers:
    wherever that is done, it reads and makes a map with a grid. Losses are reported.
    """
    for node in list(model.graph):
        if dialect.is_fixed_point(node):
            _replace(node, dialect.element_grids_of(node), model, context)


def _replace(node: ir.Node, grids: ElementGrids, model: ir.Model, context: Context) -> None:
    x, name = node.inputs[0], node.name or ""
    assert x is not None
    grid, nodes = grids.one_grid(), []
    if grid is not None:
        nodes.append(dialect.quantize(x, grid, name=name, output=f"{name}/unmasked"))
        x = nodes[0].outputs[0]
    if not grids.live.all():
        live = _narrowed(grids.live.astype(np.float32))
        mask = ir.node("Mul", [x, dialect.constant(f"{name}/live", live)], name=f"{name}/mask")
        provenance.mark_pruning(mask)
        nodes.append(mask)
        if grid is not None:
            masked = mask.outputs[0]
            masked.name, masked.dtype = f"{name}/masked", ir.DataType.FLOAT
            masked.shape = node.outputs[0].shape
            nodes.append(dialect.quantize(masked, grid, name=f"{name}/again"))
    for made in nodes:
        provenance.inherit(made, node)
    kept = grids.same_step and (grids.same_range or grids.wraps)
    if grid is not None and not kept:
        words = _words(grids, grid, context.target)
        for made in nodes:
            provenance.mark_loss(made, words)
        context.diagnostics.add(_unified(node, words, model))
    if grids.wraps:
        context.diagnostics.add(_wrapping(node, grids, model))
    replace_node(node, *nodes)


def _narrowed(array: np.ndarray) -> np.ndarray:
    """An array without extent along axes on which it does not change."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        array = first if (first == array).all() else array
    return np.ascontiguousarray(array)


def _words(grids: ElementGrids, grid: Quantisation, target: Target) -> str:
    """Grids of the source and the one that they become."""
    found = []
    if not grids.same_step:
        steps = grids.step[grids.live]
        found.append(f"steps of {steps.min():.6g} to {steps.max():.6g}")
    if not grids.same_range and not grids.wraps:
        ends = grids.high[grids.live]
        found.append(f"largest values of {ends.min():.6g} to {ends.max():.6g}")
    needed = grid.bits + (target.signed_maps and not grid.signed)
    kept = f", {needed} bits with a sign" if needed != grid.bits else f", {grid.bits} bits"
    if needed > target.map_bits:
        kept += f" of which maps have {target.map_bits}"
    return (
        f"elements have {' and '.join(found)} in the source; here all have steps of "
        f"{grid.scalar_step:.6g}{kept}"
    )


def _unified(node: ir.Node, words: str, model: ir.Model) -> Diagnostic:
    return Diagnostic(
        "DLA181",
        "unified-map",
        f"the elements of a map get one grid: {words}",
        Severity.WARNING,
        provenance.location(node, model),
        help="train with homogeneous widths for maps, QuantizerConfig(heterogeneous_axis=())",
        notes=("the hardware has one grid for each map",),
    )


def _wrapping(node: ir.Node, grids: ElementGrids, model: ir.Model) -> Diagnostic:
    low, high = grids.ends
    found = f"a map that wraps beyond {low:.6g} to {high:.6g} saturates there"
    if not grids.same_range:
        found += f"; the narrowest of its elements wrap beyond {grids.high[grids.live].min():.6g}"
    return Diagnostic(
        "DLA182",
        "wrapping-map",
        found,
        Severity.NOTE,
        provenance.location(node, model),
        help="HGQ2 traces ranges so that none overflows; --calibrate compares on real data",
        notes=("the hardware saturates",),
    )
