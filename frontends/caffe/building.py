"""What a layer is turned into: values of the graph, each with the shape that Caffe gives it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Diagnostics
from dlaconv.frontends.caffe.blobs import Blob
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.network import Layer
from dlaconv.ir import dialect, provenance
from dlaconv.ir.quantisation import Quantisation

Shape = tuple[int, ...]
MOST_ELEMENTS = (1 << 31) - 1
"""Elements of a blob; Caffe counts them in an int."""
MOST_CONSTANT = 1 << 24
"""Elements of a constant that the file describes by a few words."""
_MOST_COMPARED = 4096


class RefusalError(Exception):
    """A layer that cannot be imported."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic
        super().__init__(diagnostic.message)


@dataclass
class CaffeGraph:
    """The graph as it grows, and what is known about the file.

    Attributes:
        file: path of the prototxt.
        blobs_of: the blobs that a layer of a name has, shared ones included.
        shapes: shapes of graph inputs that the user gives.
        diagnostics: takes findings.
        stored: names of the layers in the caffemodel.
        inputs: graph inputs.
        outputs: graph outputs.
        nodes: nodes, in the order in which they run.
        initializers: constants by name.
        taken: names of values that are not free any more.
        weights: blobs of weights that are constants, by identity and shape.
    """

    file: str
    blobs_of: Callable[[str], list[Blob]]
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    stored: Sequence[str] = ()
    inputs: list[ir.Value] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: dict[str, ir.Value] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    weights: dict[tuple[int, Shape], ir.Value] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def free_name(self, stem: str) -> str:
        """A name that no other value has."""
        name = stem
        while name in self.taken:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}.{self._counts[stem]}"
        self.taken.add(name)
        return name

    def constant(self, stem: str, array: np.ndarray) -> ir.Value:
        """A constant of the graph."""
        value = dialect.constant(self.free_name(stem), array)
        self.initializers[value.name or ""] = value
        return value

    def quantised(
        self, x: ir.Value, quantisation: Quantisation, stem: str, layer: Layer
    ) -> ir.Value:
        """Puts a value on a grid.

        Args:
            x: the value, a map or a constant.
            quantisation: the grid.
            stem: what the node is named after.
            layer: the layer that asks for it, for findings.
        """
        node = dialect.quantize(x, quantisation, name=self.free_name(stem))
        for value in [*node.inputs[1:], *node.outputs]:
            assert value is not None
            value.name = self.free_name(value.name or "")
        self.initializers.update((v.name or "", v) for v in node.inputs[1:] if v is not None)
        provenance.mark(node, layer.name or stem, layer.type, layer.line)
        self.nodes.append(node)
        return node.outputs[0]


class Parameters(Protocol):
    """What is done to the parameters of a layer whose file quantises them."""

    def weights(self, layer: CaffeLayer, constant: ir.Value, outputs: int, groups: int) -> ir.Value:
        """The weights to compute with; see `CaffeLayer.weights`."""

    def bias(self, layer: CaffeLayer, constant: ir.Value) -> ir.Value | None:
        """The bias to compute with, None for none."""


