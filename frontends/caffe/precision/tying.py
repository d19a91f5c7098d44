"""Which blobs share a threshold, and whose range it is.

CHaiDNN's Eltwise and Concat work on the integers of their bottoms, and pooling and ReLU hand them
on. As XportDNN has it, a Concat gets the threshold of its result and an Eltwise the largest of its
bottoms', which all tied to them then share; pooling, LRN and what moves values keep that of what
they read. A layer in place measures its blob anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision.kinds import MOVING, taken_along

_COPIED = MOVING | {"LRN", "Pooling"}


class Ties:
    """Blobs in groups that share a threshold; of blobs in place, the last value counts."""

    def __init__(
        self, layers: Sequence[Layer], reaches: Mapping[str, float], *, sums: bool
    ) -> None:
        """Finds the groups.

        Args:
            layers: the layers that run.
            reaches: how far the integers of each blob should reach.
            sums: the result of an Eltwise counts beside its bottoms; XportDNN leaves it out unless
                a layer in place changes it.
        """
        self._above: dict[str, str] = {}
        self._own = dict(reaches)
        self._readers: dict[str, int] = {}
        self._changed: set[str] = set()
        self._sums = sums
        for layer in layers:
            for name in layer.bottoms:
                if name not in layer.tops:
                    self._readers[name] = self._readers.get(name, 0) + 1
                elif layer.type not in _COPIED:
                    self._changed.add(name)
        for chain in taken_along(layers):
            for layer in chain[1:]:
                self._hand_on(layer)
        for layer in layers:
            if layer.bottoms and layer.tops:
                self._tie(layer)
        self.reach: dict[str, float] = {}
        for name in reaches:
            key = self.group(name)
            self.reach[key] = max(self.reach.get(key, 0.0), self._own.get(name, 0.0))

    def group(self, name: str) -> str:
        """The blob that stands for all that share a threshold with one."""
        while (above := self._above.get(name, name)) != name:
            name = above
        return name

    def _join(self, names: Sequence[str]) -> None:
        first = self.group(names[0])
        for name in names[1:]:
            if (other := self.group(name)) != first:
                self._above[other] = first

    def _tie(self, layer: Layer) -> None:
        """Ties what a layer reads and writes, and drops the ranges that count no more."""
        if layer.type == "Concat":
            self._join([*layer.tops, *layer.bottoms])
            for name in layer.bottoms:
                self._own.pop(name, None)
        elif layer.type == "Eltwise" and _adds(layer):
            self._join([*layer.tops, *layer.bottoms])
            if not self._sums and layer.tops[0] not in self._changed:
                self._own.pop(layer.tops[0], None)
        elif layer.type in _COPIED:
            self._join([layer.bottoms[0], *layer.tops])
            for name in layer.tops:
                if name not in {*layer.bottoms, *self._changed}:
                    self._own.pop(name, None)
        elif layer.type == "ReLU" and not layer.param("relu_param").number("negative_slope"):
            self._hand_on(layer)

    def _hand_on(self, layer: Layer) -> None:
        """Ties a result to that of a layer that is computed with it; the latter counts."""
        bottom, top = layer.bottoms[0], layer.tops[0]
        if bottom != top:
            self._join([top, bottom])
            if self._readers.get(bottom) == 1:
                self._own.pop(bottom, None)


def _adds(layer: Layer) -> bool:
    """True for an Eltwise whose result has the unit of its bottoms; factors would change it."""
    param = layer.param("eltwise_param")
    return param.text("operation") != "PROD" and not param.has("coeff")
