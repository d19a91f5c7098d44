"""`AccessModel`: an ACCESS file in its written form, as the rules and the reader look at it.

The file is standard ONNX whose nodes carry private attributes (scales and bit depths, named in the
target). Foreign files are normal here: missing or misspelt attributes, missing shapes, weights in
Constant nodes. Accessors therefore return None for what is not there, raise `Malformed` for a
standard attribute that has the wrong form, and `Unknown` for what cannot be told from the file;
nothing else gets out of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access import decoding
from dlaconv.backends.access.decoding import DecodedBias, DecodedWeights
from dlaconv.backends.access.standard_form import infer_shapes
from dlaconv.diagnostics import Location
from dlaconv.ir import provenance
from dlaconv.ir.target import Target

LINEAR = ("Conv", "Gemm")
"""Operators with weights, in the order of the inputs map, weights, bias."""
PIPELINED = ("Relu", "LeakyRelu", "PRelu")
"""Activations that the hardware applies on the way out of another operator."""
PIECEWISE = ("Tanh", "Sigmoid", "HardSwish")
"""Activations that the hardware approximates piecewise linearly."""
RESHAPING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that move values without changing them."""
MAP_BIT_DEPTHS = ("input_bitdepth", "A_bitdepth", "B_bitdepth", "output_bitdepth")
"""Attributes with the bits of a map; an alias of one stands for every map of its node."""

_SCALE_OF_INPUT = {"A_scale": 0, "B_scale": 1, "left_scale": 0, "right_scale": 1}
_NO_MAP_TYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})

Shape = tuple[int | None, ...]
"""A shape with None for every dimension that is not static."""


class Malformed(Exception):  # noqa: N818 - a finding about the file, not an error of ours
    """An attribute or constant of the file has no usable form; says which and why."""


class Unknown(Exception):  # noqa: N818
    """The file does not tell a shape or a value; another rule reports the cause."""


