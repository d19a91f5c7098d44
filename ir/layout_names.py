"""Names of maps whose values are those of a tensor of the source in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
"""Permutations of pictures: channels first, channels last."""
MARK = "/layout_"
"""Between the name of the tensor and how its values are permuted."""


@dataclass(frozen=True)
class Turned:
    """A map that holds a tensor's values in another order.

    Attributes:
        stem: the tensor's name.
        permutation: of its axes.
        sizes: the shape, without its batch, that it is given before; empty for its own.
    """

    stem: str
    permutation: tuple[int, ...]
    sizes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """``x/layout_0_3_1_2``, or ``x/layout_8x8x16_0_3_1_2`` of a tensor that is flat."""
        shaped = ["x".join(map(str, self.sizes))] if self.sizes else []
        return f"{self.stem}{MARK}{'_'.join([*shaped, *map(str, self.permutation)])}"


def turned(name: str) -> Turned | None:
    """Reads such a name back; None if it is of another kind."""
    stem, mark, words = name.rpartition(MARK)
    first, *axes = words.split("_")
    sizes = first.split("x") if "x" in first else []
    axes = axes if sizes else [first, *axes]
    if not mark or not axes or not all(word.isdecimal() for word in [*sizes, *axes]):
        return None
    found = Turned(stem, tuple(map(int, axes)), tuple(map(int, sizes)))
    return found if sorted(found.permutation) == list(range(len(axes))) else None


def plain_name(name: str) -> str:
    """The tensor that a map is named after, for messages; the map's own name if there is none."""
    found = turned(name)
    return name if found is None else found.stem


def own_layout(name: str, shape: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """The tensor that a map is named after, with its shape; what is given for maps as they are.

    Args:
        name: the map's name.
        shape: its shape.
    """
    found = turned(name)
    if found is None or found.sizes or len(found.permutation) != len(shape):
        return name, tuple(shape)
    places = found.permutation
    return found.stem, tuple(shape[places.index(axis)] for axis in range(len(shape)))
