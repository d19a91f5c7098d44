"""Bias correction: what rounding adds to a layer's mean result goes into its bias.

Rounded weights W' and the rounded, saturated map Q(x) shift the mean of each output channel by

    E[W' Q(x)] - E[W x] = sum_c (W'_c E[Q(x_c)] - W_c E[x_c])

with W_c summed over the window, borders aside (Nagel et al., ICCV 2019). The means come from
calibration data, with the source's values as x: a layer makes up for its own error only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.calibration.channels import ChannelValues
from dlaconv.ir.graph import consumers, insert_before, is_op, producer
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.pipeline import Context


def correct_biases(
    model: ir.Model, source: ir.Model, context: Context, seen: Mapping[str, ChannelValues]
) -> int:
    """Moves the biases of layers whose weights the source leaves in floating point.

    Args:
        model: a SCALED model, changed in place.
        source: the MAPPED model that it was.
        context: what was found when it was scaled.
        seen: the source's values of the input of each layer, by name of the layer.

    Returns:
        Number of layers with another bias.
    """
    before = {node.name: node for node in source.graph if is_op(node, "Conv", "Gemm")}
    changed = 0
    for node in list(model.graph):
        if not is_op(node, "Conv", "Gemm") or node.name in context.gains | context.thresholds:
            continue
        weights, values = weights_of(before[node.name]), seen.get(node.name or "")
        if weights is None or weights.steps is not None or values is None:
            continue
        changed += _correct(node, weights.array, values, context)
    return changed


def _correct(node: ir.Node, weights: np.ndarray, seen: ChannelValues, context: Context) -> bool:
    stored = node.inputs[0]
    quantiser, result, holder = quantiser_of(stored), result_of(node), producer(node.inputs[1])
    assert stored is not None
    assert holder is not None
    quantisation = dialect.quantisation_of(quantiser)
    gammas = [context.gammas[value.name or ""] for value in (stored, result)]
    step = quantisation.scalar_step
    rounded = np.rint(seen.values * (gammas[0] / step))
    rounded = np.clip(rounded, quantisation.qmin, quantisation.qmax) * (step / gammas[0])
    integers, steps = dialect.array_of(holder.inputs[0]), dialect.step_of(holder).astype(np.float64)
    real = integers * (steps * gammas[0] / gammas[1])
    means = [part.mean(axis=1, dtype=np.float64) for part in (seen.values, rounded)]
    shift = (_mean_result(weights, means[0]) - _mean_result(real, means[1])) * gammas[1]
    units = steps.reshape(-1) * step
    old = _bias(node, len(shift))
    if (own := context.uncentred.get(node.name or "")) is not None:  # all of it is in the means
        return _set(node, old, own * gammas[1] / units + shift / units, units, context)
    return _set(node, old, old + shift / units, units, context)


def quantiser_of(value: ir.Value | None) -> ir.Node:
    """The quantiser whose step a stored map has."""
    node = producer(value)
    while not dialect.is_quantize(node):
        assert node is not None
        node = producer(node.inputs[0])
    assert node is not None
    return node


def result_of(node: ir.Node) -> ir.Value:
    """The stored result of a layer, behind its activation."""
    while not dialect.is_quantize(node):
        node = consumers(node.outputs[0])[0]
    return node.outputs[0]


def _mean_result(weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The mean of each output channel, for mean inputs ``[C]``; of grouped convolutions too."""
    sums = weights.reshape(*weights.shape[:2], -1).sum(axis=2, dtype=np.float64)
    groups = len(means) // sums.shape[1]
    inputs = np.repeat(means.reshape(groups, -1), len(sums) // groups, axis=0)
    result: np.ndarray = (sums * inputs).sum(axis=1)
    return result


def _bias(node: ir.Node, channels: int) -> np.ndarray:
    """The integers of the bias of a SCALED layer, zeros if it has none."""
    holder = producer(node.inputs[2]) if len(node.inputs) > 2 else None
    return np.zeros(channels) if holder is None else dialect.array_of(holder.inputs[0])


def _set(
    node: ir.Node, old: np.ndarray, wanted: np.ndarray, units: np.ndarray, context: Context
) -> bool:
    """Gives a SCALED layer another bias, in its units; False if it is the old one."""
    fresh = np.clip(np.rint(wanted), *context.target.bias_range).astype(np.int32)
    if (fresh == old).all():
        return False
    holder = producer(node.inputs[2]) if len(node.inputs) > 2 else None
    bias = dialect.dequantize(
        dialect.constant(f"{node.name}/B_int", fresh),
        units.astype(np.float32),
        name=f"{node.name}/bias",
        output=f"{node.name}/B",
    )
    insert_before(node, bias)
    node.resize_inputs(3)
    node.replace_input_with(2, bias.outputs[0])
    if holder is not None:
        assert isinstance(node.graph, ir.Graph)
        node.graph.remove(holder, safe=True)
    return True
