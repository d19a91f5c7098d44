"""What a converted file must remember of each map besides its hardware step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.layers import Layer, Map, Network
from dlaconv.ir.pipeline import Context
from dlaconv.ir.records import Fidelity, TensorRecord

_NEW_INTEGERS = (Fidelity.REQUANTISED, Fidelity.DERIVED)
"""Classes of weights that were rounded here."""
_SAME = 1e-7
"""Relative; smaller errors of a step are those of float32."""


def map_facts(model: ir.Model, network: Network, context: Context) -> dict[str, dict[str, Any]]:
    """Real step, class, layer and multiplier errors of every map of a SCALED model.

    Maps that an operator only moves have the class of what it moves. Where they apply:

    * ``channel_ratios``: ``axis`` and ``ratios`` along it, where the source has a step per channel:
      one unit of a channel is worth the real step over its ratio;
    * ``channels``: first channel and number of each run of the source's channels, where the map has
      further ones that mean nothing;
    * ``tensor``: the source's name, where it has another: of a quantised graph input, of a map
      whose channels are selected behind it, or that holds the source's several times (a sum instead
      of an average; the real steps are the source's);
    * ``source_step``, ``clip``: the source's step and range, in real terms; ``rounding``: its mode;
    * ``step_errors``: relative, per output channel, where weight steps were rounded to the grid, or
      a gain was not met;
    * ``bias_error``: half a unit of the bias, in units of the result;
    * ``requantised``: true where weights were rounded here, a sign may be another, or the source's
      grid is another;
    * ``sign``: true for a graph input of which the host takes the sign;
    * ``gain_errors``: where a convolution sums two maps, by operand, how much its gain is off, in
      units of the result per unit of the operand.
    """
    makers = {layer.output.name: layer for layer in network.layers}
    records = {record.name: record for record in context.records if record.kind == "map"}
    weights = {record.name: record for record in context.records if record.kind == "weight"}
    inexact = {
        record.name
        for record in context.records
        if record.kind != "map" and record.fidelity is not Fidelity.EXACT
    }
    facts: dict[str, dict[str, Any]] = {}
    tensors = {
        value.name: use.node.outputs[0].name or ""
        for value in model.graph.inputs
        for use in value.uses()
        if dialect.is_quantize(use.node)
    }
    quantisers = [node for node in model.graph if dialect.is_quantize(node)]
    lossy = {node.outputs[0].name for node in quantisers if provenance.loss(node)}
    for source in network.inputs:
        tensor = tensors[source.name]
        facts[source.name] = {
            "real_step": float(source.step) / context.gammas[tensor],
            "class": str(records[tensor].fidelity),
            "layer": records[tensor].layer,
            "tensor": _tensor(source.name, tensor, context),
            **_source(records[tensor]),
        }
        if tensor in context.signs:
            facts[source.name]["sign"] = True
        if tensor in lossy:
            facts[source.name]["requantised"] = True
        if (ratio := context.channel_ratios.get(tensor)) is not None:
            facts[source.name]["channel_ratios"] = _channels(ratio, source.shape)
    for layer in network.layers:
        name = layer.output.name
        record, times = records.get(name), context.multiples.get(name, 1.0)
        inherited = facts[layer.inputs[0].name]["class"]
        facts[name] = {
            "real_step": float(layer.output.step) / context.gammas[name] / times,
            "class": str(record.fidelity) if record else inherited,
            "layer": provenance.location(layer.node).layer,
        }
        if (ratio := context.channel_ratios.get(name)) is not None:
            facts[name]["channel_ratios"] = _channels(ratio, layer.output.shape)
        if (layout := context.layouts.get(name)) is not None:
            facts[name]["channels"] = [list(run) for run in layout.runs]
        if name in context.originals:
            facts[name]["tensor"] = context.originals[name]
        if record is not None:
            facts[name] |= _source(record, times)
        weight = weights.get(f"{layer.node.name}/weights")
        errors = _notable(context.gain_errors.get(layer.node.name or ""))
        if weight is not None:
            errors = _step_errors(weight)
        if errors is not None:
            facts[name]["step_errors"] = errors
        if layer.weights is not None and layer.weights.bias is not None:
            facts[name]["bias_error"] = _largest_multiplier(layer) / 2
        if name in lossy or (weight is not None and weight.fidelity in _NEW_INTEGERS):
            facts[name]["requantised"] = True
        if record is None:  # it moves what may be off, or what the source clips
            if any("requantised" in facts[item.name] for item in layer.inputs):
                facts[name]["requantised"] = True
            clips = [facts[item.name].get("clip") for item in layer.inputs]
            if clips[0] is not None and clips.count(clips[0]) == len(clips):
                facts[name]["clip"] = clips[0]
        if name in context.signs:
            facts[name].pop("rounding", None)  # ours, and it moves no sign
            if _doubtful(layer, context, facts, inexact):
                facts[name]["requantised"] = True
        if layer.inputs[0].name in context.sums:
            operands = makers[layer.inputs[0].name].inputs
            facts[name]["gain_errors"] = _gain_errors(layer, operands, facts)
    return facts


def _tensor(name: str, quantised: str, context: Context) -> str:
    """What the source calls a graph input once it is quantised."""
    own = quantised.startswith(f"{name}/") and name in context.originals
    return context.originals[name] + quantised.removeprefix(name) if own else quantised


def _doubtful(
    layer: Layer, context: Context, facts: Mapping[str, Mapping[str, Any]], inexact: Collection[str]
) -> bool:
    """True if a sign, or a map on the way to one, may not be the source's.

    Args:
        layer: what makes the map.
        context: knows signs and thresholds.
        facts: of the maps before.
        inexact: names of weights and biases that are not the source's.
    """
    before = facts[layer.inputs[0].name]
    if before["class"] == Fidelity.DERIVED and layer.inputs[0].name in context.signs:
        return "requantised" in before
    if layer.node.name not in context.thresholds:
        return False
    own = {f"{layer.node.name}/weights", f"{layer.node.name}/bias"}
    return before["class"] != Fidelity.EXACT or bool(own & set(inexact))


def _channels(ratio: np.ndarray, shape: tuple[int, ...]) -> dict[str, Any]:
    axis = next((index for index, size in enumerate(ratio.shape) if size > 1), 1)
    values = np.broadcast_to(ratio.reshape(-1), (shape[axis],))
    return {"axis": axis, "ratios": [float(f"{value:.9g}") for value in values]}


def _source(record: TensorRecord, times: float = 1.0) -> dict[str, Any]:
    """Step of the source and where it clips, in real terms of a map that is held so often."""
    source = record.source
    if source is None:
        return {}
    step = source["step"] / times
    ends = [(source[end] - source["zero_point"]) * step for end in ("qmin", "qmax")]
    return {"clip": ends, "source_step": step, "rounding": source["rounding"]}


def _gain_errors(
    layer: Layer, operands: Sequence[Map], facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    weights = layer.weights
    assert weights is not None
    first = weights.integers[0].reshape(-1)
    unit = float(weights.scales[0]) * float(layer.inputs[0].step / layer.output.step)
    result = facts[layer.output.name]["real_step"]
    errors: dict[str, float] = {}
    for operand, start in zip(operands, (0, first.size // 2), strict=True):
        gain = float(first[start]) * unit
        errors[operand.name] = errors.get(operand.name, 0.0) + (
            gain - facts[operand.name]["real_step"] / result
        )
    return errors


def _largest_multiplier(layer: Layer) -> float:
    assert layer.weights is not None
    step = float(layer.inputs[0].step / layer.output.step)
    return float(layer.weights.scales.max(initial=0.0)) * step


def _step_errors(record: TensorRecord) -> list[float] | None:
    steps, ideal = np.array(record.target["steps"]), np.array(record.target["ideal_steps"])
    return _notable(np.abs(steps / ideal - 1))


def _notable(errors: np.ndarray | None) -> list[float] | None:
    if errors is None or errors.max(initial=0) <= _SAME:
        return None
    return [float(f"{error:.4g}") for error in errors]
