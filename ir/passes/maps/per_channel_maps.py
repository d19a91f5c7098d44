"""Moves steps per channel from maps into the weights around them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    insert_before,
    ints_attribute,
    is_op,
    is_optional_input_absent,
    producer,
    register_constants,
    replace_node,
    shape_of,
)
from dlaconv.ir.layers import PIPELINED
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.linear_ops import bias_of, scaled, set_bias, set_weights, stem, weights_of
from dlaconv.ir.passes.maps.channel_ratios import (
    Ratio,
    Ratios,
    channel_vector,
    column_factors,
    find_ratios,
    is_average,
    steps_of,
)
from dlaconv.ir.passes.maps.column_factors import Obstacle, multiply_columns
from dlaconv.ir.passes.maps.redundant_rounding import values_averaged
from dlaconv.ir.passes.maps.requantise import identity_layer, stored_quantisers
from dlaconv.ir.passes.maps.single_use import copy_of
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass


@ir_pass(tolerance=None)
def per_channel_maps(model: ir.Model, context: Context) -> None:
    """Gives each map with a step per channel the largest of its steps, integers unchanged.

    The layer before computes each channel max(s)/s times as large, which is another step of that
    output channel's weights; the layers behind divide their weights by it. That is exact where
    the integers of those weights allow it (`multiply_columns`): in depth-wise convolutions always.
    Maps of the rewritten network are the source's times ``context.channel_ratios``.

    Where it is not exact the node stays as it is, and context gets an error.
    """
    seeds = [node for node in model.graph if _per_channel(node)]
    if not seeds:
        return
    for node in seeds:
        _own_layer(node)
    ratios = find_ratios(model, context.target)
    problems = [*_zero_points(seeds), *ratios.problems]
    if problems:
        for node, reason in problems:
            context.diagnostics.add(_refusal(node, reason, model))
        return
    ranges = [_range(node) for node in seeds]
    apply_ratios(model, ratios, context)
    for node, steps in zip(seeds, ranges, strict=True):
        _report(node, steps, ratios, model, context)
    hoist_quantise(model, context)
    _note_hoisted(model, ratios, context)


def _per_channel(node: ir.Node) -> bool:
    if dialect.is_quantize(node):
        return not dialect.quantisation_of(node).per_tensor
    return dialect.is_bipolar(node) and dialect.step_of(node).size > 1


def _zero_points(seeds: list[ir.Node]) -> list[tuple[ir.Node, str]]:
    found = []
    for node in seeds:
        if dialect.is_quantize(node):
            zeros = dialect.quantisation_of(node).zero_point
            if zeros.min() != zeros.max():
                reason = f"its zero points differ, from {zeros.min():g} to {zeros.max():g}"
                found.append((node, reason))
    return found


def _own_layer(quantiser: ir.Node) -> None:
    """Copies the layer before a quantiser if something else reads its unrounded result."""
    if dialect.is_bipolar(quantiser):
        return
    reader, maker = quantiser, producer(quantiser.inputs[0])
    while maker is not None and is_op(maker, "Conv", "Gemm", *PIPELINED):
        result = maker.outputs[0]
        if len(result.uses()) > 1 or result.is_graph_output():
            maker = copy_of(maker, stem(quantiser))
            reader.replace_input_with(0, maker.outputs[0])
        if is_op(maker, "Conv", "Gemm"):
            return
        reader, maker = maker, producer(maker.inputs[0])


def apply_ratios(model: ir.Model, ratios: Ratios, context: Context) -> None:
    """Puts ratios into the weights around the maps that have them.

    Maps become the source's times ``context.channel_ratios``; each has the largest of its steps.
    """
    stored = set(stored_quantisers(model))
    averages = [
        (node, ratios.get(node.inputs[0]), ratios.get(node.outputs[0]))
        for node in model.graph
        if is_average(node) and ratios.differ(node)
    ]
    for node in list(model.graph):
        if is_op(node, "Conv", "Gemm"):
            _rescale(node, ratios)
        elif dialect.is_quantize(node) or dialect.is_bipolar(node):
            if node in stored and ratios.differ(node):
                _identity(node, ratios)
            _one_step(node, ratios)
    for node, before, after in averages:
        _average_to_convolution(node, before, after)
    _note(ratios.of, context)


def _note_hoisted(model: ir.Model, ratios: Ratios, context: Context) -> None:
    """Quantisers that were hoisted are new, but have the ratio of what they round."""
    quantisers = [node for node in model.graph if dialect.is_quantize(node)]
    _note(
        {n.outputs[0]: ratios.get(n.inputs[0]) for n in quantisers if n.inputs[0] in ratios.of},
        context,
    )


def _note(of: Mapping[ir.Value, Ratio], context: Context) -> None:
    for value, ratio in of.items():
        if (ratio != 1).any():
            context.channel_ratios[value.name or ""] = ratio


def _rescale(layer: ir.Node, ratios: Ratios) -> None:
    """Puts the ratios of a layer's input and result into its weights and bias."""
    columns = ratios.columns.get(layer)
    if columns is not None:
        set_weights(layer, columns)
    if layer.outputs[0] in ratios.of:
        _multiply_rows(layer, ratios.of[layer.outputs[0]])