@dataclass
class CaffeLayer:
    """One layer on its way into the graph; what a handler gets.

    Attributes:
        layer: the layer as written.
        graph: where it goes.
        bottoms: the values that it reads.
        parameters: quantises weights and bias, None where they are in floating point.
    """

    layer: Layer
    graph: CaffeGraph
    bottoms: list[ir.Value]
    parameters: Parameters | None = None
    _blobs: list[Blob] | None = None

    @property
    def x(self) -> ir.Value:
        """The first value that it reads."""
        return self.bottoms[0]

    @property
    def tops(self) -> list[str]:
        """The names of what it writes."""
        return self.layer.tops

    def param(self, name: str) -> Message:
        """The parameters of a kind, such as ``pooling_param``."""
        return self.layer.param(name)

    def shape(self, index: int = 0) -> Shape:
        """The shape of a value that it reads."""
        return shape_of(self.bottoms[index])

    def require_bottoms(self, least: int, most: int | None = None) -> None:
        """Sees to it that the layer reads as many values as its type allows."""
        most = most or least
        if not least <= len(self.bottoms) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            self.refuse(f"{self.layer.type} reads {wanted} bottoms, not {len(self.bottoms)}")

    def require_rank(self, rank: int, index: int = 0) -> None:
        """Sees to it that a value has a number of dimensions."""
        if len(self.shape(index)) != rank:
            self.refuse(
                f"{self.layer.type} reads {rank} dimensions, "
                f"{self.layer.bottoms[index]!r} has {list(self.shape(index))}"
            )

    def axis(self, number: int, rank: int | None = None, *, name: str = "axis") -> int:
        """An axis, counted from the end if negative."""
        rank = len(self.shape()) if rank is None else rank
        if not -rank <= number < rank:
            self.refuse(f"{name} {number} of {rank} dimensions")
        return number % rank

    def blob(self, index: int, shape: Shape, what: str) -> np.ndarray:
        """The values of a blob, in the shape that the layer needs.

        Args:
            index: its index in the layer.
            shape: what Caffe would allocate.
            what: what it is, for messages.
        """
        return self._stored(index, shape, what).shaped(shape)

    def weight(self, index: int, shape: Shape, what: str) -> ir.Value:
        """A blob as a constant; layers that share it share the constant."""
        blob = self._stored(index, shape, what)
        key = (id(blob), shape)
        if key not in self.graph.weights:
            name = f"{self.layer.name}/{what}"
            self.graph.weights[key] = self.graph.constant(name, blob.shaped(shape))
        return self.graph.weights[key]

    def weights(self, shape: Shape, *, outputs: int = 0, groups: int = 1) -> ir.Value:
        """The weights of a linear layer, blob 0, quantised if the file says so.

        Args:
            shape: their shape.
            outputs: the axis that counts output channels.
            groups: how many groups share that axis where it is the second one; the first axis has
                the input channels of all of them then.
        """
        constant = self.weight(0, shape, "weights")
        if self.parameters is None:
            return constant
        return self.parameters.weights(self, constant, outputs, groups)

    def bias(self, size: int) -> ir.Value | None:
        """The bias of a linear layer, blob 1, quantised if the file says so; None for no bias."""
        constant = self.weight(1, (size,), "bias")
        return constant if self.parameters is None else self.parameters.bias(self, constant)

    def blob_count(self) -> int:
        """The number of blobs that the file has for the layer."""
        return len(self._all_blobs())

    def _all_blobs(self) -> list[Blob]:
        if self._blobs is None:
            self._blobs = self.graph.blobs_of(self.layer.name)
        return self._blobs

    def _missing(self, what: str) -> str:
        name, stored = self.layer.name, self.graph.stored
        if name in stored or self._blobs:
            count = len(self._all_blobs())
            return f"the caffemodel has {count} blobs for the layer, and none for its {what}"
        near = difflib.get_close_matches(name, stored[:_MOST_COMPARED], 1)
        hint = f"; did you mean {near[0]!r}?" if near else f" among its {len(stored)} layers"
        return f"the caffemodel has no {what} for it: no layer {name!r}{hint}"

    def _stored(self, index: int, shape: Shape, what: str) -> Blob:
        blobs = self._all_blobs()
        if index >= len(blobs):
            raise self.refusal(
                "DLA132",
                "missing-weights",
                self._missing(what),
                remedy="give the caffemodel that was trained with this prototxt",
                notes=("Caffe would fill it with its initial, often random, values",),
            )
        blob = blobs[index]
        if not blob.fits(shape):
            raise self.refusal(
                "DLA133",
                "weight-shape",
                f"{what} of shape {list(blob.shape)} in the caffemodel, of {list(shape)} by the "
                "prototxt",
                remedy="give the caffemodel that was trained with this prototxt",
            )
        return blob

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shape: Sequence[int],
        attributes: Mapping[str, Any] | None = None,
        dtype: ir.DataType = ir.DataType.FLOAT,
    ) -> ir.Value:
        """Adds a node and returns what it makes.

        Args:
            op_type: a standard operator of opset 18.
            inputs: what it reads.
            shape: the shape of its result.
            attributes: its attributes.
            dtype: the type of its result.
        """
        return self.ops(op_type, inputs, [shape], attributes, dtype)[0]

    def ops(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shapes: Sequence[Sequence[int]],
        attributes: Mapping[str, Any] | None = None,
        dtype: ir.DataType = ir.DataType.FLOAT,
    ) -> list[ir.Value]:
        """Adds a node of several results, see `op`."""
        name = self.layer.name or (self.tops[0] if self.tops else op_type)
        node = ir.node(
            op_type,
            list(inputs),
            dict(attributes or {}),
            num_outputs=len(shapes),
            name=self.graph.free_name(f"{name}/{op_type.lower()}"),
        )
        for index, (value, shape) in enumerate(zip(node.outputs, shapes, strict=True)):
            self.require_size(shape)
            value.name = node.name if not index else self.graph.free_name(f"{node.name}/{index}")
            value.shape, value.dtype = ir.Shape([int(size) for size in shape]), dtype
        provenance.mark(node, name, self.layer.type, self.layer.line)
        self.graph.nodes.append(node)
        return list(node.outputs)

    def constant(self, what: str, array: np.ndarray | Sequence[float] | float) -> ir.Value:
        """A constant: integers (shapes, axes) as int64, all else as float32."""
        found = np.asarray(array, None if np.size(array) else np.int64)
        kind = np.int64 if np.issubdtype(found.dtype, np.integer) else np.float32
        return self.graph.constant(f"{self.layer.name}/{what}", found.astype(kind))

    def reshaped(self, value: ir.Value, shape: Shape) -> ir.Value:
        """A value in another shape; a batch that stays is copied, so that it can change."""
        old = shape_of(value)
        if old == shape:
            return value
        target = list(shape)
        if old and shape and old[0] == shape[0]:
            target[0] = 0
        if 0 in shape[1:]:
            target = list(shape)
        return self.op("Reshape", [value, self.constant("shape", target)], shape)

    def require_size(self, shape: Sequence[int]) -> None:
        """Sees to it that a result has elements, and no more than Caffe counts."""
        if any(size < 1 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
            self.refuse(f"the layer makes a blob of shape {list(shape)}")

    def refuse(self, message: str, *, remedy: str = "", notes: tuple[str, ...] = ()) -> NoReturn:
        """Ends the import of the layer: its parameters do not fit.

        Raises:
            RefusalError: always.
        """
        raise self.refusal("DLA108", "invalid-attribute", message, remedy=remedy, notes=notes)

    def no_form(self, message: str, *, remedy: str = "", notes: tuple[str, ...] = ()) -> NoReturn:
        """Ends the import of the layer: ONNX cannot say what it does.

        Raises:
            RefusalError: always.
        """
        raise self.refusal("DLA135", "no-onnx-form", message, remedy=remedy, notes=notes)

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
                help=remedy or "check the layer's parameters in the prototxt",
                notes=notes,
            )
        )


def shape_of(value: ir.Value) -> Shape:
    """The shape of a value of the graph; all are static."""
    assert value.shape is not None
    return tuple(int(size) for size in value.shape)  # type: ignore[arg-type]


Handler = Callable[[CaffeLayer], list[ir.Value]]
"""Adds a layer's nodes and returns its tops in their order."""