class AccessModel:
    """An ACCESS file together with the target that it is for.

    Attributes:
        model: the file as read; never changed.
        target: the hardware.
        nodes: the nodes of the main graph in file order, without Constant nodes.
        inputs: the graph inputs that are no initializers.
        convention: what a scale means, ``guide`` or ``int-per-real``.
        convention_source: how that is known: given, recorded, detected or assumed, in words.
    """

    def __init__(self, model: ir.Model, target: Target, convention: str | None = None) -> None:
        """Looks at a model.

        Args:
            model: standard ONNX with private attributes.
            target: limits and attribute names.
            convention: what a scale means; found out from metadata or weights if None.

        Raises:
            ValueError: if ``convention`` is none of `decoding.CONVENTIONS`.
        """
        if convention is not None and convention not in decoding.CONVENTIONS:
            raise ValueError(f"no scale convention: {convention!r}")
        self.model = model
        self.target = target
        self.nodes = tuple(
            node for node in model.graph if not (_standard(node) and node.op_type == "Constant")
        )
        self.inputs = tuple(
            value for value in model.graph.inputs if value.name not in model.graph.initializers
        )
        self._by_op: dict[str, list[ir.Node]] = {}
        for node in self.nodes:
            if _standard(node):
                self._by_op.setdefault(node.op_type, []).append(node)
        self._inferred: dict[str, Shape] | None = None
        self._decoded: dict[ir.Node, WeightFacts | None] = {}
        self.convention, self.convention_source = self._find_convention(convention)

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
        except (OSError, TypeError, ValueError, KeyError):
            return None
        if array is None or array.dtype == np.float32:
            return array
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            return None  # strings

    def is_constant(self, value: ir.Value) -> bool:
        """True for initializers and outputs of Constant nodes."""
        if value.const_value is not None or value.is_initializer():
            return True
        node = value.producer()
        return node is not None and _standard(node) and node.op_type == "Constant"

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
        final: set[ir.Value] = set()
        queue = list(self.model.graph.outputs)
        while queue:
            value = queue.pop()
            if value in final:
                continue
            if not value.is_graph_output() and not all(
                use.node.outputs and use.node.outputs[0] in final for use in value.uses()
            ):
                continue
            final.add(value)
            node = value.producer()
            if node is not None and is_standard(node, *PIPELINED, *PIECEWISE, *RESHAPING):
                queue.extend(self.map_inputs(node)[:1])
        return frozenset(final)

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

    # Scales

    def input_scale_name(self, node: ir.Node, index: int) -> str | None:
        """The attribute with the scale of a node's input, None if the operator has none."""
        known = self.target.ops.get(node.op_type, {})
        for name, position in _SCALE_OF_INPUT.items():
            if name in known and position == index:
                return name
        shared = "input_scale" in known and (index == 0 or node.op_type == "Concat")
        return "input_scale" if shared else None

    def input_scale(self, node: ir.Node, index: int) -> float | None:
        """The scale that a node states for one of its inputs; None if it states none."""
        name = self.input_scale_name(node, index)
        return None if name is None else self.number(node, name)

    def map_scale(self, value: ir.Value | None) -> float | None:
        """The scale of a map, usable or not: as its producer states it, else as its consumers do.

        An operator that keeps the scale and carries no attributes passes on that of its input.
        """
        return None if value is None else self._scales.get(value)

    def map_step(self, value: ir.Value | None) -> float | None:
        """Real value of one unit of a map, None without a positive finite scale."""
        scale = self.map_scale(value)
        if scale is None or not (scale > 0 and math.isfinite(scale)):
            return None
        return scale if self.convention == decoding.GUIDE else 1.0 / scale

    @cached_property
    def _scales(self) -> dict[ir.Value, float]:
        scales: dict[ir.Value, float] = {}
        for value in self.inputs:
            _note(scales, value, self._scale_from_consumers(value))
        for node in self.nodes:
            stated = self.number(node, "output_scale") if _standard(node) else None
            if stated is None and is_standard(node, *self.target.same_scale_ops):
                inherited = (scales.get(value) for value in self.map_inputs(node))
                stated = next((scale for scale in inherited if scale is not None), None)
            for value in node.outputs:
                _note(
                    scales,
                    value,
                    stated if stated is not None else self._scale_from_consumers(value),
                )
        return scales

    def _scale_from_consumers(self, value: ir.Value) -> float | None:
        stated = (
            self.input_scale(use.node, use.idx) for use in value.uses() if _standard(use.node)
        )
        return next((scale for scale in stated if scale is not None), None)

    # Weights

    def weights(self, node: ir.Node) -> np.ndarray | None:
        """The stored weights of a Conv or Gemm, output channels first; None if no constant."""
        array = self.array(input_of(node, 1))
        if array is None or array.ndim < 2:
            return None
        if node.op_type == "Gemm" and self.number(node, "transB") != 1:
            return array.T
        return array

    def decode_weights(self, node: ir.Node) -> DecodedWeights | None:
        """The integers of a Conv or Gemm; None without constant weights and matching scales."""
        weights, scales = self.weights(node), self.numbers(node, "weight_ch_scales")
        if weights is None or scales is None:
            return None
        try:
            return decoding.decode_weights(weights, scales, self.convention)
        except ValueError:
            return None

    def decode_bias(self, node: ir.Node) -> DecodedBias | None:
        """The integers of a bias; None without a constant bias, scales or the input's scale."""
        bias, scales = self.array(input_of(node, 2)), self.numbers(node, "weight_ch_scales")
        stated = self.input_scale(node, 0)
        scale = stated if stated is not None else self.map_scale(input_of(node, 0))
        if bias is None or scales is None or scale is None:
            return None
        step = float(decoding.float_steps(np.asarray([scale]), self.convention)[0])
        if not step > 0:
            return None
        try:
            weight_steps = decoding.float_steps(scales, self.convention)
            return decoding.decode_bias(bias.reshape(-1), weight_steps, step)
        except ValueError:
            return None

    def weight_facts(self, node: ir.Node) -> WeightFacts | None:
        """What rules need of the decoded weights, kept per node; None as in `decode_weights`."""
        if node not in self._decoded:
            decoded = self.decode_weights(node)
            self._decoded[node] = None if decoded is None else WeightFacts(decoded)
        return self._decoded[node]

    def _find_convention(self, given: str | None) -> tuple[str, str]:
        if given is not None:
            return given, "given"
        recorded = self.model.metadata_props.get(decoding.CONVENTION_KEY)
        if recorded in decoding.CONVENTIONS:
            return recorded, f"recorded in the file's metadata ({decoding.CONVENTION_KEY})"
        layers = (
            (weights, scales)
            for node in self.nodes_of(*LINEAR)
            if (weights := self.weights(node)) is not None
            and (scales := self.numbers(node, "weight_ch_scales")) is not None
        )
        found, evidence = decoding.detect_convention(layers, self.target.weight_range)
        if found is None:
            return decoding.GUIDE, f"assumed, since the weights do not tell: {evidence}"
        return found, f"detected: {evidence}"

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


class WeightFacts:
    """A few numbers per output channel of decoded weights.

    Attributes:
        usable: bool ``[O]``, the channel's scale is positive and finite.
        residual: float64 ``[O]``, see `DecodedWeights`.
        low: int64 ``[O]``, smallest integer.
        high: int64 ``[O]``, largest integer.
        total: int64 ``[O]``, sum of the magnitudes.
    """

    def __init__(self, decoded: DecodedWeights) -> None:
        rows = decoded.integers.reshape(len(decoded.scales), -1)
        self.usable = decoded.usable
        self.residual = decoded.residual
        self.low: np.ndarray = rows.min(axis=1, initial=0)
        self.high: np.ndarray = rows.max(axis=1, initial=0)
        self.total: np.ndarray = np.abs(rows).sum(axis=1)


_NUMBER_TYPES = frozenset({ir.AttributeType.FLOAT, ir.AttributeType.INT})
_LIST_TYPES = frozenset({ir.AttributeType.FLOATS, ir.AttributeType.INTS})


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Input ``index`` of a node, None if it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def output_of(node: ir.Node) -> ir.Value | None:
    """The first output of a node, None if it has none."""
    return node.outputs[0] if node.outputs else None


def is_standard(node: ir.Node | None, *op_types: str) -> bool:
    """True for a node of the ONNX domain of one of ``op_types``."""
    return node is not None and _standard(node) and node.op_type in op_types


def _standard(node: ir.Node) -> bool:
    return node.domain in {"", "ai.onnx"}


def _static(dim: object) -> int | None:
    return int(dim) if isinstance(dim, int) else None


def _note(scales: dict[ir.Value, float], value: ir.Value, scale: float | None) -> None:
    if scale is not None:
        scales[value] = scale
