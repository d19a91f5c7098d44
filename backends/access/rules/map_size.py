"""IO-4: the height and width of feature maps."""

from __future__ import annotations

from collections.abc import Iterator

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.backends.access.rules.wording import by, span, within
from dlaconv.diagnostics import Diagnostic


class OversizedMap(Rule):
    """A computed feature map is larger than the hardware can store.

    What it does: Checks height and width of every 4-D map that the network computes, where the size
    arises; maps that only inherit it are not reported again.

    Why it matters on the hardware: The guide limits the maps that are stored between layers. It
    also allows convolutions on larger maps, which we read as the graph input; a target file with a
    larger map_size relaxes this rule.

    What to do: Reduce the size in the first layer (stride 2), or run the network on tiles.
    """

    id = "IO-4"
    name = "oversized-map"
    clause = "A, Feature map: resolution 1x1 to 256x256."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields one finding per map at which an illegal size arises."""
        limits = model.target.map_size
        for value, node in model.produced_maps:
            shape = model.shape(value)
            size = shape[2:] if shape is not None and len(shape) == 4 else ()
            if all(within(extent, limits) for extent in size if extent is not None):
                continue
            source = next(iter(model.map_inputs(node)), None)
            before = model.shape(source) if source is not None and source.producer() else None
            if before is not None and before[2:] == size:
                continue
            yield self.finding(
                model.location(value),
                f"map {value.name!r} is {by(size)}, each side must be {span(limits)}",
            )
