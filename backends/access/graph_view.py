"""`GraphView`: a file as a graph of nodes, values and attributes, whatever state it is in.

Foreign files are normal here: missing or misspelt attributes, missing shapes, weights in Constant
nodes. Accessors therefore return None for what is not there, raise `Malformed` for a standard
attribute that has the wrong form, and `Unknown` for what cannot be told from the file; nothing else
gets out of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.standard_form import infer_shapes
from dlaconv.diagnostics import Location
from dlaconv.ir import provenance
from dlaconv.ir.target import Target

PIPELINED = ("Relu", "LeakyRelu", "PRelu")
"""Activations that the hardware applies on the way out of another operator."""
PIECEWISE = ("Tanh", "Sigmoid", "HardSwish")
"""Activations that the hardware approximates piecewise linearly."""
RESHAPING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that move values without changing them."""
MAP_BIT_DEPTHS = ("input_bitdepth", "A_bitdepth", "B_bitdepth", "output_bitdepth")
"""Attributes with the bits of a map; an alias of one stands for every map of its node."""

Shape = tuple[int | None, ...]
"""A shape with None for every dimension that is not static."""

_NO_MAP_TYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})
_NUMBER_TYPES = frozenset({ir.AttributeType.FLOAT, ir.AttributeType.INT})
_LIST_TYPES = frozenset({ir.AttributeType.FLOATS, ir.AttributeType.INTS})


class Malformed(Exception):  # noqa: N818 - a finding about the file, not an error of ours
    """An attribute or constant of the file has no usable form; says which and why."""


class Unknown(Exception):  # noqa: N818
    """The file does not tell a shape or a value; another rule reports the cause."""


