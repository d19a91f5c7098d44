"""What is done to pixels goes into the first layers, so that the network takes pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostics
from dlaconv.errors import ConversionError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    attribute,
    insert_after,
    ints_attribute,
    is_op,
    moved,
    remove,
    shape_of,
    unique_name,
)
from dlaconv.ir.passes.affine import affine_of, one_per_channel
from dlaconv.ir.passes.linear_ops import Weights, bias_of, scaled, set_bias, set_weights, weights_of
from dlaconv.ir.pipeline import Context, Pass, Rewrite
from dlaconv.ir.pixels import MARK, TO_FIRST, TO_LAST, Pixels
from dlaconv.ir.quantisation import Quantisation

NAME = "fold_preprocess"
_ALMOST = 2.0**-15
"""Of a pixel: what float32 makes of constants that mean the same."""
_SAME_FACTOR = 2.0**-20
"""Factors of channels that differ by less are one."""
_HELP = "drop --fold-preprocess, and let the host do to pixels what the source wants"


@dataclass(frozen=True, eq=False)
class _Reached:
    """A value that is affine in what is fed: ``factor * fed + offset``.

    Attributes:
        value: the value.
        factor: float64, of the value's rank, broadcasts against it.
        offset: likewise.
        axis: where the channels of pictures are, None where that is not known.
        places: which element of the graph input each element is, and which one it has to be: they
            differ where channels are taken in another order. None if they are the same.
    """

    value: ir.Value
    factor: np.ndarray
    offset: np.ndarray
    axis: int | None
    places: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a first layer becomes.

    Attributes:
        node: the layer.
        weights: its new weights.
        bias: its new bias, None if the old one stays.
        centre: ``[C]``, what is fed where the source has zeros.
        needs_border: True if only a further channel makes it exact.
    """

    node: ir.Node
    weights: Weights
    bias: np.ndarray | None
    centre: np.ndarray
    needs_border: bool = False


@dataclass
class _Plan:
    """What is to be done to the graph, found before anything is.

    Attributes:
        model: the network.
        how: what its input takes.
        layers: the first layers.
        dropped: operators that the layers do instead, with the input that is no constant.
        moving: operators that stay, and then move pixels.
        problems: why it cannot be done.
    """

    model: ir.Model
    how: Pixels
    layers: list[_Layer] = field(default_factory=list)
    dropped: list[tuple[ir.Node, int]] = field(default_factory=list)
    moving: list[ir.Node] = field(default_factory=list)
    problems: Diagnostics = field(default_factory=Diagnostics)

    def refuse(self, node: ir.Node, why: str, remedy: str = _HELP, *notes: str) -> None:
        """Notes a reason."""
        self.problems.error(
            "DLA337",
            "inexact-fold",
            f"preprocessing cannot be folded exactly: {why}",
            location=provenance.location(node, self.model),
            help=remedy,
            notes=notes,
        )


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
                plans.append((value, _Plan(model, how)))
                _follow(_start(value, how), plans[-1][1])
                _require_border_needed(plans[-1][1])
        if problems := [item for _, plan in plans for item in plan.problems]:
            raise ConversionError([*context.diagnostics, *problems])
        for value, plan in plans:
            _apply(value, plan, context)

    return Pass(NAME, apply, None)


def _require_border_needed(plan: _Plan) -> None:
    if plan.how.border and plan.layers and not any(item.needs_border for item in plan.layers):
        plan.refuse(
            plan.layers[0].node,
            "a further channel would have no weights, since no first layer pads with other pixels "
            "than the hardware",
            "drop --border-channel",
        )


def _start(value: ir.Value, how: Pixels) -> _Reached:
    shape = shape_of(value) or ()
    factor, offset = how.affine(len(shape))
    found = _Reached(value, factor, offset + factor * how.zero, how.axis)
    if not how.reverse or how.axis is None:
        return found
    here = np.arange(math.prod(shape)).reshape(shape)
    return replace(found, places=(here, np.flip(here, how.axis)))


def _follow(reached: _Reached, plan: _Plan) -> None:
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
            _into_layer(node, reached, plan)
        else:
            why = f"a {node.op_type} reads what is made of the pixels"
            plan.refuse(node, f"{why}, not a convolution or a fully connected layer")


def _through_quantiser(node: ir.Node, reached: _Reached, plan: _Plan) -> None:
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
        kept = quantisation.reals(quantisation.integers(values))
        tiny = float(np.finfo(np.float32).tiny)
        error = max(error, float((np.abs(kept - values) / (np.abs(factors) + tiny)).max()))
    if error > _ALMOST:
        plan.refuse(
            node,
            f"the source quantises its input ({quantisation}), which moves it by up to "
            f"{error:.3g} of a pixel",
            f"{_HELP}; or quantise the source's input so that each of the 256 pixels is a point of "
            "its grid",
        )
        return
    plan.dropped.append((node, 0))
    _follow(replace(reached, value=node.outputs[0]), plan)


def _moved(node: ir.Node, reached: _Reached) -> _Reached:
    """The same behind an operator that moves values."""
    places, axis = reached.places, None
    if is_op(node, "Transpose") and reached.axis is not None:
        backwards = range(reached.factor.ndim)[::-1]
        axis = ints_attribute(node, "perm", tuple(backwards)).index(reached.axis)
    return _Reached(
        node.outputs[0],
        moved(node, reached.factor),
        moved(node, reached.offset),
        axis,
        None if places is None else (moved(node, places[0]), moved(node, places[1])),
    )


