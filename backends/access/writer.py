"""Writes a SCALED model as ACCESS ONNX: quantisation as node attributes, constants on their grid.

The attributes make the file invalid for ``onnx.checker`` and onnxruntime, so it has a reader of
its own (`dlaconv.backends.access.reader`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.decoding import CONVENTION_KEY, GUIDE
from dlaconv.ir import dialect
from dlaconv.ir.blocks import BlockTensor
from dlaconv.ir.graph import drop_unread, is_op, producer, unique_name
from dlaconv.ir.grid_tensors import GridTensor, grid_tensor
from dlaconv.ir.layers import Layer, Network, Weights, network_of
from dlaconv.ir.target import Target

MAPS = "dlaconv.maps"
"""Metadata key of the map table, see `map_table`."""


def write_access(
    model: ir.Model,
    target: Target,
    *,
    convention: str,
    maps: Mapping[str, Mapping[str, Any]],
    metadata: Mapping[str, str] | None = None,
) -> ir.Model:
    """Makes the ACCESS model of a SCALED one.

    Weights become floats when they are read, a block at a time.

    Args:
        model: the SCALED model; it is not changed.
        target: names the attributes and opset.
        convention: ``guide`` (attribute = step) or ``int-per-real`` (attribute = 1 / step).
        maps: what the attributes cannot say, by map: ``real_step`` (value of one unit in the
            source's terms) and ``class``.
        metadata: further model metadata.
    """
    network = network_of(model)
    copy = model.clone()
    writer = _Writer(copy, target, convention)
    writer.write(network)
    copy.metadata_props.clear()
    copy.metadata_props.update(metadata or {})
    copy.metadata_props[CONVENTION_KEY] = convention
    copy.metadata_props[MAPS] = json.dumps(map_table(network, maps))
    return copy


def map_table(network: Network, maps: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every map by name: exponent and range on the hardware, real step and class."""
    return {
        name: {
            "exponent": stored.exponent,
            "qmin": stored.qmin,
            "qmax": stored.qmax,
            **maps.get(name, {}),
        }
        for name, stored in network.maps.items()
    }


class _Writer:
    def __init__(self, model: ir.Model, target: Target, convention: str) -> None:
        self.model, self.target, self.convention = model, target, convention
        self.graph = model.graph
        self.names = {value.name for node in model.graph for value in node.outputs}
        self.names |= {value.name for value in model.graph.inputs} | set(model.graph.initializers)

    def write(self, network: Network) -> None:
        nodes = {node.name: node for node in self.graph}
        for layer in network.layers:
            node = nodes[layer.node.name]
            if layer.weights is not None:
                self._constants(node, layer)
            self._annotate(node, layer)
            if layer.activation is not None:
                self._annotate(nodes[layer.activation.name], layer, source_step=layer.output.step)
        self._remove_quantize()
        self._finish()

    def _annotate(self, node: ir.Node, layer: Layer, source_step: Fraction | None = None) -> None:
        steps = [source.step for source in layer.inputs]
        values: dict[str, float | int | list[float]] = {
            "input_scale": self._scale(source_step or steps[0]),
            "input_bitdepth": self.target.map_bits,
            "A_scale": self._scale(steps[0]),
            "A_bitdepth": self.target.map_bits,
            "B_scale": self._scale(steps[-1]),
            "B_bitdepth": self.target.map_bits,
            "output_scale": self._scale(layer.output.step),
            "output_bitdepth": self.target.map_bits,
        }
        if layer.weights is not None and node.name == layer.node.name:
            values["weight_bitdepth"] = self.target.weight_bits
            scales = layer.weights.scales
            scales = scales if self.convention == GUIDE else 1 / scales
            values["weight_ch_scales"] = scales.tolist()
            if layer.weights.bias is not None:
                values["bias_bitdepth"] = self.target.bias_bits
        for name, kind in self.target.ops.get(node.op_type, {}).items():
            if name in values:
                node.attributes[name] = ir.Attr(name, _ATTRIBUTE[kind], values[name])

    def _scale(self, step: Fraction) -> float:
        return float(step if self.convention == GUIDE else 1 / step)

    def _constants(self, node: ir.Node, layer: Layer) -> None:
        weights = layer.weights
        assert weights is not None
        name = self._free(f"{node.name}.weight")
        self._replace(node, 1, dialect.constant(name, _grid_tensor(name, weights)))
        if weights.bias is not None:
            unit = weights.scales * float(layer.inputs[0].step)
            bias = (weights.bias * unit).astype(np.float32)
            self._replace(node, 2, dialect.constant(self._free(f"{node.name}.bias"), bias))

    def _free(self, name: str) -> str:
        return unique_name(self.graph, name) if name in self.names else name

    def _replace(self, node: ir.Node, index: int, value: ir.Value) -> None:
        old = producer(node.inputs[index])
        self.graph.register_initializer(value)
        node.replace_input_with(index, value)
        if old is not None and not old.outputs[0].uses():
            self.graph.remove(old, safe=True)

    def _remove_quantize(self) -> None:
        for node in list(self.graph):
            if not dialect.is_quantize(node):
                continue
            x, result = node.inputs[0], node.outputs[0]
            assert x is not None
            name = result.name
            result.replace_all_uses_with(x, replace_graph_outputs=True)
            self.graph.remove(node, safe=True)
            if not x.is_graph_input():
                x.name = name

    def _finish(self) -> None:
        self.model.functions.clear()
        opset = self.target.opset
        for node in self.graph:
            node.metadata_props.clear()
            node.attributes.pop("allowzero", None)
            if is_op(node, "HardSwish"):
                opset = max(opset, self.target.opset_hardswish)
        if opset < 13:
            for node in self.graph:
                _axes_as_attribute(node)
        drop_unread(self.graph)
        self.graph.opset_imports.clear()
        self.graph.opset_imports[""] = opset
        self.model.ir_version = self.target.ir_version
        self.model.producer_name = "dlaconv"


def _grid_tensor(name: str, weights: Weights) -> GridTensor:
    """The float32 tensor ``scales * integers``, computed when it is read."""
    stored = weights.tensor
    integers = stored if isinstance(stored, BlockTensor) else stored.numpy()
    return grid_tensor(integers, weights.scales, name)


def _axes_as_attribute(node: ir.Node) -> None:
    """ReduceSum takes its axes from an attribute before opset 13."""
    if not is_op(node, "ReduceSum") or len(node.inputs) < 2 or node.inputs[1] is None:
        return
    axes = dialect.array_of(node.inputs[1]).reshape(-1)
    node.resize_inputs(1)
    node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes])
    node.attributes.pop("noop_with_empty_axes", None)


_ATTRIBUTE = {
    "float": ir.AttributeType.FLOAT,
    "int": ir.AttributeType.INT,
    "floats": ir.AttributeType.FLOATS,
}
