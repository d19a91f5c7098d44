"""What frontends share that build a network layer by layer: the graph as it grows, and refusals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.errors import InternalError
from dlaconv.frontends.handlers import Import
from dlaconv.frontends.onnx.finish import finish
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import drop_unread

Dim = int | None
"""A size; None for a batch that is open."""
MOST_ELEMENTS = (1 << 31) - 1
"""Elements of a map."""
BATCH = "batch"
"""What an open batch is called in the graph."""


class RefusalError(Exception):
    """A layer that cannot be imported."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic
        super().__init__(diagnostic.message)


@dataclass
class BuildingGraph:
    """The graph as it grows.

    Attributes:
        file: the path that messages name.
        shapes: shapes of graph inputs that the user gives.
        diagnostics: takes findings.
        inputs: graph inputs.
        outputs: graph outputs.
        nodes: nodes, in the order in which they run.
        initializers: constants by name.
        taken: names of values that are not free any more.
    """

    file: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, kw_only=True)
    diagnostics: Diagnostics = field(default_factory=Diagnostics, kw_only=True)
    inputs: list[ir.Value] = field(default_factory=list, kw_only=True)
    outputs: list[ir.Value] = field(default_factory=list, kw_only=True)
    nodes: list[ir.Node] = field(default_factory=list, kw_only=True)
    initializers: dict[str, ir.Value] = field(default_factory=dict, kw_only=True)
    taken: set[str] = field(default_factory=set, kw_only=True)
    _counts: dict[str, int] = field(default_factory=dict, kw_only=True)

    def free_name(self, stem: str) -> str:
        """A name that no other value has."""
        name = stem
        while name in self.taken:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}.{self._counts[stem]}"
        self.taken.add(name)
        return name

    def constant(self, stem: str, array: np.ndarray) -> ir.Value:
        """A constant of the graph; the array is not copied."""
        tensor = ir.Tensor(array, name=self.free_name(stem))
        value = ir.val(tensor.name, tensor.dtype, ir.Shape(array.shape), const_value=tensor)
        self.initializers[tensor.name or ""] = value
        return value

    def model(self, name: str, weight_file: Path | None) -> ir.Model:
        """The model, without what nothing reads.

        Args:
            name: what the graph is called.
            weight_file: the file beside the source that has the weights, None for none.
        """
        built = ir.Graph(
            self.inputs,
            self.outputs,
            nodes=self.nodes,
            initializers=list(self.initializers.values()),
            opset_imports={"": dialect.OPSET},
            name=name,
        )
        drop_unread(built)
        model = ir.Model(built, ir_version=dialect.IR_VERSION)
        provenance.name_source(model, self.file)
        if weight_file is not None:
            provenance.name_weight_files(model, [weight_file])
        return model


class SourceLayer(Protocol):
    """A layer as its file has it."""

    def location(self, file: str) -> Location:
        """Where the layer is, for findings."""


@dataclass
class BuildingLayer(ABC):
    """One layer on its way into the graph.

    Attributes:
        layer: the layer as written.
        graph: where it goes.
        result: what a layer's result is called in messages.
        advice: what a user can do about a layer if nothing better is known.
        unread: id and name of the diagnostic for a layer that has no form in the graph.
    """

    layer: SourceLayer
    graph: BuildingGraph
    result: ClassVar[str] = "tensor"
    advice: ClassVar[str] = "check the layer's parameters"
    unread: ClassVar[tuple[str, str]]

    @property
    @abstractmethod
    def name(self) -> str:
        """The layer's name in the source."""

    def add_node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shapes: Sequence[Sequence[Dim]],
        attributes: Mapping[str, Any] | None,
        name: str,
        dtype: ir.DataType = ir.DataType.FLOAT,
    ) -> ir.Node:
        """Adds a node; its results are called after it.

        Args:
            op_type: a standard operator of opset 18.
            inputs: what it reads.
            shapes: the shape of each of its results.
            attributes: its attributes.
            name: what it is called, if that is free.
            dtype: the type of its results.
        """
        for shape in shapes:
            self.require_size(shape)
        node = ir.node(
            op_type,
            list(inputs),
            dict(attributes or {}),
            num_outputs=len(shapes),
            name=self.graph.free_name(name),
        )
        for index, (value, shape) in enumerate(zip(node.outputs, shapes, strict=True)):
            value.name = node.name if not index else self.graph.free_name(f"{node.name}/{index}")
            value.shape = ir.Shape([BATCH if size is None else int(size) for size in shape])
            value.dtype = dtype
        self.graph.nodes.append(node)
        return node

    def constant(self, what: str, array: Any) -> ir.Value:
        """A constant: integers (shapes, axes) as int64, all else as float32."""
        found = np.asarray(array, None if np.size(array) else np.int64)
        kind = np.int64 if np.issubdtype(found.dtype, np.integer) else np.float32
        return self.graph.constant(f"{self.name}/{what}", found.astype(kind))

    def require_size(self, shape: Sequence[Dim]) -> None:
        """Sees to it that a result has elements, and no more than are counted."""
        sizes = [1 if size is None else size for size in shape]
        if any(size < 1 for size in sizes) or math.prod(sizes) > MOST_ELEMENTS:
            self.refuse(f"the layer makes a {self.result} of shape {list(shape)}")

    def refuse(self, message: str, *, remedy: str = "", notes: tuple[str, ...] = ()) -> NoReturn:
        """Ends the import of the layer: its parameters do not fit.

        Raises:
            RefusalError: always.
        """
        raise self.refusal("DLA108", "invalid-attribute", message, remedy=remedy, notes=notes)

    def no_form(self, message: str, *, remedy: str = "", notes: tuple[str, ...] = ()) -> NoReturn:
        """Ends the import of the layer: what it does is known, but has no form in the graph.

        Raises:
            RefusalError: always.
        """
        raise self.refusal(*self.unread, message, remedy=remedy, notes=notes)

    def refusal(
        self, rule: str, name: str, message: str, *, remedy: str = "", notes: tuple[str, ...] = ()
    ) -> RefusalError:
        """An error at the layer, to be raised."""
        return RefusalError(
            Diagnostic(
                rule,
                name,
                message,
                location=self.layer.location(self.graph.file),
                help=remedy or self.advice,
                notes=notes,
            )
        )


def finish_as(state: Import, source: str) -> None:
    """Completes the model; the shapes of ONNX must be those of the source.

    Args:
        state: a model whose values have the shapes that the source gives them.
        source: what the source's library is called.

    Raises:
        InternalError: if a shape differs.
    """
    values = [value for node in state.model.graph for value in node.outputs]
    expected = {value: sizes_of(value) for value in values}
    finish(state)
    if state.diagnostics.errors:
        return
    for node in state.model.graph:
        for value in node.outputs:
            wanted = expected.get(value)
            if wanted is None or value.shape is None or sizes_of(value) == wanted:
                continue
            raise InternalError(
                f"{value.name!r} has shape {list(sizes_of(value))} in ONNX and {list(wanted)} "
                f"in {source}",
                node=node.name or "",
            )


def sizes_of(value: ir.Value) -> tuple[Dim, ...]:
    """The shape of a value of the graph."""
    assert value.shape is not None
    return tuple(size if isinstance(size, int) else None for size in value.shape)
