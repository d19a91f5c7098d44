"""Formats of one of CHaiDNN's modes in terms of the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from dlaconv.diagnostics import Diagnostics, Location, listed
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import FilterThresholds, MapFormat, Mode, Precision
from dlaconv.frontends.caffe.precision.flow import taken_along
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of, statistics_of
from dlaconv.frontends.caffe.precision.limits import MOST_FRACTION, as_float32
from dlaconv.frontends.caffe.precision.magnitudes import (
    Blobs,
    filter_magnitudes,
    statistic_formats,
)
from dlaconv.ir.formats import QFormat, Threshold

_BITS = 8
_NAMED = 3


def convert_modes(
    layers: Sequence[Layer], mode: Mode | None, blobs_of: Blobs, file: str, found: Diagnostics
) -> None:
    """Gives every layer that has a precision one of a mode that CHaiDNN has.

    Args:
        layers: the layers that run.
        mode: the mode; each layer keeps its own if None, Ristretto's become DynamicFixed.
        blobs_of: gives the values of parameters, for formats that the other mode does not have.
        file: path of the prototxt.
        found: takes a warning that says what is lost.
    """
    losses = _Losses()
    chained = {id(layer) for chain in taken_along(layers) for layer in chain}
    norms = norms_before(layers)
    for layer in layers:
        if layer.precision is None:
            continue
        own = layer.precision.mode
        wanted = mode or (Mode.DYNAMIC_FIXED if own is Mode.RISTRETTO else own)
        if wanted is own:
            continue
        names = () if id(layer) in chained else statistics_of(layer)
        layer.precision = _converted(layer, wanted, names, norms.get(id(layer)), blobs_of, losses)
    losses.report(mode, file, found)


def norms_before(layers: Sequence[Layer]) -> dict[int, Layer]:
    """The BatchNorm that each Scale reads, by the identity of the Scale."""
    writer: dict[str, Layer] = {}
    found = {}
    for layer in layers:
        before = writer.get(layer.bottoms[0]) if len(layer.bottoms) == 1 else None
        if layer.type == "Scale" and before is not None and before.type == "BatchNorm":
            found[id(layer)] = before
        writer.update(dict.fromkeys(layer.tops, layer))
    return found


def covering(form: Threshold) -> QFormat:
    """The format with the smallest range that holds a threshold."""
    step = form.step
    places = step.numerator.bit_length() - step.denominator.bit_length()
    while Fraction(2) ** places < step:
        places += 1
    while Fraction(2) ** (places - 1) >= step:
        places -= 1
    return QFormat(form.bits, min(-places, MOST_FRACTION))


def threshold_of(form: QFormat) -> Threshold:
    """The threshold with the same unit."""
    return Threshold(form.bits, form.step * ((1 << (form.bits - 1)) - 1))


@dataclass
class _Losses:
    """What conversions lose.

    Attributes:
        layers: those that were converted, with the mode they had.
        maps: bits of resolution that maps lose, and whose.
        filters: the same for the filter of a layer that loses most.
        statistics: names of layers whose statistics have no format any more.
        other_bias: layers of Ristretto, whose bias had the format of the weights.
    """

    layers: list[tuple[Layer, Mode]] = field(default_factory=list)
    maps: list[tuple[float, str]] = field(default_factory=list)
    filters: list[tuple[float, str]] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)
    other_bias: list[str] = field(default_factory=list)

    def report(self, mode: Mode | None, file: str, found: Diagnostics) -> None:
        if not self.layers:
            return
        first, own = self.layers[0]
        notes = list(self._notes())
        found.warning(
            "DLA153",
            "converted-formats",
            f"the formats of {len(self.layers)} layers are converted from {own} to "
            f"{mode or Mode.DYNAMIC_FIXED}, and the network computes with these",
            location=Location(file, first.line, first.name, first.type),
            help="leave out --quant-type to keep those of the source"
            if own is not Mode.RISTRETTO
            else "",
            notes=tuple(notes),
        )

    def _notes(self) -> list[str]:
        words = []
        for what, losses in (("maps", self.maps), ("weights", self.filters)):
            if losses:
                worst, name = max(losses)
                mean = sum(bits for bits, _ in losses) / len(losses)
                words.append(
                    f"{what} have larger units, since those of DynamicFixed are powers of two"
                    f"{', one for all filters' if what == 'weights' else ''}: {mean:.2f} bits on "
                    f"average, {worst:.2f} bits in {name!r}"
                )
        if any(own is Mode.DYNAMIC_FIXED for _, own in self.layers):
            words.append(
                "thresholds leave out the most negative integer (-128 of 8 bits), which weights "
                "and the network's inputs can have in DynamicFixed mode"
            )
        if self.statistics:
            names = listed(self.statistics, _NAMED)
            words.append(
                f"Xilinx mode has no formats for statistics: those of {names} are not rounded any "
                "more"
            )
        if self.other_bias:
            names = listed(self.other_bias, _NAMED)
            words.append(f"biases are rounded like results, not like weights: {names}")
        return words


def _converted(
    layer: Layer,
    mode: Mode,
    statistics: tuple[str, ...],
    norm: Layer | None,
    blobs_of: Blobs,
    losses: _Losses,
) -> Precision:
    old = layer.precision
    assert old is not None
    losses.layers.append((layer, old.mode))
    maps_in = _map(old.maps_in, mode, "", losses)
    maps_out = _map(old.maps_out, mode, layer.name, losses)
    weighted = kind_of(layer) in {Kind.WEIGHTED, Kind.SOFTWARE}
    if old.mode is Mode.RISTRETTO and old.bias is not None:
        losses.other_bias.append(repr(layer.name))
    if mode is Mode.XILINX:
        formats = {}
        if old.statistics:
            losses.statistics.append(repr(layer.name))
    else:
        formats = {name: form for name in statistics if (form := old.statistics.get(name))}
        if missing := tuple(name for name in statistics if name not in formats):
            bits = maps_out.bits if maps_out is not None else _BITS
            formats |= statistic_formats(missing, layer, norm, bits, blobs_of)
    return Precision(
        mode,
        maps_in,
        maps_out,
        _weights(layer, mode, blobs_of, losses),
        maps_out if weighted else None,
        formats,
        old.location,
    )


def _map(form: MapFormat | None, mode: Mode, name: str, losses: _Losses) -> MapFormat | None:
    if form is None:
        return None
    if mode is Mode.XILINX:
        return threshold_of(form) if isinstance(form, QFormat) else form
    if isinstance(form, QFormat):
        return form
    found = covering(form)
    if name:
        losses.maps.append((_bits(found.step, form.step), name))
    return found


def _weights(
    layer: Layer, mode: Mode, blobs_of: Blobs, losses: _Losses
) -> QFormat | FilterThresholds | None:
    old = layer.precision.weights if layer.precision is not None else None
    if isinstance(old, QFormat) and mode is Mode.XILINX:
        magnitudes = filter_magnitudes(layer, blobs_of)
        count = len(magnitudes) if magnitudes is not None else 0
        return FilterThresholds(old.bits, (threshold_of(old).th,) * count)
    if isinstance(old, FilterThresholds) and mode is not Mode.XILINX:
        thresholds = list(explicit(layer, old, blobs_of).thresholds)
        largest = max(thresholds, default=Fraction(0))
        if not largest:
            return QFormat(old.bits, old.bits - 1)
        found = covering(Threshold(old.bits, largest))
        least = min(threshold for threshold in thresholds if threshold)
        losses.filters.append((_bits(found.step, Threshold(old.bits, least).step), layer.name))
        return found
    return old


def explicit(layer: Layer, form: FilterThresholds, blobs_of: Blobs) -> FilterThresholds:
    """Thresholds as numbers: those of filters without any are their largest magnitudes."""
    if form.thresholds:
        return form
    magnitudes = filter_magnitudes(layer, blobs_of)
    if magnitudes is None:
        return form
    given = tuple(Fraction(as_float32(float(value))) for value in magnitudes)
    return replace(form, thresholds=given)


def _bits(unit: Fraction, old: Fraction) -> float:
    return max(0.0, math.log2(unit / old))
