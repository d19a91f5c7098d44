"""How the weights of one layer are rounded: as the policy says, or as the user does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import provenance
from dlaconv.ir.pipeline import Context
from dlaconv.ir.scales.fitting import fit_weights
from dlaconv.ir.scales.policy import WeightScaling, policy_of
from dlaconv.ir.scales.snap import snap_to_least_error
from dlaconv.ir.scales.weights import keep_integers
from dlaconv.ir.target import Target

_METHODS: dict[str, WeightScaling] = {"max": keep_integers, "mse": snap_to_least_error}
_PART = "weights"


def weight_scaling(
    node: ir.Node, steps: np.ndarray | None, context: Context
) -> tuple[WeightScaling, Target]:
    """What rounds a layer's weights, and the hardware with the bits that they get.

    Args:
        node: the layer.
        steps: the source's steps, None where its weights are real numbers.
        context: policy, target and overrides.
    """
    usual, target = policy_of(context).weights, context.target
    if usual is keep_integers and context.optimise:
        usual = fit_weights
    overrides = context.overrides
    entry = overrides.of_weights(node)
    if entry is None or entry.weights is None:
        return usual, target
    layer, wanted = provenance.location(node).layer, entry.weights
    if steps is not None:
        overrides.close(entry, _PART, layer, "the source quantises them, and integers are kept")
        return usual, target
    if wanted.bits > target.weight_bits:
        reason = f"{target.name} has weights of {target.weight_bits} bits"
        asked = overrides.asking(entry, _PART)
        context.diagnostics.add(overrides.problem(asked, layer, reason, "ask for fewer"))
        return usual, target
    overrides.apply(entry, _PART, f"{node.name}/weights")
    bits = wanted.bits or target.weight_bits
    return _METHODS.get(wanted.method, usual), replace(target, weight_bits=bits)
