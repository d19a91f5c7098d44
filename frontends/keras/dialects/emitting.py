"""Nodes of the dialect for what quantisers say."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras.building import KerasLayer, shape_of
from dlaconv.frontends.keras.dialects.integers import Integers
from dlaconv.frontends.keras.dialects.qkeras import MapQuantiser
from dlaconv.frontends.keras.parameters import Variable
from dlaconv.ir import dialect, provenance
from dlaconv.ir.element_grids import ElementGrids
from dlaconv.ir.quantisation import Quantisation


def quantise(layer: KerasLayer, value: ir.Value, grid: Quantisation) -> ir.Value:
    """Puts a map on a grid."""
    name = layer.graph.free_name(f"{layer.name}/quantize")
    return _added(layer, dialect.quantize(value, grid, name=name))


def fixed_point(layer: KerasLayer, value: ir.Value, grids: ElementGrids) -> ir.Value:
    """Puts each element of a map on its grid."""
    name = layer.graph.free_name(f"{layer.name}/quantize")
    return _added(layer, dialect.fixed_point(value, grids, name=name))


def sign(layer: KerasLayer, value: ir.Value) -> ir.Value:
    """1 where a map is at least zero, else -1."""
    name = layer.graph.free_name(f"{layer.name}/bipolar")
    return _added(layer, dialect.bipolar(value, np.ones((), np.float32), name=name))


def quantised_map(layer: KerasLayer, value: ir.Value, quantiser: MapQuantiser) -> ir.Value:
    """A map after a quantiser: its function, its grid, its factor."""
    shape = shape_of(value)
    if quantiser.function == "leaky_relu":
        value = layer.op("LeakyRelu", [value], shape, {"alpha": quantiser.slope})
    elif quantiser.function == "hard_sigmoid_half":
        value = layer.op("HardSigmoid", [value], shape, {"alpha": 0.5, "beta": 0.5})
    elif quantiser.function:
        value = layer.op(quantiser.function.title(), [value], shape)
    grid = quantiser.grid
    value = sign(layer, value) if grid is None else quantise(layer, value, grid)
    if quantiser.factor != 1:
        value = layer.op("Mul", [value, layer.constant("alpha", quantiser.factor)], shape)
    return value


def integer_constant(layer: KerasLayer, variable: Variable, integers: Integers) -> ir.Value:
    """Quantised weights in the layout of the graph; all calls of the layer share them."""

    def made() -> ir.Value:
        try:
            moved = integers.moved(variable.change)
        except OverflowError:
            layer.refuse(f"{variable.names[0]} has values that are not finite, or far too large")
        stem = f"{layer.name}/{variable.names[0]}"
        held = layer.graph.constant(f"{stem}/integers", moved.values)
        name = layer.graph.free_name(f"{stem}/dequantize")
        return _added(layer, dialect.dequantize(held, moved.step, name=name, output=f"{name}/out"))

    return layer.shared(variable.names[0], made)


def _added(layer: KerasLayer, node: ir.Node) -> ir.Value:
    graph = layer.graph
    for value in [*node.inputs[1:], *node.outputs]:
        assert value is not None
        value.name = graph.free_name(value.name or "")
    graph.initializers.update((v.name or "", v) for v in node.inputs[1:] if v is not None)
    provenance.mark(node, layer.name, layer.layer.kind)
    graph.nodes.append(node)
    return node.outputs[0]
