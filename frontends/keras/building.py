"""What a layer is turned into: values of the graph, each with the shape that Keras gives it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.building import (
    MOST_ELEMENTS,
    BuildingGraph,
    BuildingLayer,
    Dim,
    RefusalError,
    sizes_of,
)
from dlaconv.frontends.keras.network import Layer
from dlaconv.frontends.keras.stored import StoredWeights
from dlaconv.ir import provenance
from dlaconv.ir.layout_names import Turned

Shape = tuple[Dim, ...]
"""A shape as Keras has it; only the batch, axis 0, may be open."""
shape_of = sizes_of
_TOGETHER = "give the file that was saved together with the model"


@dataclass
class KerasGraph(BuildingGraph):
    """The graph as it grows, and what is known about the model.

    Attributes:
        generation: the generation of Keras that wrote the file, 2 or 3.
        stored: the weights.
        shared: constants of layers that are called several times, by layer and what they are.
    """

    generation: int
    stored: StoredWeights
    shared: dict[tuple[Layer, str], ir.Value] = field(default_factory=dict)


@dataclass
class KerasLayer(BuildingLayer):
    """One call of a layer on its way into the graph; what a handler gets.

    Attributes:
        layer: the layer as written.
        graph: where it goes.
        arguments: what it is called with, values of the graph in place of tensors.
        keywords: the same by name.
        inputs: the values among both, in order.
        overrides: parameters in place of those of the layer.
    """

    layer: Layer
    graph: KerasGraph
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    inputs: list[ir.Value]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    advice = "check the layer's parameters, and save the model again"
    unread = ("DLA178", "unread-layer")

    @property
    def x(self) -> ir.Value:
        """The one value that it reads."""
        if len(self.inputs) != 1:
            self.refuse(f"{self.layer.kind} reads one tensor, not {len(self.inputs)}")
        return self.inputs[0]

    @property
    def config(self) -> Mapping[str, Any]:
        """The layer's parameters."""
        return {**self.layer.config, **self.overrides} if self.overrides else self.layer.config

    @property
    def name(self) -> str:
        """The layer's name, behind those of the models that it is in."""
        return "/".join(self.layer.names)

    @property
    def channels_last(self) -> bool:
        """True unless the layer has its channels on axis 1."""
        order = self.config.get("data_format") or "channels_last"
        if order not in ("channels_last", "channels_first"):
            self.refuse(f"data_format {order!r}")
        return bool(order == "channels_last")

    def given(self, *names: str) -> Any:
        """A parameter by the first of its names that has a value; None for none."""
        found = (self.config.get(name) for name in names)
        return next((item for item in found if item is not None), None)

    def argument(self, position: int, *names: str, default: Any = None) -> Any:
        """A parameter of an operation, wherever it is: by name, or an argument at a position."""
        for name in names:
            for place in (self.config, self.keywords):
                if place.get(name) is not None:
                    return place[name]
        if position < len(self.arguments) and self.arguments[position] is not None:
            return self.arguments[position]
        return default

    def flag(self, name: str, default: bool) -> bool:
        """A parameter that is on or off."""
        value = self.given(name)
        if value is None:
            return default
        if not isinstance(value, (bool, int)):
            self.refuse(f"{name} is {value!r}, neither true nor false")
        return bool(value)

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A parameter that is an integer; without a default it must be there."""
        value = self.given(name)
        value = default if value is None else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= MOST_ELEMENTS:
            self.refuse(f"{name} is {value!r}, no integer of at least {least}")
        return value

    def integers(self, name: str, count: int, default: int | None = None) -> tuple[int, ...]:
        """A parameter of ``count`` positive integers, or one for all of them."""
        value = self.given(name)
        value = default if value is None else value
        values = [value] * count if type(value) is int else value
        if (
            not isinstance(values, list)
            or len(values) != count
            or not all(type(item) is int and 1 <= item <= MOST_ELEMENTS for item in values)
        ):
            self.refuse(f"{name} is {value!r}, not {count} positive integers")
        return tuple(values)

    def number(self, *names: str, default: float | None = None) -> float:
        """A parameter that is a number; as an array it must have one element."""
        value = self.given(*names)
        found = number_of(default if value is None else value)
        if found is None:
            self.refuse(f"{names[0]} is {str(value)[:60]}, no number")
        return found

    def numbers(self, name: str, default: float) -> np.ndarray:
        """A parameter that is a number or nested lists of them, as float64."""
        value = self.given(name)
        try:
            found = np.asarray(default if value is None else value, np.float64)
        except (TypeError, ValueError):
            self.refuse(f"{name} is {str(value)[:60]}, no numbers")
        if not np.isfinite(found).all():
            self.refuse(f"{name} has a value that is not finite")
        return found

    def axis(self, number: Any, rank: int, name: str = "axis") -> int:
        """An axis, counted from the end if negative; Keras 2 writes some as a list of one."""
        if isinstance(number, list) and len(number) == 1:
            number = number[0]
        if type(number) is not int or not -rank <= number < rank:
            self.refuse(f"{name} {number!r} of {rank} dimensions")
        return int(number) % rank

    def require_rank(self, *ranks: int) -> Shape:
        """The shape of what the layer reads, which must have one of the ranks."""
        shape = shape_of(self.x)
        if len(shape) not in ranks:
            wanted = " or ".join(map(str, ranks))
            self.refuse(f"{self.layer.kind} reads {wanted} dimensions, not {list(shape)}")
        return shape

    def variable(
        self, position: int, shape: tuple[int, ...], *names: str, inner: tuple[str, ...] = ()
    ) -> np.ndarray:
        """A variable of the layer.

        Args:
            position: its place among the variables of the layer.
            shape: the shape that the layer's parameters ask for.
            names: what it may be called; the first is for messages.
            inner: the object within the layer that it belongs to.

        Returns:
            Its values, float32 unless they are integers.
        """
        stored = self.graph.stored.find(self.layer, position, *names, inner=inner)
        if stored is None:
            raise self.absent(names[0])
        if stored.shape != shape:
            raise self.refusal(
                "DLA177",
                "keras-weight-shape",
                f"{names[0]} has shape {list(stored.shape)} in the file, {list(shape)} by the "
                "layer's parameters",
                remedy=_TOGETHER,
            )
        array = stored.read()
        return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array

    def weight(
        self,
        position: int,
        shape: tuple[int, ...],
        *names: str,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> ir.Value:
        """A variable as a constant; all calls of the layer share it.

        Args:
            position: see `variable`.
            shape: see `variable`.
            names: see `variable`.
            change: gives it the layout that the graph needs.
        """

        def made() -> ir.Value:
            array = self.variable(position, shape, *names)
            if array.dtype != np.float32:
                self.refuse(f"{names[0]} is stored as {array.dtype}")
            array = change(array) if change is not None else array
            return self.graph.constant(f"{self.name}/{names[0]}", array)

        return self.shared(names[0], made)

    def shared(self, what: str, make: Callable[[], ir.Value]) -> ir.Value:
        """A value that the first call of the layer makes, and all others read as well."""
        key = (self.layer, what)
        if key not in self.graph.shared:
            self.graph.shared[key] = make()
        return self.graph.shared[key]

    def absent(self, what: str) -> RefusalError:
        """An error to be raised: the file has no such variable of the layer."""
        return self.refusal(
            "DLA176",
            "absent-weights",
            f"{self.graph.stored.file} has no {what} for the layer",
            remedy=_TOGETHER,
        )

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shape: Sequence[Dim],
        attributes: Mapping[str, Any] | None = None,
        *,
        name: str = "",
    ) -> ir.Value:
        """Adds a node and returns what it makes.

        Args:
            op_type: a standard operator of opset 18.
            inputs: what it reads.
            shape: the shape of its result.
            attributes: its attributes.
            name: what it is called, after the layer unless given.
        """
        stem = name or f"{self.name}/{op_type.lower()}"
        node = self.add_node(op_type, inputs, [shape], attributes, stem)
        provenance.mark(node, self.name, self.layer.kind)
        return node.outputs[0]

    def transposed(self, value: ir.Value, perm: Sequence[int]) -> ir.Value:
        """A value with its axes in another order; two changes of order in a row become one."""
        node = value.producer()
        if node is not None and node.op_type == "Transpose" and node.inputs[0] is not None:
            first = node.attributes["perm"].as_ints()
            value, perm = node.inputs[0], [first[axis] for axis in perm]
        if list(perm) == sorted(perm):
            return value
        shape = shape_of(value)
        given = value in self.graph.inputs
        name = Turned(value.name or "", tuple(perm)).name if given else ""
        result = [shape[axis] for axis in perm]
        return self.op("Transpose", [value], result, {"perm": list(perm)}, name=name)

    def channels_first(self, value: ir.Value) -> ir.Value:
        """A map with its channels on axis 1, from the layer's own order."""
        rank = len(shape_of(value))
        if not self.channels_last:
            return value
        return self.transposed(value, [0, rank - 1, *range(1, rank - 1)])

    def own_order(self, value: ir.Value) -> ir.Value:
        """A map with its channels on axis 1 in the layer's own order."""
        rank = len(shape_of(value))
        return self.transposed(value, [0, *range(2, rank), 1]) if self.channels_last else value

    def reshaped(self, value: ir.Value, shape: Shape) -> ir.Value:
        """A value in another shape."""
        if shape_of(value) == shape:
            return value
        target = [0 if axis == 0 else size for axis, size in enumerate(shape)]
        if not shape or shape_of(value)[:1] != shape[:1]:
            target = [-1 if size is None else size for size in shape]
        return self.op(
            "Reshape", [value, self.constant("shape", np.asarray(target, np.int64))], shape
        )


def number_of(value: Any) -> float | None:
    """A number, also of an array of one element as Keras 2 and 3 write it; None for no number."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        inner = value.get("config")
        value = value.get("value", inner.get("value") if isinstance(inner, Mapping) else None)
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if right and math.isfinite(value) else None


Handler = Callable[[KerasLayer], "list[ir.Value]"]
"""Adds the nodes of a call and returns its results in their order."""
