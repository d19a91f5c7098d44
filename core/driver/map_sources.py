"""Which value of the source a map of the hardware stands for, and where its channels are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from dlaconv.ir.channel_layout import ChannelLayout
    from dlaconv.ir.layers import Network

LAYOUT_MARK = "/layout_"
"""Between a source tensor's name and the permutation of its axes, in the name of a map."""
FED_MARK = "/fed"
"""Ends the name of a quantised graph input where the source returns it, too."""


@dataclass(frozen=True)
class MapSource:
    """The source's value of a map.

    Attributes:
        name: its name.
        layout: where its channels are in the map.
        permutation: how its axes are permuted; empty if they are not.
        shape: the map's shape without its further channels; the value may have another one of as
            many values.
    """

    name: str
    layout: ChannelLayout
    permutation: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None

    def of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value with its axes in the map's order, without the map's further channels."""
        value = values[self.name]
        if self.permutation and sorted(self.permutation) == list(range(value.ndim)):
            value = value.transpose(self.permutation)
        if self.shape is not None and math.prod(self.shape) == value.size:
            value = value.reshape(self.shape)
        return value

    def shape_within(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the map without its further channels."""
        return shape if self.layout.is_dense else (shape[0], self.layout.channels, *shape[2:])


def find_source(
    name: str, fact: Mapping[str, Any], shape: tuple[int, ...], known: set[str]
) -> MapSource | None:
    """Finds the source's value of a map; None if the source has none.

    A map in another layout is named after the one it is made of.

    Args:
        name: the map's name.
        fact: what is known of it.
        shape: its shape.
        known: names of the source's values.
    """
    wanted, layout = str(fact.get("tensor", name)), channel_layout(fact, shape)
    own = None
    if "tensor" in fact:  # whose values may be in another shape
        own = shape if layout.is_dense else (shape[0], layout.channels, *shape[2:])
    if wanted in known:
        return MapSource(wanted, layout, shape=own)
    if wanted.removesuffix(FED_MARK) in known:
        return MapSource(wanted.removesuffix(FED_MARK), layout, shape=own)
    stem, mark, axes = wanted.rpartition(LAYOUT_MARK)
    if mark and stem in known and all(axis.isdecimal() for axis in axes.split("_")):
        return MapSource(stem, layout, tuple(int(axis) for axis in axes.split("_")), own)
    return None


def channel_layout(fact: Mapping[str, Any], shape: tuple[int, ...]) -> ChannelLayout:
    """Where the source's channels are in a map; what does not fit the shape is ignored."""
    from dlaconv.ir.channel_layout import ChannelLayout

    count = shape[1] if len(shape) > 1 else 1
    end, runs = 0, []
    for first, length in fact.get("channels", []):
        if first < end or length < 1:
            return ChannelLayout.dense(count)
        runs.append((first, length))
        end = first + length
    return ChannelLayout(count, tuple(runs)) if 0 < end <= count else ChannelLayout.dense(count)


def value_names(model: ir.Model) -> set[str]:
    """The names of all values that a model computes or is fed."""
    names = {value.name or "" for value in model.graph.inputs}
    for node in model.graph:
        names |= {value.name or "" for value in node.outputs}
    return names


def moved_values(network: Network, known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of maps that the source does not have, but whose values it has elsewhere.

    Args:
        network: the hardware's layers.
        known: the source's values in units, by map.

    Returns:
        What layers make of them that only join or move values, by map.
    """
    from dlaconv.backends.access.semantics import moving

    moves: dict[str, Callable[..., np.ndarray]] = {
        "Concat": moving.concatenate,
        "Transpose": moving.transpose,
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), moving.reshape),
    }
    found: dict[str, np.ndarray] = {}
    for layer in network.layers:
        if layer.op not in moves or layer.output.name in known:
            continue
        parts = [found.get(item.name, known.get(item.name)) for item in layer.inputs]
        given = [part for part in parts if part is not None]
        if len(given) == len(parts):
            found[layer.output.name] = moves[layer.op](layer, *given)
    return found
