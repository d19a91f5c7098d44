"""`AccessModel`: an ACCESS file in its written form, as the rules and the reader look at it.

The file is standard ONNX whose nodes carry private attributes: scales and bit depths, named in the
target. This module adds their meaning to `GraphView`: what a scale is, which scale a map has, which
integers the weights are.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access import decoding
from dlaconv.backends.access.decoding import DecodedBias, DecodedWeights, Rows, WeightFacts
from dlaconv.backends.access.graph_view import (
    PIECEWISE,
    PIPELINED,
    RESHAPING,
    GraphView,
    Malformed,
    Shape,
    Unknown,
    in_onnx_domain,
    input_of,
    is_standard,
    output_of,
)
from dlaconv.ir.blocks import BlockTensor
from dlaconv.ir.target import Target

__all__ = [
    "LINEAR",
    "PIECEWISE",
    "PIPELINED",
    "RESHAPING",
    "AccessModel",
    "Malformed",
    "Shape",
    "Unknown",
    "WeightFacts",
    "input_of",
    "is_standard",
    "output_of",
]

LINEAR = ("Conv", "Gemm")
"""Operators with weights, in the order of the inputs map, weights, bias."""

_SCALE_OF_INPUT = {"A_scale": 0, "B_scale": 1, "left_scale": 0, "right_scale": 1}


class AccessModel(GraphView):
    """An ACCESS file together with the target that it is for.

    Attributes:
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
        super().__init__(model, target)
        if convention is not None and convention not in decoding.CONVENTIONS:
            raise ValueError(f"no scale convention: {convention!r}")
        self._decoded: dict[ir.Node, DecodedWeights | None] = {}
        self.convention, self.convention_source = self._find_convention(convention)

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
            stated = self.number(node, "output_scale") if in_onnx_domain(node) else None
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
            self.input_scale(use.node, use.idx) for use in value.uses() if in_onnx_domain(use.node)
        )
        return next((scale for scale in stated if scale is not None), None)

    # Weights

    def weights(self, node: ir.Node) -> Rows | None:
        """The stored weights of a Conv or Gemm, output channels first; None if no constant."""
        value = input_of(node, 1)
        if value is not None and isinstance(value.const_value, BlockTensor):
            return value.const_value
        array = self.array(value)
        if array is None or array.ndim < 2:
            return None
        if node.op_type == "Gemm" and self.number(node, "transB") != 1:
            return array.T
        return array

    def decode_weights(self, node: ir.Node) -> DecodedWeights | None:
        """The integers of a Conv or Gemm, decoded when they are read.

        None without constant weights and matching scales.
        """
        if node not in self._decoded:
            self._decoded[node] = self._decode_weights(node)
        return self._decoded[node]

    def _decode_weights(self, node: ir.Node) -> DecodedWeights | None:
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
        """What rules need of the decoded weights; None as in `decode_weights`."""
        decoded = self.decode_weights(node)
        return None if decoded is None else decoded.facts

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


def _note(scales: dict[ir.Value, float], value: ir.Value, scale: float | None) -> None:
    if scale is not None:
        scales[value] = scale
