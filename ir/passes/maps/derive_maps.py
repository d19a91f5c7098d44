"""Quantises the maps that the source leaves in floating point."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, listed
from dlaconv.errors import ConversionError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.calibration.bounds import IntervalBounds
from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.calibration.observe import observe
from dlaconv.ir.calibration.ranges import FINE, coverings, methods
from dlaconv.ir.graph import (
    bypass,
    consumers,
    insert_after,
    is_op,
    producer,
    replace_node,
    sole_consumer,
)
from dlaconv.ir.layers import ACTIVATIONS, PIPELINED, ROUNDING, SAME_SCALE
from dlaconv.ir.layout_names import plain_name
from dlaconv.ir.overrides import Entry
from dlaconv.ir.passes.maps.overridden_ranges import overridden_ranges
from dlaconv.ir.passes.maps.pipelined_activations import PRODUCERS
from dlaconv.ir.passes.maps.sign_activations import reads_unrounded
from dlaconv.ir.passes.non_negative import non_negative
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.saturation import saturating_clip

_SAME = 1e-6
_LARGEST = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float32).tiny)
"""Maps that a diagnostic names."""


class Use(NamedTuple):
    """A place where a value is read."""

    node: ir.Node
    position: int


@ir_pass(tolerance=None)
def derive_maps(model: ir.Model, context: Context) -> None:
    """Puts a quantiser on every unrounded value that an operator or the host reads as it is.

    The step comes from (a) the next quantiser reached through an activation or an Add, else
    (b) the calibration data, else (c) the interval bound from weights, bias and input range,
    which never clips and is coarse. Such maps are of class ``derived``. Clips of the LEGAL model
    are done by the maps behind them, which saturate there.

    Raises:
        ConversionError: naming every value that has neither data nor a finite bound.
    """
    raw = _raw(model)
    asked = overridden_ranges(model, raw, context)
    if not raw:
        return
    steps: dict[ir.Value, float] = {}
    positive = {v for v in raw if not context.target.signed_maps and non_negative(v)}
    if context.calibration is not None:
        steps = _observed_steps(model, raw, asked, positive, context.calibration, context)
    else:
        bounds = IntervalBounds()
        for value in raw:
            if (entry := asked.get(value)) is not None and entry.output is not None:
                steps[value] = _step(entry.output.magnitude(context.target.map_range[1]), context)
                continue
            following = _following_quantiser(value)
            if following is not None:
                steps[value] = _covering_step(following, context)
            elif np.isfinite(bound := bounds.of(value)).all():
                steps[value] = _step(max(map(abs, bound)), context)
                context.bounded.append(value.name or "")
    missing = [value for value in raw if not steps.get(value, np.inf) < _LARGEST]
    if missing:
        raise ConversionError([*context.diagnostics, _no_range(missing, model)])
    bounded = [value for value in raw if (value.name or "") in context.bounded]
    if bounded:
        names = ", ".join(repr(plain_name(value.name or "")) for value in bounded)
        context.diagnostics.warning(
            "DLA207",
            "interval-bound",
            f"the source does not quantise {names}; the step there is a bound that nothing can "
            "exceed, which usually wastes several of the 8 bits",
            location=provenance.location(producer(bounded[0]), model),
            help="give sample inputs with --calibrate data.npz, or quantise it in the source",
        )
    for value in raw:
        name = _quantise(value, _saturating(value, steps[value], context), context)
        if value in positive:
            context.positive.add(name)
        if value in asked:
            context.overrides.apply(asked[value], "output", name)
    for node in list(model.graph):
        if is_op(node, "Clip"):
            _saturate(node, context)


def raw_uses(value: ir.Value) -> list[Use]:
    """The uses of an unrounded value that need it as a stored map."""
    behind_layer = is_op(producer(value), *PRODUCERS)
    return [
        Use(use.node, use.idx)
        for use in value.uses()
        if not dialect.is_quantize(use.node)
        and not (behind_layer and is_op(use.node, *ACTIVATIONS))
        and not reads_unrounded(use.node)
    ]


def _raw(model: ir.Model) -> list[ir.Value]:
    """Graph inputs and unrounded results of layers that are read as they are, producers first.

    Results of operators that only move integers are left out: their input gets the quantiser.
    """
    moving = [op for op in SAME_SCALE if op not in PIPELINED]
    found = [value for value in model.graph.inputs if value.uses()]
    unrounded: set[ir.Value] = set()
    for node in model.graph:
        result = node.outputs[0]
        if is_op(node, *ROUNDING):
            unrounded.add(result)
        elif is_op(node, *ACTIVATIONS):
            source = node.inputs[0]
            behind = source in unrounded and is_op(producer(source), *PRODUCERS)
            if behind or not is_op(node, "Relu"):
                unrounded.add(result)
        elif is_op(node, *moving):
            continue
        if result in unrounded:
            found.append(result)
    return [
        value
        for value in found
        if raw_uses(value) or (value.is_graph_output() and not value.is_graph_input())
    ]


def _observed_steps(
    model: ir.Model,
    raw: list[ir.Value],
    asked: Mapping[ir.Value, Entry],
    positive: Collection[ir.Value],
    data: Dataset,
    context: Context,
) -> dict[ir.Value, float]:
    """Steps of values as ``context.ranges`` and ``asked`` ask; keeps some values for the solver."""
    names = [value.name or "" for value in raw]
    chosen = {entry.output.method for entry in asked.values() if entry.output is not None}
    fine = FINE in {context.ranges, *chosen}
    seen = observe(model, data, names, context.store, fine=fine)
    low, high = context.target.map_range
    steps = {}
    for value in raw:
        name, largest = value.name or "", high - low if value in positive else high
        after = name if value.is_graph_input() else _unrounded(name)
        histogram = seen[name].histogram
        if (entry := asked.get(value)) is not None and entry.output is not None:
            magnitude = entry.output.magnitude(high, histogram)
            covers = dict.fromkeys(methods(context.ranges), magnitude)
        else:
            covers = coverings(histogram, context.ranges, largest)
        steps[value] = note_values(after, seen[name].values, covers, context)
    return steps


def note_values(name: str, values: np.ndarray, covers: dict[str, float], context: Context) -> float:
    """Keeps what is known of a map's values for the solver.

    Args:
        name: of the map's unrounded value.
        values: some of its values.
        covers: the magnitude to cover by every method that there is to choose from.
        context: keeps them.

    Returns:
        The step with which the first method's magnitude is covered.
    """
    context.observed[name], context.covers[name] = values, covers
    return _step(next(iter(covers.values())), context)


def _unrounded(name: str) -> str:
    """What the value of a map is called before it is rounded."""
    return f"{name}/unrounded"


def _step(magnitude: float, context: Context) -> float:
    largest = context.target.map_range[1]
    step = float(magnitude) / largest
    return 1.0 / largest if step < _TINY else step


def _covering_step(quantisation: Quantisation, context: Context) -> float:
    units = max(1.0, (quantisation.qmax + 1) / (context.target.map_range[1] + 1))
    return quantisation.scalar_step * units


def _saturating(value: ir.Value, step: float, context: Context) -> float:
    """The step with which the map behind a clip saturates there, if its values go so far."""
    node = producer(value)
    saturation = saturating_clip(node) if node is not None else None
    if saturation is None:
        return step
    wanted = saturation.step(context.target.map_range)
    return wanted if step >= wanted * (1 - _SAME) else step


def _saturate(node: ir.Node, context: Context) -> None:
    """Lets the map behind a clip do its work."""
    saturation, stored = saturating_clip(node), sole_consumer(node.outputs[0])
    assert saturation is not None
    assert stored is not None
    assert dialect.is_quantize(stored)
    context.clips[stored.outputs[0].name or ""] = saturation.low, saturation.high
    if not saturation.rectified:
        bypass(node)
        return
    relu = ir.node("Relu", node.inputs[:1], name=node.name)
    replace_node(node, relu)


def _following_quantiser(value: ir.Value) -> Quantisation | None:
    """The next quantiser on the only path from a value, through activations and Adds."""
    for _ in range(8):
        nodes = consumers(value)
        if len(nodes) != 1:
            return None
        node = nodes[0]
        if dialect.is_quantize(node):
            quantisation = dialect.quantisation_of(node)
            return quantisation if quantisation.symmetric else None
        if not is_op(node, *ACTIVATIONS, "Add", "MaxPool", "Reshape", "Transpose", "Concat"):
            return None
        value = node.outputs[0]
    return None


def _quantise(value: ir.Value, step: float, context: Context) -> str:
    """Stores a value; returns the name of the map."""
    bits = context.target.map_bits
    uses = raw_uses(value)
    name = value.name or ""
    node = dialect.quantize(value, Quantisation.of(step, bits), name=f"{name}/derived")
    result = node.outputs[0]
    made_by = producer(value)
    if made_by is not None:
        provenance.inherit(node, made_by)
    insert_after(value, node)
    for use in uses:
        use.node.replace_input_with(use.position, result)
    if value.is_graph_output():
        _move_output(value, result)
    if not value.is_graph_input():
        value.name, result.name = _unrounded(name), name
    context.derived.add(result.name or "")
    return result.name or ""


def _move_output(old: ir.Value, new: ir.Value) -> None:
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new


def _no_range(values: list[ir.Value], model: ir.Model) -> Diagnostic:
    """One diagnostic for the whole network: in a float one every map lacks a range."""
    named = listed([repr(plain_name(value.name or "")) for value in values])
    return Diagnostic(
        "DLA205",
        "unknown-range",
        f"the source does not quantise {named}, and nothing bounds "
        f"{'their' if len(values) > 1 else 'its'} values",
        location=provenance.location(producer(values[0]), model),
        help="give sample inputs with --calibrate: a folder of pictures or an .npz",
        notes=("every map on the hardware has 8 bits, so its range must be known",),
    )
