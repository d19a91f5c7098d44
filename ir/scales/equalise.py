"""Cross-layer equalisation: channels of a map that use little of its range are made larger.

A map has one step, so a channel whose values are small is rounded coarsely. Layers around a map
can undo any positive factor per channel: rows of the weights before it are multiplied by f, columns
of the weights behind it divided by f (Nagel et al., ICCV 2019; Meller et al., ICML 2019). Weights
have a step per output channel, so rows lose nothing; columns do, and channels are measured on few
data. So half of the distance is gone, on the logarithmic scale:

    f = sqrt(max(A) / min(max(A), 1.4 A)), at most 4

with A how far each channel reaches, see `ChannelValues.reach`. Maps that Add, pooling and
activations tie together have one factor per channel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.calibration.channels import ChannelValues
from dlaconv.ir.calibration.histogram import Histogram
from dlaconv.ir.calibration.ranges import coverings
from dlaconv.ir.graph import register_constants, shape_of
from dlaconv.ir.passes.maps.channel_ratios import Ratios, RatioWalk, channel_vector
from dlaconv.ir.passes.maps.derive_maps import note_values
from dlaconv.ir.passes.maps.per_channel_maps import apply_ratios
from dlaconv.ir.pipeline import Context, Rewrite

_UNSEEN = 1.4
"""How much larger the values of a channel may be on data that were not seen."""
_LARGEST = 4.0
_WORTH = 1.05
"""A factor below this is not worth a change."""


def equalise(model: ir.Model, context: Context, channels: Mapping[str, ChannelValues]) -> int:
    """Makes small channels larger, in the weights around every map that allows it.

    Maps that the source quantises, that saturate where it clips, that have an override, and those
    tied to a graph input or output or to an operator that does not commute with factors stay.

    Args:
        model: a MAPPED model, changed in place.
        context: knows the derived maps; gets their new values and ranges.
        channels: values of maps on data, by name of the unrounded value.

    Returns:
        Number of maps that were changed.
    """
    free = {node for node in model.graph if _is_free(node, context, channels)}
    walk, done = RatioWalk(model, context.target, free), set[ir.Node]()
    for node in [node for node in model.graph if node in free]:
        if node not in done:
            done |= _equalise_tied(model, node, walk, context, channels)
    return len(done)


def _is_free(node: ir.Node, context: Context, channels: Mapping[str, ChannelValues]) -> bool:
    if not dialect.is_quantize(node):
        return False
    name, unrounded = node.outputs[0].name or "", node.inputs[0]
    fixed = context.clips.keys() | context.signs | context.overrides.ranges.keys()
    return (
        name in context.derived
        and name not in fixed
        and unrounded is not None
        and unrounded.name in channels
        and len(shape_of(node.outputs[0]) or ()) > 1
    )


def _equalise_tied(
    model: ir.Model,
    start: ir.Node,
    walk: RatioWalk,
    context: Context,
    channels: Mapping[str, ChannelValues],
) -> set[ir.Node]:
    """Equalises all maps that are tied to one; returns those that were changed."""
    rank, count = len(shape_of(start.outputs[0]) or ()), (shape_of(start.outputs[0]) or (1, 1))[1]
    shape = (1, count) + (1,) * (rank - 2)
    marks = np.linspace(2.0, 3.0, count)  # tells which channel each channel of a tied map is
    found = walk.spread(start, marks.reshape(shape))
    tied = [node for node in walk.free if node.outputs[0] in found.of]
    if found.problems or count < 2:
        return set()
    used = np.zeros(count)
    for node in tied:
        seen, which = channels[_unrounded(node)], _channels(node, found)
        if which is None or len(which) != len(seen.largest):
            return set()
        marked = which >= marks[0]
        reach = seen.reach()
        share = reach / max(reach.max(), np.finfo(np.float32).tiny)
        np.maximum.at(used, np.searchsorted(marks, which[marked] - 1e-9), share[marked])
    factors = np.sqrt(1 / np.clip(_UNSEEN * used, _LARGEST**-2, 1.0))
    factors[used == 0] = 1.0
    if factors.max() < _WORTH * factors.min():
        return set()
    ratios = walk.spread(start, factors.reshape(shape))
    if ratios.problems:
        return set()
    apply_ratios(model, ratios, context)
    for node in tied:
        vector = _channels(node, ratios)
        assert vector is not None
        _note_values(node, channels[_unrounded(node)].times(vector), context)
    context.rewrites.append(
        Rewrite(
            "equalise",
            provenance.location(start).layer,
            f"channels are made up to {factors.max() / factors.min():.3g} times as large, which "
            "the weights around the map undo",
        )
    )
    return set(tied)


def _channels(node: ir.Node, ratios: Ratios) -> np.ndarray | None:
    result = node.outputs[0]
    return channel_vector(ratios.of[result], (shape_of(result) or (1, 1))[1])


def _unrounded(node: ir.Node) -> str:
    assert node.inputs[0] is not None
    return node.inputs[0].name or ""


def _note_values(node: ir.Node, values: ChannelValues, context: Context) -> None:
    """Replaces what is known of a derived map's values, and its step."""
    histogram = Histogram()
    histogram.add(values.values)
    histogram.add(np.array([values.largest.max()]))
    low, high = context.target.map_range
    unsigned = (node.outputs[0].name or "") in context.positive
    covers = coverings(histogram, context.ranges, high - low if unsigned else high)
    step = note_values(_unrounded(node), values.values.reshape(-1), covers, context)
    node.replace_input_with(1, dialect.constant(f"{node.name}/step", np.asarray(step, np.float32)))
    assert isinstance(node.graph, ir.Graph)
    register_constants(node.graph, [node])
