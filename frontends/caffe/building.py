"""What a layer is turned into: values of the graph, each with the shape that Caffe gives it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.building import BuildingGraph, BuildingLayer
from dlaconv.frontends.caffe.blobs import Blob
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.network import Layer
from dlaconv.ir import dialect, provenance
from dlaconv.ir.quantisation import Quantisation

Shape = tuple[int, ...]
MOST_CONSTANT = 1 << 24
"""Elements of a constant that the file describes by a few words."""
_MOST_COMPARED = 4096


@dataclass
class CaffeGraph(BuildingGraph):
    """The graph as it grows, and what is known about the file, a prototxt.

    Attributes:
        blobs_of: the blobs that a layer of a name has, shared ones included.
        stored: names of the layers in the caffemodel.
        weights: blobs of weights that are constants, by identity and shape.
    """

    blobs_of: Callable[[str], list[Blob]]
    stored: Sequence[str] = ()
    weights: dict[tuple[int, Shape], ir.Value] = field(default_factory=dict)

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
class CaffeLayer(BuildingLayer):
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
    result = "blob"
    advice = "check the layer's parameters in the prototxt"
    unread = ("DLA135", "no-onnx-form")

    @property
    def name(self) -> str:
        """The layer's name, which may be empty."""
        return self.layer.name

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
        node = self.add_node(
            op_type, inputs, shapes, attributes, f"{name}/{op_type.lower()}", dtype
        )
        provenance.mark(node, name, self.layer.type, self.layer.line)
        return list(node.outputs)

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


def shape_of(value: ir.Value) -> Shape:
    """The shape of a value of the graph; all are static."""
    assert value.shape is not None
    return tuple(int(size) for size in value.shape)  # type: ignore[arg-type]


Handler = Callable[[CaffeLayer], list[ir.Value]]
"""Adds a layer's nodes and returns its tops in their order."""
