"""The weights of layers, wherever the version of Keras put them.

A ``.keras`` file counts: ``layers/conv2d_1/vars/0``. The number is that of the layer among those of
its class; Keras 3.14 and later say which layer it is. A ``.h5`` file names:
``model_weights/<layer>/<any>/kernel:0``, without the suffix from Keras 3 on; what is in a nested
model lies in the group of the outermost one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from dlaconv.frontends.keras.hdf5 import Hdf5File, StoredArray
from dlaconv.frontends.keras.network import Layer

_SUFFIX = re.compile(r":\d+$")
_FOLDERS = ("layers", "_layer_checkpoint_dependencies")


class StoredWeights:
    """The weights of a model."""

    def __init__(self, stored: Hdf5File) -> None:
        """Finds out how the file is laid out."""
        self._stored = stored
        base = () if stored.texts("layer_names") is not None else ("model_weights",)
        self._base: tuple[str, ...] | None = (
            base if stored.has(*base) and self._names(base) else None
        )
        self._folder = next((name for name in _FOLDERS if stored.has(name)), _FOLDERS[0])
        self._paths: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._known: dict[tuple[str, ...], list[tuple[str, ...]]] = {}

    @property
    def file(self) -> str:
        """The file that holds them."""
        return self._stored.file

    def find(
        self, layer: Layer, position: int, *names: str, inner: tuple[str, ...] = ()
    ) -> StoredArray | None:
        """A variable of a layer, None if the file has none.

        Args:
            layer: the layer.
            position: its place among the layer's variables, for files that count.
            names: what it may be called, for files that name.
            inner: the object within the layer that has it, for files that count.
        """
        if self._base is not None:
            return self._named(layer, names)
        return self.at(layer, *inner, "vars", str(position))

    def at(self, layer: Layer, *inner: str) -> StoredArray | None:
        """A variable of an object within a layer, for files that count."""
        if not layer.path:
            return None
        return self._stored.stored(*self._path(layer), *inner)

    def within(self, layer: Layer) -> dict[tuple[str, ...], StoredArray]:
        """Variables of a layer and of the objects in it by their path there, for files that name.

        Layers of one name in models in models are told apart by the names before.
        """
        own, before = tuple(layer.name.split("/")), "/".join(layer.names[:-1]).split("/")
        best: dict[tuple[str, ...], tuple[int, tuple[str, ...] | None]] = {}
        for item in self._listed(layer):
            starts = range(len(item) - len(own))
            at = next((n for n in starts if item[n : n + len(own)] == own), None)
            if at is None:
                continue
            path = (*item[at + len(own) : -1], _SUFFIX.sub("", item[-1]))
            near = _alike_at_end(item[:at], before)
            known, other = best.get(path, (-1, None))
            if near >= known:
                best[path] = (near, None if near == known and other != item else item)
        group = self._group(layer)
        sure = {path: item for path, (_, item) in best.items() if item is not None}
        found = {path: self._stored.stored(*group, *item) for path, item in sure.items()}
        return {path: array for path, array in found.items() if array is not None}

    @property
    def counts(self) -> bool:
        """True if the file counts variables instead of naming them."""
        return self._base is None

    def _names(self, base: tuple[str, ...]) -> bool:
        return self._stored.texts("layer_names", *base) is not None

    def _path(self, layer: Layer) -> tuple[str, ...]:
        path = tuple(self._folder if part == _FOLDERS[0] else part for part in layer.path)
        if path not in self._paths:
            self._paths[path] = self._checked(path, layer.name)
        return self._paths[path]

    def _checked(self, path: tuple[str, ...], name: str) -> tuple[str, ...]:
        """The group of a layer by its name where the file says that, else by counting."""
        if self._stored.text("name", *path, "vars") in {None, name}:
            return path
        stem = re.sub(r"_\d+$", "", path[-1])
        for other in self._stored.names(*path[:-1]):
            if (
                other.startswith(stem)
                and self._stored.text("name", *path[:-1], other, "vars") == name
            ):
                return (*path[:-1], other)
        return path

    def _group(self, layer: Layer) -> tuple[str, ...]:
        assert self._base is not None
        return (*self._base, *layer.names[0].split("/"))

    def _listed(self, layer: Layer) -> list[tuple[str, ...]]:
        """Paths of all variables in the group of a layer."""
        group = self._group(layer)
        if group not in self._known:
            listed = self._stored.texts("weight_names", *group) or []
            self._known[group] = [tuple(item.split("/")) for item in listed]
        return self._known[group]

    def _named(self, layer: Layer, names: Sequence[str]) -> StoredArray | None:
        listed = self._listed(layer)
        found = [item for item in listed if _SUFFIX.sub("", item[-1]) in names]
        for depth in range(1, len(layer.names)):  # within a model: by more and more of its name
            tail = tuple(part for name in layer.names[-depth:] for part in name.split("/"))
            near = [item for item in found if item[-1 - len(tail) : -1] == tail]
            if depth == 1 and not near:  # of a layer that was built before the model was
                near = [item for item in found if len(item) == 1]
            found = near if near or depth == 1 else found
            if len(found) == 1:
                break
        return self._stored.stored(*self._group(layer), *found[0]) if len(found) == 1 else None


def _alike_at_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two paths share at their ends."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
