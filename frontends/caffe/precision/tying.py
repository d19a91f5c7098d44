"""Which maps share a threshold, and whose range it is.

CHaiDNN's Eltwise and Concat work on the integers of their bottoms, and pooling and ReLU hand them
on. As XportDNN has it, a Concat gets the threshold of its result and an Eltwise the largest of its
bottoms', which all tied to them then share; pooling, LRN and what moves values keep that of what
they read, and a ReLU decides for the layer before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision.flow import taken_along
from dlaconv.frontends.caffe.precision.kinds import MOVING

_COPIED = MOVING | {"LRN", "Pooling"}

Map = tuple[str, int]
"""A value of a blob: its name, and how many layers had written to it before."""


@dataclass(frozen=True)
class Uses:
    """The maps of one layer.

    Attributes:
        reads: its bottoms.
        writes: its tops.
    """

    reads: list[Map]
    writes: list[Map]


def maps_of(layers: Sequence[Layer]) -> dict[int, Uses]:
    """The maps that each layer reads and writes, by the identity of the layer."""
    written: dict[str, int] = {}
    found = {}
    for layer in layers:
        reads = [(name, written.get(name, 0) - 1) for name in layer.bottoms]
        writes = [(name, written.get(name, 0)) for name in layer.tops]
        written.update({name: count + 1 for name, count in writes})
        found[id(layer)] = Uses(reads, writes)
    return found


class Ties:
    """Maps in groups that share a threshold.

    Attributes:
        maps: what each layer reads and writes, by its identity.
        reach: how far the integers of each group should reach, by the map that stands for it.
    """

    def __init__(
        self, layers: Sequence[Layer], reaches: Mapping[Map, float], *, sums: bool
    ) -> None:
        """Finds the groups.

        Args:
            layers: the layers that run.
            reaches: how far the integers of each map should reach.
            sums: the result of an Eltwise counts beside its bottoms; XportDNN leaves it out.
        """
        self.maps = maps_of(layers)
        self._above: dict[Map, Map] = {}
        self._own = dict(reaches)
        self._readers: dict[Map, int] = {}
        self._sums = sums
        for uses in self.maps.values():
            for item in uses.reads:
                self._readers[item] = self._readers.get(item, 0) + 1
        for chain in taken_along(layers):
            for layer in chain[1:]:
                self._hand_on(self.maps[id(layer)])
        for layer in layers:
            if layer.bottoms and layer.tops:
                self._tie(layer, self.maps[id(layer)])
        self.reach: dict[Map, float] = {}
        for item in reaches:
            key = self.group(item)
            self.reach[key] = max(self.reach.get(key, 0.0), self._own.get(item, 0.0))

    def group(self, item: Map) -> Map:
        """The map that stands for all that share a threshold with one."""
        while (above := self._above.get(item, item)) != item:
            item = above
        return item

    def _join(self, items: Sequence[Map]) -> None:
        first = self.group(items[0])
        for item in items[1:]:
            if (other := self.group(item)) != first:
                self._above[other] = first

    def _tie(self, layer: Layer, uses: Uses) -> None:
        """Ties what a layer reads and writes, and drops the ranges that count no more."""
        if layer.type == "Concat":
            self._join([*uses.writes, *uses.reads])
            for item in uses.reads:
                self._own.pop(item, None)
        elif layer.type == "Eltwise" and _adds(layer):
            self._join([*uses.writes, *uses.reads])
            if not self._sums:
                self._own.pop(uses.writes[0], None)
        elif layer.type in _COPIED:
            self._join([uses.reads[0], *uses.writes])
            for item in uses.writes:
                self._own.pop(item, None)
        elif layer.type == "PReLU" or _leaks(layer):
            self._join([*uses.writes, *uses.reads])
        elif layer.type == "ReLU":
            self._hand_on(uses)

    def _hand_on(self, uses: Uses) -> None:
        """Ties a result to that of a layer that is computed with it; the latter counts."""
        self._join([uses.writes[0], uses.reads[0]])
        if self._readers[uses.reads[0]] == 1:
            self._own.pop(uses.reads[0], None)


def _adds(layer: Layer) -> bool:
    """True for an Eltwise whose result has the unit of its bottoms; factors would change it."""
    param = layer.param("eltwise_param")
    return param.text("operation") != "PROD" and not param.has("coeff")


def _leaks(layer: Layer) -> bool:
    return layer.type == "ReLU" and layer.param("relu_param").number("negative_slope") != 0