def _multiply_rows(layer: ir.Node, ratio: Ratio) -> None:
    weights = weights_of(layer)
    assert weights is not None
    rows = channel_vector(ratio, weights.channels)
    fresh = scaled(weights, rows) if rows is not None else None
    bias = bias_of(layer, weights.channels)
    assert fresh is not None
    set_weights(layer, fresh)
    if bias is not None and not is_optional_input_absent(layer, 2):
        set_bias(layer, bias * rows)


def _one_step(node: ir.Node, ratios: Ratios) -> None:
    """Replaces the steps of a quantiser or sign by the one that its ratio makes of them."""
    ratio = ratios.of.get(node.outputs[0])
    if ratio is None:
        return
    name = stem(node)
    parameters = [("step", np.float32((steps_of(node) * ratio).max()))]
    if dialect.is_quantize(node):
        parameters.append(("zero_point", dialect.quantisation_of(node).zero_point.reshape(-1)[0]))
    for index, (word, number) in enumerate(parameters, start=1):
        constant = dialect.constant(f"{name}/{word}", np.asarray(number, np.float32))
        node.replace_input_with(index, constant)
    assert isinstance(node.graph, ir.Graph)
    register_constants(node.graph, [node])


def _identity(quantiser: ir.Node, ratios: Ratios) -> None:
    """Puts a layer that takes both ratios in front of a quantiser of a stored map."""
    x = quantiser.inputs[0]
    assert x is not None
    nodes = identity_layer(x, f"{stem(quantiser)}/requantise")
    insert_before(quantiser, *nodes)
    quantiser.replace_input_with(0, nodes[-1].outputs[0])
    _take_both(nodes[-1], ratios.get(x), ratios.get(quantiser.outputs[0]))


def _average_to_convolution(pool: ir.Node, before: Ratio, after: Ratio) -> None:
    x, result = pool.inputs[0], pool.outputs[0]
    count = values_averaged(pool)
    assert x is not None
    assert count is not None
    channels, *size = (shape_of(x) or ())[1:]
    kernel = ints_attribute(pool, "kernel_shape", size)
    name, ones = stem(pool), (1,) * len(kernel)
    holder = dialect.dequantize(
        dialect.constant(f"{name}/ones", np.ones((channels, 1, *kernel), np.int8)),
        np.full((channels, 1, *ones), 1 / count, np.float32),
        name=f"{name}/share",
        output=f"{name}/W",
    )
    attributes: dict[str, int | tuple[int, ...]] = {
        "kernel_shape": kernel,
        "strides": ints_attribute(pool, "strides", ones),
        "dilations": ones,
        "pads": ints_attribute(pool, "pads", (0,) * (2 * len(kernel))),
        "group": channels,
    }
    layer = ir.node("Conv", [x, holder.outputs[0]], attributes, name=f"{name}/linear")
    layer.outputs[0].dtype, layer.outputs[0].shape = ir.DataType.FLOAT, result.shape
    replace_node(pool, holder, layer)
    _take_both(layer, before, after)


def _take_both(layer: ir.Node, before: Ratio, after: Ratio) -> None:
    """Puts the ratios around a layer of ours, whose rows have one input channel, into it."""
    weights = weights_of(layer)
    assert weights is not None
    factors = column_factors(layer, weights, before)
    columns = multiply_columns(weights, factors, (1, 1))
    assert not isinstance(columns, Obstacle)
    set_weights(layer, columns)
    _multiply_rows(layer, after)


def _report(node: ir.Node, steps: str, ratios: Ratios, model: ir.Model, context: Context) -> None:
    nodes = [
        layer
        for layer in model.graph
        if is_op(layer, "Conv", "Gemm")
        and node
        in (ratios.origin.get(value) for value in (layer.inputs[0], layer.outputs[0]) if value)
    ]
    layers = dict.fromkeys(provenance.location(layer).layer for layer in nodes)
    detail = f"steps per channel, {steps}, go into the weights of {', '.join(layers)}"
    context.rewrites.append(Rewrite("per_channel_maps", provenance.location(node).layer, detail))


def _range(node: ir.Node) -> str:
    steps = steps_of(node)
    return f"{steps.min():.6g} to {steps.max():.6g}"


def _refusal(node: ir.Node, reason: str, model: ir.Model) -> Diagnostic:
    return Diagnostic(
        "DLA203",
        "per-channel-activation",
        f"map {node.outputs[0].name!r} has a step per channel, {_range(node)}, and the weights "
        f"around it cannot take them: {reason}",
        location=provenance.location(node, model),
        help="quantise activations per tensor; a step per channel is exact between a layer with "
        "weights and depth-wise convolutions, or with ratios that are powers of two and few bits",
        notes=("the hardware has one step per map, and one per output channel of weights",),
    )
