"""What the first layers of a network become when they take pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostics
from dlaconv.ir import provenance
from dlaconv.ir.graph import attribute, ints_attribute, is_op, shape_of
from dlaconv.ir.passes.affine import one_per_channel
from dlaconv.ir.passes.linear_ops import Weights, bias_of, scaled, weights_of
from dlaconv.ir.pixels import Pixels

ALMOST = 2.0**-15
"""Of a pixel: what float32 makes of constants that mean the same."""
_SAME_FACTOR = 2.0**-20
"""Factors of channels that differ by less are one."""
HELP = "drop --fold-preprocess, and let the host do to pixels what the source wants"


@dataclass(frozen=True, eq=False)
class Reached:
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
class FirstLayer:
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
class Plan:
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
    layers: list[FirstLayer] = field(default_factory=list)
    dropped: list[tuple[ir.Node, int]] = field(default_factory=list)
    moving: list[ir.Node] = field(default_factory=list)
    problems: Diagnostics = field(default_factory=Diagnostics)

    def refuse(self, node: ir.Node, why: str, remedy: str = HELP, *notes: str) -> None:
        """Notes a reason."""
        self.problems.error(
            "DLA337",
            "inexact-fold",
            f"preprocessing cannot be folded exactly: {why}",
            location=provenance.location(node, self.model),
            help=remedy,
            notes=notes,
        )


def into_layer(node: ir.Node, reached: Reached, plan: Plan) -> None:
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
    offset = np.where(np.abs(offset) <= ALMOST * np.abs(factor), 0.0, offset)
    own = weights.array.shape[1]  # input channels that one output channel reads
    group = int(attribute(node, "group", 1))
    read = np.arange(own)[None, :]
    if group > 1:
        read = read + own * (np.arange(weights.channels) // (weights.channels // group))[:, None]
    how, padded = plan.how, any(ints_attribute(node, "pads")) and bool(offset.any())
    if padded and not how.further:
        _refuse_padding(node, factor, offset, plan)
        return
    if how.further and (reached.axis != 1 or group != 1 or not is_op(node, "Conv")):
        plan.refuse(
            node,
            f"a further channel cannot go into this {node.op_type}",
            f"{HELP}; or drop --border-channel if no other layer needs it",
        )
        return
    each = how.further == channels and bool(
        (np.abs(offset - how.border * factor) <= ALMOST * np.abs(factor)).all()
    )
    if padded and weights.steps is not None and not each:
        plan.refuse(
            node,
            "the source quantises the first layer's weights, and those for a further channel leave "
            "their grid",
            f"{HELP}; or quantise the source's input with a zero point of {how.zero}",
            "they are on it where zeros stand for one pixel, a whole number, in every channel",
        )
        return
    larger = _times(weights, factor[read])
    if larger is None:
        plan.refuse(
            node,
            "the source quantises the first layer's weights, and pixels are multiplied by another "
            f"factor in each channel ({_listed(factor)})",
            f"{HELP}; or train with one --std for all channels",
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
    if how.further:
        centre = np.append(centre, np.full(how.further, how.border))
        further = _further(weights.array, shift, how)
        if padded and each:  # a constant for each channel of the picture, with the same weights
            further = larger.array
        array = np.concatenate([larger.array, further.astype(larger.array.dtype)], 1)
        larger = replace(larger, array=array)
    plan.layers.append(FirstLayer(node, larger, total, centre, padded))


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


def _further(array: np.ndarray, shift: np.ndarray, how: Pixels) -> np.ndarray:
    """Weights for the further channels: the first one makes up for shifts ``[C]``."""
    shape = (len(array), how.further, *array.shape[2:])
    found = np.zeros(shape)
    found[:, 0] = np.tensordot(array.astype(np.float64), shift, (1, 0)) / how.border
    return found


def _order(here: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Of which channel the weights for each input channel were; None if that differs by place."""
    rows = [np.moveaxis(array, 1, 0).reshape(array.shape[1], -1) for array in (here, wanted)]
    places = {tuple(row): index for index, row in enumerate(rows[1].tolist())}
    order = [places.get(tuple(row)) for row in rows[0].tolist()]
    return None if None in order else np.array(order)


def _refuse_padding(node: ir.Node, factor: np.ndarray, offset: np.ndarray, plan: Plan) -> None:
    """Names the pixels that the source's zeros stand for."""
    zero = plan.how.zero
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = zero - offset / factor
    plan.refuse(
        node,
        f"the first layer pads with zeros, which stand for pixels of {_listed(pixels)} in the "
        f"source and of {zero} on the hardware",
        "give --border-channel, too, and feed one more channel of a constant; or train with a mean "
        f"of {zero} pixels in every channel, or without padding in the first layer; or {HELP}",
        "the hardware pads with the integer 0, and a pixel p is fed as "
        + (f"p - {zero}, to keep all 8 bits of it" if zero else "p"),
    )


def _listed(values: np.ndarray) -> str:
    shown = list(dict.fromkeys(f"{value:.7g}" for value in values.tolist()))
    return ", ".join([*shown[:4], "..."] if len(shown) > 4 else shown)