class GraphView:
    """The main graph of a file.

    Attributes:
        model: the file as read; never changed.
        target: the hardware, for the names of attributes.
        nodes: the nodes of the main graph in file order, without Constant nodes.
        inputs: the graph inputs that are no initializers.
    """

    def __init__(self, model: ir.Model, target: Target) -> None:
        self.model = model
        self.target = target
        self.nodes = tuple(
            node
            for node in model.graph
            if not (in_onnx_domain(node) and node.op_type == "Constant")
        )
        self.inputs = tuple(
            value for value in model.graph.inputs if value.name not in model.graph.initializers
        )
        self._by_op: dict[str, list[ir.Node]] = {}
        for node in self.nodes:
            if in_onnx_domain(node):
                self._by_op.setdefault(node.op_type, []).append(node)
        self._inferred: dict[str, Shape] | None = None

    # Nodes

    def nodes_of(self, *op_types: str) -> Iterator[ir.Node]:
        """The standard nodes of some types, type by type in file order."""
        for op_type in op_types:
            yield from self._by_op.get(op_type, ())

    @cached_property
    def depthwise_convolutions(self) -> tuple[ir.Node, ...]:
        """Convolutions with one filter per channel (group = channels in = channels out > 1)."""
        return tuple(node for node in self.nodes_of("Conv") if self.is_depthwise(node))

    @cached_property
    def standard_convolutions(self) -> tuple[ir.Node, ...]:
        """All other convolutions, grouped ones among them."""
        return tuple(node for node in self.nodes_of("Conv") if not self.is_depthwise(node))

    def is_depthwise(self, node: ir.Node) -> bool:
        """True for a convolution with one filter per channel."""
        shape = self.shape(input_of(node, 1))
        group = self.number(node, "group") or 1
        if shape is None or len(shape) < 2 or shape[0] is None or shape[1] is None:
            return False
        return 1 < group == shape[0] == group * shape[1]

    # Values

    def array(self, value: ir.Value | None) -> np.ndarray | None:
        """The numbers of an initializer or Constant node, None for anything else."""
        if value is None:
            return None
        try:
            tensor = ir.convenience.get_const_tensor(value)
            array = None if tensor is None else tensor.numpy()
        except Exception:  # a tensor that is read lazily fails in whatever way its file makes it
            return None
        if array is None or array.dtype == np.float32:
            return array
        if np.iscomplexobj(array):
            return None
        try:
            with np.errstate(invalid="ignore"):  # a signalling nan is a nan
                return array.astype(np.float64)
        except (TypeError, ValueError):
            return None  # strings

    def is_constant(self, value: ir.Value) -> bool:
        """True for initializers and outputs of Constant nodes."""
        if value.const_value is not None or value.is_initializer():
            return True
        node = value.producer()
        return node is not None and in_onnx_domain(node) and node.op_type == "Constant"

    def is_map(self, value: ir.Value | None) -> bool:
        """True for a feature map: computed or a graph input, and no index or shape tensor."""
        return (
            value is not None and not self.is_constant(value) and value.dtype not in _NO_MAP_TYPES
        )

    def map_inputs(self, node: ir.Node) -> list[ir.Value]:
        """The feature maps that a node reads, in order."""
        return [value for value in node.inputs if value is not None and self.is_map(value)]

    @cached_property
    def produced_maps(self) -> tuple[tuple[ir.Value, ir.Node], ...]:
        """Every map that a node makes and that something uses, with that node."""
        return tuple(
            (value, node)
            for node in self.nodes
            for value in node.outputs
            if self.is_map(value) and (value.uses() or value.is_graph_output())
        )

    @cached_property
    def final_maps(self) -> frozenset[ir.Value]:
        """Graph outputs, and maps that only become graph outputs by activation or reshaping."""
        passing = (*PIPELINED, *PIECEWISE, *RESHAPING)
        final: set[ir.Value] = set()
        queue = list(self.model.graph.outputs)
        while queue:
            value = queue.pop()
            if value in final:
                continue
            if not value.is_graph_output() and not all(
                is_standard(use.node, *passing) and output_of(use.node) in final
                for use in value.uses()
            ):
                continue
            final.add(value)
            node = value.producer()
            if node is not None and is_standard(node, *passing):
                queue.extend(self.map_inputs(node)[:1])
        return frozenset(final)

    def static_shape(self, value: ir.Value) -> tuple[int, ...] | None:
        """The shape of a value, None if any part of it is unknown."""
        known = self.shape(value)
        if known is None or None in known:
            return None
        return tuple(dim for dim in known if dim is not None)

    def shape(self, value: ir.Value | None) -> Shape | None:
        """The shape of a value, inferred where the file has none; None if its rank is unknown."""
        if value is None:
            return None
        stored = value.shape
        if stored is None and value.const_value is not None:
            stored = value.const_value.shape  # type: ignore[assignment]
        known = None if stored is None else tuple(_static(dim) for dim in stored)
        if known is not None and (None not in known or value.is_graph_input()):
            return known
        if self._inferred is None:
            self._inferred = infer_shapes(self.model)
        inferred = self._inferred.get(value.name or "")
        if known is None or inferred is None or len(known) != len(inferred):
            return known if known is not None else inferred
        return tuple(a if a is not None else b for a, b in zip(known, inferred, strict=True))

    # Attributes

    def attribute(self, node: ir.Node, name: str) -> ir.Attr | None:
        """An attribute under its own name or one of the names that the target accepts for it."""
        found = node.attributes.get(name)
        if found is None:
            for alias in self._aliases.get(name, ()):
                if (found := node.attributes.get(alias)) is not None:
                    break
        return found

    def number(self, node: ir.Node, name: str) -> float | None:
        """A FLOAT or INT attribute as a number (maybe nan or inf); None if absent or no number."""
        found = self.attribute(node, name)
        if found is None or found.type not in _NUMBER_TYPES:
            return None
        try:
            return float(found.value)
        except (TypeError, ValueError, OverflowError):
            return None

    def numbers(self, node: ir.Node, name: str) -> np.ndarray | None:
        """A FLOATS, INTS or scalar attribute as float64 array; None if absent or no numbers."""
        found = self.attribute(node, name)
        if found is None or found.type not in _NUMBER_TYPES | _LIST_TYPES:
            return None
        try:
            return np.atleast_1d(np.asarray(found.value, np.float64))
        except (TypeError, ValueError, OverflowError):
            return None

    def integer(self, node: ir.Node, name: str, default: int) -> int:
        """A standard INT attribute.

        Raises:
            Malformed: if it is of another type.
        """
        found = node.attributes.get(name)
        if found is None:
            return default
        if found.type is not ir.AttributeType.INT or not isinstance(found.value, int):
            raise Malformed(f"attribute {name!r} is no integer but {found.type.name}")
        return found.value

    def integers(self, node: ir.Node, name: str) -> tuple[int, ...] | None:
        """A standard INTS attribute, None if absent.

        Raises:
            Malformed: if it is of another type.
        """
        found = node.attributes.get(name)
        if found is None:
            return None
        if found.type is not ir.AttributeType.INTS:
            raise Malformed(f"attribute {name!r} is no list of integers but {found.type.name}")
        return tuple(int(item) for item in found.value)

    @cached_property
    def _aliases(self) -> dict[str, list[str]]:
        aliases: dict[str, list[str]] = {}
        for alias, name in self.target.attribute_aliases.items():
            for meant in MAP_BIT_DEPTHS if name in MAP_BIT_DEPTHS else (name,):
                aliases.setdefault(meant, []).append(alias)
        return aliases

    # Places

    def location(self, subject: ir.Node | ir.Value | None) -> Location:
        """Where a node or value is, in terms of the source's layers where the file names them."""
        if isinstance(subject, ir.Value):
            node = subject.producer()
            if node is None:
                file = provenance.source_file(self.model)
                return Location(file=file, layer=subject.name or "", op="graph input")
            return self.location(node)
        place = provenance.location(subject, self.model)
        if subject is not None and not place.layer and subject.outputs:
            place = replace(place, layer=subject.outputs[0].name or "")
        return place


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Input ``index`` of a node, None if it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def output_of(node: ir.Node) -> ir.Value | None:
    """The first output of a node, None if it has none."""
    return node.outputs[0] if node.outputs else None


def is_standard(node: ir.Node | None, *op_types: str) -> bool:
    """True for a node of the ONNX domain of one of ``op_types``."""
    return node is not None and in_onnx_domain(node) and node.op_type in op_types


def in_onnx_domain(node: ir.Node) -> bool:
    """True for a node of the ONNX domain, of whatever type."""
    return node.domain in {"", "ai.onnx"}


def _static(dim: object) -> int | None:
    return int(dim) if isinstance(dim, int) else None
