"""Are two networks the same, integer by integer?"""

from __future__ import annotations

import numpy as np

from dlaconv.ir.blocks import in_parallel, row_blocks
from dlaconv.ir.layers import Layer, Network, Weights


def difference(one: Network, other: Network) -> str:
    """What differs between two networks, in words; empty if nothing does."""
    if one.inputs != other.inputs:
        return f"inputs {one.inputs} and {other.inputs}"
    if one.outputs != other.outputs:
        return f"outputs {one.outputs} and {other.outputs}"
    if len(one.layers) != len(other.layers):
        return f"{len(one.layers)} and {len(other.layers)} layers"
    # By name: a file has an operator where it computes, a model where the result is quantised.
    by_output = {layer.output.name: layer for layer in other.layers}
    found = in_parallel(lambda layer: _layer(layer, by_output.get(layer.output.name)), one.layers)
    for layer, words in zip(one.layers, found, strict=True):
        if words:
            return f"layer {layer.node.name!r}: {words}"
    return ""


def _layer(one: Layer, other: Layer | None) -> str:
    if other is None:
        return f"map {one.output.name!r} is missing"
    if one.op != other.op:
        return f"operators {one.op} and {other.op}"
    if (one.inputs, one.output) != (other.inputs, other.output):
        return f"maps {one.inputs} -> {one.output} and {other.inputs} -> {other.output}"
    acts = [layer.activation.op_type if layer.activation else "" for layer in (one, other)]
    if acts[0] != acts[1]:
        return f"activations {acts[0]!r} and {acts[1]!r}"
    if (one.weights is None) != (other.weights is None):
        return "weights are missing"
    if one.weights is None or other.weights is None:
        return ""
    return _weights(one.weights, other.weights)


def _weights(one: Weights, other: Weights) -> str:
    if one.shape != other.shape:
        return f"weights of shape {one.shape} and {other.shape}"
    for (_, block), (_, again) in zip(
        row_blocks(one.tensor), row_blocks(other.tensor), strict=True
    ):
        if not np.array_equal(block, again):
            return "weight integers differ"
    if not np.array_equal(one.scales, other.scales):
        return "weight steps differ"
    return "" if np.array_equal(_bias(one), _bias(other)) else "bias integers differ"


def _bias(weights: Weights) -> np.ndarray:
    return weights.bias if weights.bias is not None else np.zeros(len(weights.scales))
