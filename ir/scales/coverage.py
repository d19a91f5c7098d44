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
        context: knows the magnitudes to cover; maps that saturate where the source clips stay.
        method: one of `dlaconv.ir.calibration.ranges.METHODS`.

    Returns:
        True if a map has another step than before.
    """
    changed = False
    for group in grouping.groups:
        if group.pinned:  # little clips there on data that were seen, much on others
            continue
        for item in group.classes:
            for index, variable in enumerate(item.maps):
                magnitude = context.covers.get(variable.unrounded, {}).get(method)
                if not variable.derived or not magnitude or variable.name in context.clips:
                    continue
                step = magnitude / context.target.map_range[1]
                if step == variable.source.scalar_step:
                    continue
                source = Quantisation.of(step, context.target.map_bits)
                item.maps[index] = replace(variable, source=source)
                changed = True
    return changed
