"""A layer together with the activation that the hardware pipelines behind it.

A rewrite that moves data behind a layer has to put the activation in between, where it still acts
on the unrounded result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    consumers,
    is_constant,
    is_op,
    producer,
    shape_of,
    sole_consumer,
)
from dlaconv.ir.layers import PIPELINED
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.linear_ops import per_channel


@dataclass(frozen=True)
class Activated:
    """A layer and the activation behind it.

    Attributes:
        layer: the layer.
        activation: a ReLU or a relative that alone reads its result, None without one.
    """

    layer: ir.Node
    activation: ir.Node | None

    @property
    def result(self) -> ir.Value:
        """The unrounded result of both."""
        return (self.activation or self.layer).outputs[0]

    @property
    def problem(self) -> str | None:
        """Why nothing can be moved between the result and its rounding, in words."""
        if is_op(self.activation, "PRelu") and self._slopes() is None:
            return "the slopes of the activation are not constants, one per channel"
        return rounding_problem(self.result)

    def activate(self, builder: Builder, value: ir.Value, channels: np.ndarray) -> ir.Value:
        """The activation on a part of the layer's result.

        Args:
            builder: makes the node.
            value: what is activated, ``[N, C, ...]``.
            channels: the channel of the layer that each channel of ``value`` is, ``[C]``.
        """
        if self.activation is None:
            return value
        shape = shape_of(value) or ()
        if is_op(self.activation, "Relu"):
            return builder.relu(value)
        if is_op(self.activation, "LeakyRelu"):
            alpha = float(attribute(self.activation, "alpha", 0.01))
            return builder.op("LeakyRelu", [value], shape, alpha=alpha)
        slopes = self._slopes()
        assert slopes is not None
        laid_out = slopes[channels].astype(np.float32).reshape(-1, *(1,) * (len(shape) - 2))
        return builder.op("PRelu", [value, builder.constant("slopes", laid_out)], shape)

    def _slopes(self) -> np.ndarray | None:
        assert self.activation is not None
        value, shape = self.activation.inputs[1], shape_of(self.result)
        holder = producer(value)
        if holder is not None and dialect.is_dequantize(holder) and is_constant(holder.inputs[0]):
            array = dialect.array_of(holder.inputs[0]) * dialect.step_of(holder)
        elif is_constant(value) and holder is None:
            array = dialect.array_of(value)
        else:
            return None
        return None if shape is None else per_channel(array, self.layer, shape[1])


def activated(layer: ir.Node) -> Activated:
    """A layer together with the activation that alone reads its result, if there is one."""
    following = sole_consumer(layer.outputs[0])
    return Activated(layer, following if is_op(following, *PIPELINED) else None)


def rounding_problem(value: ir.Value) -> str | None:
    """Why the rounding of an unrounded value cannot be done in front of what only moves it.

    None where it can be, or where nothing rounds the value.
    """
    readers = consumers(value)
    quantisers = [node for node in readers if dialect.is_quantize(node)]
    if not quantisers:
        return None
    if len(readers) > 1 or value.is_graph_output():
        return "its unrounded result is read in several ways"
    if not dialect.quantisation_of(quantisers[0]).per_tensor:
        return "its result has one step per channel"
    return None
