"""The layers of a source and of a converted file as JSON values of one form.

A row has the name of the layer's result, the source's layer, operator, inputs, shape, parameters,
multiplications, the quantisations of its result and that of its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import is_op
from dlaconv.ir.macs import macs

if TYPE_CHECKING:
    from dlaconv.driver.facts import Facts
    from dlaconv.ir.layers import Layer, Map, Network

Row = dict[str, Any]
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def hardware_rows(network: Network, facts: Facts) -> tuple[list[Row], list[Row]]:
    """Graph inputs and layers of a converted file.

    Args:
        network: its layers.
        facts: what the file says of its maps.
    """
    inputs = [
        {"name": stored.name, "shape": list(stored.shape), "maps": [_stored(stored, facts)]}
        for stored in network.inputs
    ]
    return inputs, [_layer(layer, facts) for layer in network.layers]


def _layer(layer: Layer, facts: Facts) -> Row:
    weights, name = layer.weights, layer.output.name
    parameters = 0
    if weights is not None:
        parameters = weights.tensor.size + (0 if weights.bias is None else weights.bias.size)
    ops = [node.op_type for node in (layer.node, layer.activation) if node is not None]
    return {
        "name": name,
        "layer": str(facts.get(name, {}).get("layer", "") or layer.node.name or ""),
        "op": " + ".join(ops),
        "inputs": [source.name for source in layer.inputs],
        "shape": list(layer.output.shape),
        "parameters": parameters,
        "macs": macs(layer.node),
        "maps": [_stored(layer.output, facts)],
        "weights": None
        if weights is None
        else {
            "bits": 8,
            "channels": int(weights.scales.size),
            "smallest_step": float(weights.scales.min()),
            "largest_step": float(weights.scales.max()),
        },
    }


def _stored(stored: Map, facts: Facts) -> Row:
    from dlaconv.driver.facts import real_step

    real = real_step(facts, stored)
    return {
        "bits": (stored.qmax - stored.qmin).bit_length(),
        "signed": stored.qmin < 0,
        "smallest_step": float(stored.step),
        "largest_step": float(stored.step),
        "real_step": real,
        "low": stored.qmin * real,
        "high": stored.qmax * real,
        "class": str(facts.get(stored.name, {}).get("class", "")) or None,
    }


def source_rows(model: ir.Model) -> tuple[list[Row], list[Row], int]:
    """Graph inputs and layers of a source, and its number of parameters, shared ones once.

    Quantise nodes are part of the layer before them, constants of the layer that reads them.

    Args:
        model: the source at stage IMPORTED, constants folded, with the shapes that are known.
    """
    inputs = [
        {"name": value.name or "", "shape": _shape(value), "maps": _quantisations(value)}
        for value in model.graph.inputs
        if value.const_value is None
    ]
    constant: dict[ir.Value, list[ir.Value]] = {
        value: [value] for value in model.graph.initializers.values()
    }
    layers, known = [], set[ir.Value]()
    for node in model.graph:
        values = [value for value in node.inputs if value is not None]
        if all(value in constant for value in values) and not is_op(node, "Constant"):
            roots = constant[values[0]] if values else []
            constant |= dict.fromkeys(node.outputs, roots)
        elif is_op(node, "Constant"):
            constant |= {output: [output] for output in node.outputs}
        elif node.domain != dialect.DOMAIN:
            roots = [root for value in values for root in constant.get(value, [])]
            roots = [root for root in roots if _is_parameter(root)]
            known.update(roots)
            layers.append(_node(node, constant, sum(map(_size, set(roots)))))
    return inputs, layers, sum(map(_size, known))


def _node(node: ir.Node, constant: dict[ir.Value, list[ir.Value]], parameters: int) -> Row:
    result, place = node.outputs[0], provenance.location(node)
    weights = [_weights(v) for v in node.inputs if v is not None and v in constant]
    return {
        "name": result.name or "",
        "layer": place.layer,
        "op": f"{node.domain}::{node.op_type}" if node.domain else node.op_type,
        "inputs": [v.name or "" for v in node.inputs if v is not None and v not in constant],
        "shape": _shape(result),
        "parameters": parameters,
        "macs": macs(node),
        "maps": _quantisations(result),
        "weights": next((found for found in weights if found is not None), None),
    }


def _weights(value: ir.Value) -> Row | None:
    """The quantisation of constant weights, looked for behind what only moves them."""
    node = value.producer()
    while node is not None and node.domain != dialect.DOMAIN:
        first = node.inputs[0] if node.inputs else None
        node = first.producer() if first is not None else None
    if node is None:
        return None
    if dialect.is_quantize(node):
        found = dialect.quantisation_of(node)
        step, bits = found.step, found.bits
    elif dialect.is_dequantize(node):
        integers = node.inputs[0]
        step = dialect.step_of(node)
        bits = integers.dtype.bitwidth if integers is not None and integers.dtype else 8
    else:
        step, bits = dialect.step_of(node), 1
    return {
        "bits": bits,
        "channels": int(step.size),
        "smallest_step": float(step.min()),
        "largest_step": float(step.max()),
    }


def _quantisations(value: ir.Value) -> list[Row]:
    """The quantisations that a value gets, each once."""
    found: list[Row] = []
    for node in dict.fromkeys(use.node for use in value.uses()):
        if dialect.is_quantize(node):
            quantisation = dialect.quantisation_of(node)
            low, high = quantisation.ends
            bits, signed, step = quantisation.bits, quantisation.signed, quantisation.step
        elif dialect.is_bipolar(node):
            step = dialect.step_of(node)
            low, high = -float(step.max()), float(step.max())
            bits, signed = 1, True
        elif dialect.is_fixed_point(node):
            grids = dialect.element_grids_of(node)
            grid, step, (low, high) = grids.one_grid(), grids.step, grids.ends
            bits, signed = grid.bits if grid is not None else 1, low < 0
        else:
            continue
        row = {
            "bits": bits,
            "signed": signed,
            "smallest_step": float(step.min()),
            "largest_step": float(step.max()),
            "real_step": float(step.max()),
            "low": low,
            "high": high,
            "class": None,
        }
        if row not in found:
            found.append(row)
    return found


def _is_parameter(value: ir.Value) -> bool:
    """False for the integers that say what shape or axes an operator works on."""
    read = [use.node for use in value.uses()]
    return value.dtype in _FLOATS or any(node.domain == dialect.DOMAIN for node in read)


def _size(value: ir.Value) -> int:
    return value.const_value.size if value.const_value is not None else 0


def _shape(value: ir.Value) -> list[int | None] | None:
    if value.shape is None:
        return None
    return [dim if isinstance(dim, int) else None for dim in value.shape]
