"""Which ranges of maps the user gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import producer
from dlaconv.ir.overrides import Entry, MapRange, Overrides, SourceLayer
from dlaconv.ir.passes.non_negative import non_negative
from dlaconv.ir.pipeline import Context
from dlaconv.ir.saturation import saturating_clip

_SAME = 1e-6
_TINY = float(np.finfo(np.float32).tiny)
_QUANTISED = "the source quantises it, and its integers are kept"


def overridden_ranges(
    model: ir.Model, raw: Sequence[ir.Value], context: Context
) -> Mapping[ir.Value, Entry]:
    """The entries that say how much of their values maps cover which the source leaves open.

    What cannot be becomes a diagnostic.

    Args:
        model: the model, before these maps are quantised.
        raw: the values that become such maps.
        context: knows the entries.
    """
    overrides = context.overrides
    if not overrides.entries:
        return {}
    quantised = [node.outputs[0] for node in model.graph if dialect.is_quantize(node)]
    names = {value: _original(value, context) for value in (*raw, *quantised)}
    layers = _layers(names, overrides)
    for value in quantised:
        entry = overrides.of_map(layers[value])
        if entry is not None:
            overrides.close(entry, "output", names[value], _QUANTISED)
    found = {}
    for value in raw:
        entry = overrides.of_map(layers[value])
        if entry is None:
            continue
        assert entry.output is not None
        obstacle = _obstacle(value, entry.output, context)
        if obstacle is None:
            found[value] = entry
        else:
            asked = overrides.asking(entry, "output")
            context.diagnostics.add(overrides.problem(asked, names[value], *obstacle))
    return found


def _layers(
    names: Mapping[ir.Value, str], overrides: Overrides
) -> dict[ir.Value, list[SourceLayer]]:
    """The layers of the source that maps stand for.

    A map that the source has not stands for the layer it was made of if that has no other.
    """
    ends = set(names.values())
    found = {value: overrides.layers_of(name, ends) for value, name in names.items()}
    known = {layer.layer for layers in found.values() for layer in layers}
    makers = {value: provenance.location(producer(value)).layer for value in names}
    nameless = {value: makers[value] for value, layers in found.items() if not layers[0].layer}
    alone = Counter(nameless.values())
    for value, layer in nameless.items():
        if alone[layer] == 1 and layer and layer not in known:
            made = [name for name, item in overrides.source.items() if item.layer == layer]
            found[value] += [item for name in made for item in overrides.layers_of(name, ends)]
    for value, layers in found.items():
        layers.append(SourceLayer(_stored(value)))
    return found


def _stored(value: ir.Value) -> str:
    """What reports call the map."""
    return f"{value.name}/derived/out" if value.is_graph_input() else value.name or ""


def _original(value: ir.Value, context: Context) -> str:
    name = value.name or ""
    return context.originals.get(name, name)


def _obstacle(value: ir.Value, wanted: MapRange, context: Context) -> tuple[str, str] | None:
    """Why a map cannot have a range, and what to do."""
    if wanted.measured:
        return None
    largest = context.target.map_range[1]
    if wanted.magnitude(largest) / largest < _TINY:
        return f"its step would be below {_TINY:.3g}, the smallest that can be stored", ""
    if (value.name or "") in context.channel_ratios:
        return (
            "each of its channels has a step of its own",
            "use ranges or percentile",
        )
    node = producer(value)
    clip = saturating_clip(node) if node is not None else None
    if clip is None:
        return None
    low, high = context.target.map_range
    unsigned = not context.target.signed_maps and non_negative(value)
    step = clip.step((0, high - low) if unsigned else (low, high))
    beyond = wanted.step > step * (1 + _SAME) if wanted.step else wanted.threshold > clip.high
    if not beyond:
        return None
    return (
        f"the source clips it at {clip.high:.6g}, which the hardware does by saturating there",
        f"ask for a threshold up to {clip.high:.6g} or a step up to {step:.6g}",
    )
