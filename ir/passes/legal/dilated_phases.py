"""CV-6: dilations that no kernel with zeros can hold, phase by phase."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, shape_of, sole_consumer
from dlaconv.ir.passes.legal.activated import activated
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.convolutions import bias_input, limits_of
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.phases import Factors, depth_to_space
from dlaconv.ir.passes.legal.picking import Picks, pick
from dlaconv.ir.passes.windows import Window, window_of
from dlaconv.ir.pipeline import Context

_MOST_PHASES = 8


@legalisation("Conv", rules=("CV-6", "CV-1", "DW-2"))
def dilated_phases(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A widely dilated convolution becomes one with a smaller dilation for each phase of the map.

    Identity: Position n of the result sums w[t] x[n - p + d t]. Let f divide d, n = f i + r and
    r - p = f q + a with a < f: then tap t meets x[f (i + q + (d / f) t) + a], which is position
    i + q + (d / f) t of the map that shows every f-th row from row a on. So each of the f x f
    phases of the result is the same convolution with dilation d / f of one phase of the map.
    Convolutions of stride 2 that pick make the phases; Concat, Reshape, Transpose and Reshape put
    the results together. Integers are moved as they are, and each result is rounded once.

    Conditions: The stride is 1, and f is a power of two with which (k - 1) d / f + 1 is an extent
    that kernels have. Where the result is rounded, it is rounded in one way with one step. If its
    size is no multiple of f, a convolution that picks cuts the last positions off.

    Cost: The layers that make the phases: a few multiplications per value. The new convolutions
    take no more than the old one, but for what is cut off.
    """
    window = window_of(node)
    if window is None or len(window.size) != 2 or max(window.strides) > 1:
        return None
    found = [_factor(window, axis, limits_of(node, context.target).kernel[1]) for axis in range(2)]
    if None in found or found == [1, 1]:
        return None
    factors = (found[0] or 1, found[1] or 1)
    layer = activated(node)
    if layer.problem is not None:
        return Blocked(layer.problem)
    builder = Builder(node)
    phases = _phases(builder, builder.x, factors, context)
    if isinstance(phases, Blocked):
        return phases
    counts = (shape_of(node.outputs[0]) or ())[2:]
    cut = any(count % factor for count, factor in zip(counts, factors, strict=True))
    following = sole_consumer(layer.result)
    rounded = cut and following is not None and dialect.is_quantize(following)
    parts = []
    for phase in itertools.product(*map(range, factors)):
        value = _part(builder, node, window, phases, phase, factors, counts)
        channels = np.arange((shape_of(value) or (0, 0))[1])
        value = layer.activate(builder, value, channels)
        if rounded and following is not None:
            value = builder.quantised(value, dialect.quantisation_of(following))
        parts.append(value)
    value = depth_to_space(builder, builder.concat(parts), factors, "DCR")
    if cut:
        shape = shape_of(value) or ()
        kept = pick(builder, value, Picks.all_of(shape[1], (0, 0), (counts[0], counts[1])), context)
        if isinstance(kept, Blocked):
            return kept
    by, dilations = ("x".join(map(str, pair)) for pair in (factors, window.dilations))
    detail = f"a dilation of {dilations} as smaller ones on {by} phases of the map"
    return replace(builder.plan(detail, behind=layer.activation), rounded=rounded)


def _factor(window: Window, axis: int, most: int) -> int | None:
    """The smallest number of phases that makes an axis small enough."""
    taps, dilation = window.kernel[axis] - 1, window.dilations[axis]
    factor = 1
    while taps * (dilation // factor) + 1 > most:
        factor *= 2
        if dilation % factor or factor > _MOST_PHASES:
            return None
    return factor


def _phases(
    builder: Builder, x: ir.Value, factors: Factors, context: Context
) -> dict[tuple[int, ...], ir.Value] | Blocked:
    """Every phase of a map by its first row and column."""
    quantisation = stored_quantisation(x)
    if quantisation is not None and not quantisation.per_tensor:
        return Blocked("the map has one step per channel")
    made: dict[tuple[int, ...], ir.Value] = {(0, 0): x}
    done = (1, 1)
    while done != factors:
        steps = (1 + (done[0] < factors[0]), 1 + (done[1] < factors[1]))
        finer: dict[tuple[int, ...], ir.Value] = {}
        for (row, column), value in made.items():
            _, channels, height, width = shape_of(value) or ()
            for first in itertools.product(*map(range, steps)):
                size = tuple(
                    -(-(extent - begin) // step)
                    for extent, begin, step in zip((height, width), first, steps, strict=True)
                )
                if min(size) < 1:
                    return Blocked("a phase of the map has no positions")
                starts = np.tile(first, (channels, 1))
                picks = Picks(np.arange(channels), starts, steps, (size[0], size[1]))
                picked = pick(builder, value, picks, context)
                if isinstance(picked, Blocked):
                    return picked
                place = (row + done[0] * first[0], column + done[1] * first[1])
                finer[place] = builder.stored_like(picked, x)
        made, done = finer, (done[0] * steps[0], done[1] * steps[1])
    return made


def _part(
    builder: Builder,
    node: ir.Node,
    window: Window,
    phases: dict[tuple[int, ...], ir.Value],
    phase: tuple[int, ...],
    factors: Factors,
    counts: tuple[int, ...],
) -> ir.Value:
    """The convolution that computes one phase of the result, cut to whole blocks."""
    places = [divmod(phase[axis] - window.pads[axis], factors[axis]) for axis in range(2)]
    x = phases[places[0][1], places[1][1]]
    size = (shape_of(x) or ())[2:]
    dilations = [window.dilations[axis] // factors[axis] for axis in range(2)]
    begins, ends = [], []
    for axis in range(2):
        blocks = -(-counts[axis] // factors[axis])
        begins.append(-places[axis][0])
        reach = blocks - 1 + (window.kernel[axis] - 1) * dilations[axis] + 1
        ends.append(reach - size[axis] - begins[axis])
    weights = node.inputs[1]
    assert weights is not None
    return builder.conv(
        x,
        weights,
        bias_input(node),
        pads=[*begins, *ends],
        dilations=dilations,
        group=int(attribute(node, "group", 1)),
    )
