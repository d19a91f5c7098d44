"""How much of their values the maps cover that the source leaves in floating point."""

from __future__ import annotations

from dataclasses import replace

from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.scales.groups import Grouping


def cover(grouping: Grouping, context: Context, method: str) -> bool:
    """Gives derived maps the steps of a range method as their natural ones.

    Args:
        grouping: the maps, changed in place.
        context: knows the magnitudes to cover. Maps that saturate where the source clips, those
            with powers of two as steps and graph outputs stay.
        method: one of `dlaconv.ir.calibration.ranges.METHODS`.

    Returns:
        True if a map has another step than before.
    """
    changed = False
    for group in grouping.groups:
        for item in group.classes:
            for index, variable in enumerate(item.maps):
                magnitude = context.covers.get(variable.unrounded, {}).get(method)
                if not variable.derived or not magnitude or variable.name in context.clips:
                    continue
                if group.pinned or variable.node.outputs[0].is_graph_output():
                    continue  # what clips on other data is not seen on those that are tried
                step = magnitude / context.target.map_range[1]
                if step == variable.source.scalar_step:
                    continue
                source = Quantisation.of(step, context.target.map_bits)
                item.maps[index] = replace(variable, source=source)
                changed = True
    return changed
