"""Which value of the source a map of the hardware stands for, and where its channels are."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaconv.ir.layout_names import turned

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.arrays import Shape
    from dlaconv.driver.facts import Facts
    from dlaconv.ir.channel_layout import ChannelLayout
    from dlaconv.ir.layers import Layer, Network

FED_MARK = "/fed"
"""Ends the name of a quantised graph input where the source returns it, too."""
DERIVED_MARK = "/derived/out"
"""Ends the name of a quantised graph input that the source does not quantise."""
_ERRORS = ("source_step", "rounding", "bias_error", "requantised")
"""Facts that say how far a map may be off."""


@dataclass(frozen=True)
class MapSource:
    """The source's value of a map.

    Attributes:
        name: its name.
        layout: where its channels are in the map.
        permutation: how its axes are permuted; empty if they are not.
        sizes: the shape, without its batch, that it is given before that; empty for its own.
        shape: the map's shape without its further channels; the value may have another one of as
            many values.
    """

    name: str
    layout: ChannelLayout
    permutation: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None

    def of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value with its axes in the map's order, without the map's further channels."""
        value = values[self.name]
        if self.sizes and math.prod(self.sizes) == math.prod(value.shape[1:]):
            value = value.reshape(-1, *self.sizes)
        if len(self.permutation) == value.ndim:
            value = value.transpose(self.permutation)
        if self.shape is not None and math.prod(self.shape) == value.size:
            value = value.reshape(self.shape)
        return value

    def back(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The value of which `of` makes an array.

        Args:
            array: with its axes in the map's order, without the map's further channels.
            shape: the value's shape.
        """
        before = (shape[0], *self.sizes) if self.sizes else shape
        axes = self.permutation or tuple(range(len(before)))
        undone = sorted(range(len(axes)), key=axes.__getitem__)
        turned_back = array.reshape([before[axis] for axis in axes]).transpose(undone)
        return turned_back.reshape(shape)

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
    dense = shape if layout.is_dense else (shape[0], layout.channels, *shape[2:])
    own = dense if "tensor" in fact else None  # whose values may be in another shape
    for candidate in (wanted, wanted.removesuffix(FED_MARK)):
        if candidate in known:
            return MapSource(candidate, layout, shape=own)
        place = turned(candidate)
        if place is not None and place.stem in known:
            fitted = dense if place.sizes else own
            return MapSource(place.stem, layout, place.permutation, place.sizes, fitted)
    if wanted != name and turned(name) is not None and not wanted.endswith(DERIVED_MARK):
        # rounded before it is turned: the source may have only the end of that
        return find_source(name, {k: v for k, v in fact.items() if k != "tensor"}, shape, known)
    return None


def in_layout(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape | None]
) -> dict[str, np.ndarray]:
    """Stacked arrays, those of the source turned into the layout of the maps that take them.

    An array is the source's if it has the name of its tensor, or if it is the only one that has
    its shape and none has the map's.

    Args:
        arrays: stacked samples by name.
        shapes: the inputs of a converted file with their shapes.
    """
    found = dict(arrays)
    for name, shape in shapes.items():
        place = turned(name)
        if name in found or place is None or place.sizes or shape is None:
            continue
        stem, axes = place.stem, place.permutation
        if len(axes) != len(shape) or axes[0]:
            continue
        own = [shape[axes.index(axis)] for axis in range(len(axes))]
        same = [key for key, array in arrays.items() if _fits(array, own)]
        there = [key for key, array in arrays.items() if _fits(array, shape)]
        key = stem if stem in same else same[0] if len(same) == 1 and not there else None
        if key is not None:
            found[name] = np.asarray(found.pop(key)).transpose(axes)
    return found


def _fits(array: np.ndarray, shape: Shape) -> bool:
    return len(array.shape) == len(shape) and all(
        size in {None, found} for size, found in zip(shape[1:], array.shape[1:], strict=True)
    )


def seam_sources(
    inputs: Mapping[str, tuple[int, ...]], source: ir.Model, facts: Facts
) -> dict[str, MapSource]:
    """The source's values of a part's inputs that are no graph inputs of the source.

    Args:
        inputs: the part's inputs with their shapes.
        source: the network that was cut.
        facts: what is known of the part's maps.
    """
    heads, known = {value.name for value in source.graph.inputs}, value_names(source)
    found = {}
    for name, shape in inputs.items():
        if name in heads:
            continue
        tensor = str(facts.get(name, {}).get("tensor", name))
        stem = tensor.removesuffix(DERIVED_MARK).removesuffix(FED_MARK)
        found[name] = find_source(name, {}, shape, known)
        found[name] = found[name] or find_source(name, {"tensor": stem}, shape, known)
    return {name: place for name, place in found.items() if place is not None}


def reshaped_seams(whole: ir.Model, seams: Collection[str]) -> dict[str, str]:
    """What a Reshape makes a part's inputs of, which have the same values in the same order.

    Args:
        whole: the network before it was cut.
        seams: the inputs of a part that other parts make.
    """
    from dlaconv.ir.graph import is_op

    origins: dict[str, str] = {}
    for node in whole.graph:
        if is_op(node, "Reshape") and node.inputs[0] is not None:
            before = node.inputs[0].name or ""
            origins[node.outputs[0].name or ""] = origins.get(before, before)
    return {name: origins[name] for name in seams if name in origins}


def unquantised_inputs(network: Network, facts: Facts, known: set[str]) -> dict[str, MapSource]:
    """The source's values of graph inputs that it does not quantise.

    They are no maps of the source. Layers that read them are judged by what they make of these
    values, since how the hardware rounds them is none of their errors.

    Args:
        network: the hardware's layers.
        facts: what is known of its maps.
        known: names of the source's values.
    """
    found = {}
    for stored in network.inputs:
        fact = facts.get(stored.name, {})
        tensor = str(fact.get("tensor", ""))
        if tensor.endswith(DERIVED_MARK) and "real_step" in fact:
            own = {**fact, "tensor": tensor.removesuffix(DERIVED_MARK)}
            found[stored.name] = find_source(stored.name, own, stored.shape, known)
    return {name: source for name, source in found.items() if source is not None}


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


def with_moved_errors(
    fact: Mapping[str, Any],
    layer: Layer | None,
    matched: Collection[str],
    before: Mapping[str, Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Facts of a map, with the errors of maps that its layer moves and the source does not have.

    Such a map is not given, but computed from what was given before it.

    Args:
        fact: what is known of the map.
        layer: what makes it, None for a graph input.
        matched: maps that the source has a value for.
        before: facts of the maps before.
    """
    from dlaconv.ir.layers import MOVING

    if layer is None or layer.op not in MOVING:
        return fact
    moved = [before[item.name] for item in layer.inputs if item.name not in matched]
    found = {key: item[key] for item in moved for key in _ERRORS if key in item}
    largest = max((max(map(abs, item.get("step_errors", [0]))) for item in moved), default=0)
    if largest:
        found["step_errors"] = [largest] * layer.output.shape[1]
    return {**found, **fact}