def _into_layer(node: ir.Node, reached: _Reached, plan: _Plan) -> None:
    """What a layer becomes that takes pixels."""
    weights = weights_of(node)
    bias = bias_of(node, weights.channels) if weights is not None else None
    if weights is None or bias is None:
        plan.refuse(node, "the first layer's weights are no constants, or have no step per channel")
        return
    channels = (shape_of(reached.value) or (0, 0))[1]
    factor, offset = (one_per_channel(a, channels) for a in (reached.factor, reached.offset))
    if factor is None or offset is None:
        plan.refuse(node, "what is done to pixels differs from place to place")
        return
    offset = np.where(np.abs(offset) <= _ALMOST * np.abs(factor), 0.0, offset)
    own = weights.array.shape[1]  # input channels that one output channel reads
    group = int(attribute(node, "group", 1))
    read = np.arange(own)[None, :]
    if group > 1:
        read = read + own * (np.arange(weights.channels) // (weights.channels // group))[:, None]
    border, padded = plan.how.border, any(ints_attribute(node, "pads")) and bool(offset.any())
    if padded and not border:
        _refuse_padding(node, factor, offset, plan)
        return
    if border and (reached.axis != 1 or group != 1 or not is_op(node, "Conv")):
        plan.refuse(
            node,
            f"a further channel cannot go into this {node.op_type}",
            f"{_HELP}; or drop --border-channel if no other layer needs it",
        )
        return
    if padded and weights.steps is not None:
        plan.refuse(
            node,
            "the source quantises the first layer's weights, and those for a further "
            "channel leave their grid",
        )
        return
    larger = _times(weights, factor[read])
    if larger is None:
        plan.refuse(
            node,
            "the source quantises the first layer's weights, and pixels are multiplied by another "
            f"factor in each channel ({_listed(factor)})",
            f"{_HELP}; or train with one --std for all channels",
            "integers of the source's weights are kept, so an output channel has one factor",
        )
        return
    total = None
    if offset.any() and not padded:
        taps = weights.array.reshape(weights.channels, own, -1).sum(axis=2, dtype=np.float64)
        unit = 1.0 if weights.steps is None else weights.steps
        total = bias + (taps * offset[read]).sum(axis=1) * unit
    shift = offset if padded else np.zeros(channels)
    if reached.places is not None:
        order = _order(*reached.places) if group == 1 else None
        if order is None:
            plan.refuse(node, "the order of channels cannot go into the first layer's weights")
            return
        larger = replace(larger, array=np.take(larger.array, order, 1))
        factor, offset = factor[order], offset[order]
    if total is not None and not (np.abs(total) <= np.finfo(np.float32).max).all():
        plan.refuse(node, "the first layer's bias would leave 32 bits")
        return
    centre = np.divide(-offset, factor, out=np.zeros(channels), where=factor != 0)
    if border:
        centre = np.append(centre, border)
        own_sum = np.tensordot(weights.array.astype(np.float64), shift, (1, 0)) / border
        further = own_sum[:, None].astype(larger.array.dtype)
        larger = replace(larger, array=np.concatenate([larger.array, further], 1))
    plan.layers.append(_Layer(node, larger, total, centre, padded))


def _times(weights: Weights, factors: np.ndarray) -> Weights | None:
    """Weights times factors ``[O or 1, I]``; integers stay, so an output channel has one."""
    if weights.steps is None:
        shape = factors.shape + (1,) * (weights.array.ndim - 2)
        product = (weights.array * factors.reshape(shape)).astype(weights.array.dtype)
        return replace(weights, array=product) if np.isfinite(product).all() else None
    one = factors[:, :1]
    if (np.abs(factors - one) > _SAME_FACTOR * np.abs(one)).any():
        return None
    return scaled(weights, np.broadcast_to(one[:, 0], (weights.channels,)))


def _order(here: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Of which channel the weights for each input channel were; None if that differs by place."""
    rows = [np.moveaxis(array, 1, 0).reshape(array.shape[1], -1) for array in (here, wanted)]
    places = {tuple(row): index for index, row in enumerate(rows[1].tolist())}
    order = [places.get(tuple(row)) for row in rows[0].tolist()]
    return None if None in order else np.array(order)


def _refuse_padding(node: ir.Node, factor: np.ndarray, offset: np.ndarray, plan: _Plan) -> None:
    """Names the pixels that the source's zeros stand for."""
    zero = plan.how.zero
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = zero - offset / factor
    plan.refuse(
        node,
        f"the first layer pads with zeros, which stand for pixels of {_listed(pixels)} in the "
        f"source and of {zero} on the hardware",
        "give --border-channel, too, and feed one more channel of a constant; or train with a mean "
        f"of {zero} pixels in every channel, or without padding in the first layer; or {_HELP}",
        "the hardware pads with the integer 0, and a pixel p is fed as "
        + (f"p - {zero}, to keep all 8 bits of it" if zero else "p"),
    )


def _listed(values: np.ndarray) -> str:
    shown = list(dict.fromkeys(f"{value:.7g}" for value in values.tolist()))
    return ", ".join([*shown[:4], "..."] if len(shown) > 4 else shown)


def _note_centre(layer: _Layer, fed: ir.Value, context: Context) -> None:
    """Tells the scale stage what rounded weights must not change."""
    source, centre = layer.node.inputs[0], layer.centre
    assert source is not None
    rank = len(shape_of(source) or ())
    context.centres.setdefault(source.name or "", centre.reshape((1, -1) + (1,) * (rank - 2)))
    if (centre == centre[0]).all():  # wherever the layer is moved to
        one = centre[:1].reshape((1,) * len(shape_of(fed) or ()))
        context.centres.setdefault(fed.name or "", one)


def _apply(value: ir.Value, plan: _Plan, context: Context) -> None:
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
            detail += f", and a further channel of {how.border} says what is no padding"
        context.rewrites.append(Rewrite(NAME, place, detail))
