"""What is done to pixels goes into the first layers, so that the network takes pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.errors import ConversionError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    insert_after,
    ints_attribute,
    is_op,
    moved,
    remove,
    shape_of,
    unique_name,
)
from dlaconv.ir.passes.affine import affine_of
from dlaconv.ir.passes.linear_ops import set_bias, set_weights
from dlaconv.ir.passes.pixel_layers import ALMOST, HELP, FirstLayer, Plan, Reached, into_layer
from dlaconv.ir.pipeline import Context, Pass, Rewrite
from dlaconv.ir.pixels import MARK, TO_FIRST, TO_LAST, Pixels
from dlaconv.ir.quantisation import Quantisation

NAME = "fold_preprocess"


def fold_preprocess(pixels: Mapping[str, Pixels]) -> Pass:
    """The pass that lets graph inputs take pixels.

    ``Linear(f p + o, W, b)`` becomes ``Linear(p - zero, f W, b + W (o + f zero))``, p being pixels:
    what the user says of them, then operators with constants at the beginning of the graph,
    quantisers that keep every pixel, and operators that move values. Every way from the input has
    to end in a convolution or fully connected layer. Its input becomes a map with a step of 1.

    A convolution that pads needs ``o + f zero = 0``: zeros of the hardware then stand for the
    zeros of the source. Weights that the source quantises need one f for an output channel.

    Args:
        pixels: what graph inputs take, by name.

    Returns:
        A pass for stage CANONICAL; it raises `ConversionError` with every reason why the result
        would not be exact, and changes nothing then.
    """

    def apply(model: ir.Model, context: Context) -> None:
        plans = []
        for value in model.graph.inputs:
            how = pixels.get(value.name or "")
            if how is not None:
                plans.append((value, Plan(model, how)))
                _follow(_start(value, how), plans[-1][1])
                _require_border_needed(plans[-1][1])
        if problems := [item for _, plan in plans for item in plan.problems]:
            raise ConversionError([*context.diagnostics, *problems])
        for value, plan in plans:
            _apply(value, plan, context)

    return Pass(NAME, apply, None)


def _require_border_needed(plan: Plan) -> None:
    if plan.how.further and plan.layers and not any(item.needs_border for item in plan.layers):
        plan.refuse(
            plan.layers[0].node,
            "a further channel would have no weights, since no first layer pads with other pixels "
            "than the hardware",
            "drop --border-channel",
        )


def _start(value: ir.Value, how: Pixels) -> Reached:
    shape = shape_of(value) or ()
    factor, offset = how.affine(len(shape))
    found = Reached(value, factor, offset + factor * how.zero, how.axis)
    if not how.reverse or how.axis is None:
        return found
    here = np.arange(math.prod(shape)).reshape(shape)
    return replace(found, places=(here, np.flip(here, how.axis)))


def _follow(reached: Reached, plan: Plan) -> None:
    """Notes for all that reads a value what it becomes."""
    value = reached.value
    for use in value.uses():
        node = use.node
        affine = affine_of(node)
        if value.is_graph_output():
            plan.refuse(node, f"{value.name!r} is a graph output, too")
        elif affine is not None and affine.source is value:
            plan.dropped.append((node, use.idx))
            factor = affine.scale * reached.factor
            offset = affine.scale * reached.offset + affine.offset
            if np.isfinite(factor).all() and np.isfinite(offset).all():
                after = replace(reached, value=node.outputs[0], factor=factor, offset=offset)
                _follow(after, plan)
            else:
                plan.refuse(node, f"the result of a {node.op_type} is not finite")
        elif dialect.is_quantize(node) and use.idx == 0:
            _through_quantiser(node, reached, plan)
        elif is_op(node, "Transpose", "Reshape") and use.idx == 0:
            plan.moving.append(node)
            _follow(_moved(node, reached), plan)
        elif is_op(node, "Conv", "Gemm") and use.idx == 0:
            into_layer(node, reached, plan)
        else:
            why = f"a {node.op_type} reads what is made of the pixels"
            plan.refuse(node, f"{why}, not a convolution or a fully connected layer")


def _through_quantiser(node: ir.Node, reached: Reached, plan: Plan) -> None:
    """A quantiser may go if it changes no pixel."""
    quantisation, how = dialect.quantisation_of(node), plan.how
    if not quantisation.per_tensor:
        plan.refuse(node, "the source quantises each channel of its input by itself")
        return
    pair = np.broadcast_arrays(reached.factor, reached.offset)
    factors, offsets = np.unique(np.stack([array.reshape(-1) for array in pair]), axis=1)
    error = 0.0
    for fed in range(how.low, how.high + 1):
        values = (factors * fed + offsets).astype(np.float32)
        kept = quantisation.on_grid(values)
        tiny = float(np.finfo(np.float32).tiny)
        error = max(error, float((np.abs(kept - values) / (np.abs(factors) + tiny)).max()))
    if error > ALMOST:
        plan.refuse(
            node,
            f"the source quantises its input ({quantisation}), which moves it by up to "
            f"{error:.3g} of a pixel",
            f"{HELP}; or quantise the source's input so that each of the 256 pixels is a point of "
            "its grid",
        )
        return
    plan.dropped.append((node, 0))
    _follow(replace(reached, value=node.outputs[0]), plan)


def _moved(node: ir.Node, reached: Reached) -> Reached:
    """The same behind an operator that moves values."""
    places, axis = reached.places, None
    if is_op(node, "Transpose") and reached.axis is not None:
        backwards = range(reached.factor.ndim)[::-1]
        axis = ints_attribute(node, "perm", tuple(backwards)).index(reached.axis)
    return Reached(
        node.outputs[0],
        moved(node, reached.factor),
        moved(node, reached.offset),
        axis,
        None if places is None else (moved(node, places[0]), moved(node, places[1])),
    )


def _note_centre(layer: FirstLayer, fed: ir.Value, context: Context) -> None:
    """Tells the scale stage what rounded weights must not change."""
    source, centre = layer.node.inputs[0], layer.centre
    assert source is not None
    rank = len(shape_of(source) or ())
    context.centres.setdefault(source.name or "", centre.reshape((1, -1) + (1,) * (rank - 2)))
    if (centre == centre[0]).all():  # wherever the layer is moved to
        one = centre[:1].reshape((1,) * len(shape_of(fed) or ()))
        context.centres.setdefault(fed.name or "", one)


def _apply(value: ir.Value, plan: Plan, context: Context) -> None:
    graph, how = plan.model.graph, plan.how
    uses, name = list(value.uses()), f"{value.name}{MARK}"
    value.shape = ir.Shape(how.stored(shape_of(value) or ()))
    quantiser = dialect.quantize(
        value,
        Quantisation.of(1.0, signed=how.zero > 0),
        name=f"{name}/quantise",
        output=unique_name(graph, name),
    )
    provenance.mark(quantiser, value.name or "", "input")
    insert_after(value, quantiser)
    fed = read = quantiser.outputs[0]
    if how.turn:
        back = ir.node("Transpose", [fed], {"perm": TO_LAST}, name=f"{name}/turn")
        provenance.mark(back, value.name or "", "input")
        read = back.outputs[0]
        read.name, read.dtype = unique_name(graph, f"{name}/turned"), ir.DataType.FLOAT
        read.shape = ir.Shape([value.shape[index] for index in TO_LAST])
        insert_after(fed, back)
    for use in uses:
        use.node.replace_input_with(use.idx, read)
    for node, index in plan.dropped:
        source = node.inputs[index]
        assert source is not None
        node.outputs[0].replace_all_uses_with(source)
    for node, _ in reversed(plan.dropped):
        remove(node)
    for node in plan.moving:  # it moves other values than the source's
        node.outputs[0].name = unique_name(graph, f"{node.outputs[0].name}{MARK}")
        source = node.inputs[0]
        if source is read is not fed and ints_attribute(node, "perm") == TO_FIRST:
            node.outputs[0].replace_all_uses_with(fed)
            remove(node)
        elif source is not None and is_op(node, "Transpose"):
            shape = shape_of(source) or ()
            order = ints_attribute(node, "perm", tuple(range(len(shape)))[::-1])
            node.outputs[0].shape = ir.Shape([shape[index] for index in order])
    if read is not fed and not read.uses():
        remove(back)
        detail = "the host feeds channels first, and nothing is transposed"
        context.rewrites.append(Rewrite(NAME, value.name or "", detail))
    for layer in plan.layers:
        set_weights(layer.node, layer.weights)
        if layer.bias is not None:
            set_bias(layer.node, layer.bias)
        _note_centre(layer, fed, context)
        place = provenance.location(layer.node, None).layer
        detail = "takes pixels: what is done to them is in its weights and bias"
        if layer.needs_border:
            detail += f", and {how.further} channels of {how.border} say what is no padding"
        context.rewrites.append(Rewrite(NAME, place, detail))
