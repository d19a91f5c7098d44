"""Removes quantisations that repeat another one."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.graph import bypass, insert_before, is_op, producer, take_over
from dlaconv.ir.passes.hoist_quantise import picks
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.quantisation import Quantisation

_MOVES = ("MaxPool", "Reshape", "Transpose")
_SURE_BITS = 20
"""Up to so many bits, (k * step) / step in float32 lies within half a unit of k."""

_Key = tuple[object, ...]


@ir_pass()
def merge_quantise(model: ir.Model, context: Context) -> None:
    """Replaces ``Quantize(Quantize(x))`` with one of them where the second rounds nothing.

    A value on a grid stays as it is when it is put on a grid that contains the first: same step
    and zero point, and no smaller range. A smaller range on the same step only clips, so both
    together clip to the common range. Operators that move or pick values, Relu and Concat of one
    grid keep their operands' grid. Two equal quantise nodes on one value become one.
    """
    grids: dict[ir.Value, Quantisation] = {}
    seen: dict[_Key, ir.Value] = {}
    for node in model.graph:
        if dialect.is_quantize(node):
            _visit(node, grids, seen)
        elif (grid := _grid_after(node, grids)) is not None:
            grids[node.outputs[0]] = grid


def _visit(node: ir.Node, grids: dict[ir.Value, Quantisation], seen: dict[_Key, ir.Value]) -> None:
    source = node.inputs[0]
    assert source is not None
    quantisation = dialect.quantisation_of(node)
    before = grids.get(source)
    if before is not None and _contains(quantisation, before) and bypass(node):
        return
    first = producer(source)
    if (
        before is not None
        and first is not None
        and dialect.is_quantize(first)
        and len(source.uses()) == 1
        and not source.is_graph_output()
        and (merged := _common(before, quantisation)) is not None
    ):
        seen.pop(_key(first.inputs[0], before), None)
        node, quantisation = _merge(first, node, merged), merged
        source = node.inputs[0]
        assert source is not None
    result = node.outputs[0]
    key = _key(source, quantisation)
    twin = seen.get(key)
    if twin is not None and not (result.is_graph_output() and twin.is_graph_output()):
        _replace(result, twin)
        return
    seen[key] = result
    grids[result] = quantisation


def _replace(result: ir.Value, twin: ir.Value) -> None:
    """Lets the readers of ``result`` read ``twin``; a graph output's name survives."""
    node = producer(result)
    assert node is not None
    name = result.name if result.is_graph_output() else None
    result.replace_all_uses_with(twin, replace_graph_outputs=True)
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    graph.remove(node, safe=True)
    if name is not None:
        twin.name = name


def _merge(first: ir.Node, second: ir.Node, quantisation: Quantisation) -> ir.Node:
    source, result = first.inputs[0], second.outputs[0]
    assert source is not None
    merged = dialect.quantize(source, quantisation, name=second.name or first.name or "quantise")
    insert_before(second, merged)
    take_over(result, merged.outputs[0])
    graph = second.graph
    assert isinstance(graph, ir.Graph)
    graph.remove(second, safe=True)
    graph.remove(first, safe=True)
    return merged


def _grid_after(node: ir.Node, grids: dict[ir.Value, Quantisation]) -> Quantisation | None:
    """The grid that a node hands on from its inputs."""
    if is_op(node, "Concat"):
        found = [grids.get(value) for value in node.inputs if value is not None]
        if any(grid is None or not grid.per_tensor for grid in found):
            return None
        same = all(a is not None and b is not None and a.same_grid(b) for a, b in pairwise(found))
        return found[0] if same else None
    if not (is_op(node, *_MOVES, "Relu") or picks(node)) or node.inputs[0] is None:
        return None
    grid = grids.get(node.inputs[0])
    if grid is None or not grid.per_tensor:
        return None
    if not is_op(node, "Relu"):
        return grid
    return replace(grid, qmin=max(grid.qmin, 0)) if grid.symmetric and grid.qmax >= 0 else None


def _contains(outer: Quantisation, inner: Quantisation) -> bool:
    """True if quantising to ``outer`` changes no value of the grid ``inner``."""
    inside = outer.qmin <= inner.qmin and inner.qmax <= outer.qmax
    return inside and _aligned(outer, inner)


def _aligned(second: Quantisation, first: Quantisation) -> bool:
    """True if ``second`` has the points of ``first``, and float32 division finds them again.

    Rounding to nearest forgives the last bit of a division; the directed modes do not, so they
    need steps whose division is exact.
    """
    same_form = (
        first.step.shape == second.step.shape and first.zero_point.shape == second.zero_point.shape
    )
    if not same_form and not (first.per_tensor and second.per_tensor):
        return False
    if not ((first.step == second.step).all() and (first.zero_point == second.zero_point).all()):
        return False
    if all(PowerOfTwo.exactly(float(step)) is not None for step in second.step.reshape(-1)):
        return True
    magnitude = max(abs(first.qmin), abs(first.qmax), 1) + abs(first.zero_point).max()
    return second.rounding.nearest and math.log2(magnitude) < _SURE_BITS


def _common(first: Quantisation, second: Quantisation) -> Quantisation | None:
    """One quantisation that does what both do in turn, None if there is none."""
    low, high = max(first.qmin, second.qmin), min(first.qmax, second.qmax)
    if low > high or not _aligned(second, first):
        return None
    return replace(first, qmin=low, qmax=high)


def _key(source: ir.Value | None, quantisation: Quantisation) -> _Key:
    step, zero_point = quantisation.step, quantisation.zero_point
    shapes = None if quantisation.per_tensor else (step.shape, zero_point.shape)
    limits = (quantisation.qmin, quantisation.qmax, quantisation.rounding)
    return (source, *limits, shapes, step.tobytes(), zero_point.tobytes())
