"""Chooses formats for a network in floating point, from what its maps are on calibration data.

It goes by what is public of XportDNN: weights by the largest magnitude of each filter; a map by the
range that the user asks for, measured where weights are rounded already. All have 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import FilterThresholds, MapFormat, Mode, Precision
from dlaconv.frontends.caffe.precision.flow import taken_along
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of, statistics_of
from dlaconv.frontends.caffe.precision.limits import as_float32
from dlaconv.frontends.caffe.precision.magnitudes import (
    Blobs,
    filter_magnitudes,
    holding,
    statistic_formats,
)
from dlaconv.frontends.caffe.precision.modes import covering, explicit, norms_before
from dlaconv.frontends.caffe.precision.tying import Map, Ties
from dlaconv.ir.formats import QFormat, Threshold

BITS = 8
LARGEST = (1 << (BITS - 1)) - 1
"""The integer that stands for the threshold of a map."""
_LEAST = 1e-30
"""Maps that are no larger hold nothing but zeros, and any threshold will do."""
_WEIGHTED = {Kind.WEIGHTED, Kind.SOFTWARE}


def choose_weights(layers: Sequence[Layer], mode: Mode, blobs_of: Blobs, file: str) -> None:
    """Gives the layers with weights formats for these, and leaves maps in floating point."""
    for layer in layers:
        if kind_of(layer) not in _WEIGHTED:
            continue
        weights: QFormat | FilterThresholds
        if mode is Mode.XILINX:
            weights = explicit(layer, FilterThresholds(BITS), blobs_of)
        else:
            magnitudes = filter_magnitudes(layer, blobs_of)
            weights = holding(0.0 if magnitudes is None else float(magnitudes.max()), BITS)
        layer.precision = Precision(mode, weights=weights, location=layer.location(file))


def choose_maps(
    layers: Sequence[Layer],
    reaches: Mapping[Map, float],
    mode: Mode,
    blobs_of: Blobs,
    file: str,
    *,
    sums: bool,
) -> None:
    """Completes the formats of `choose_weights`.

    Args:
        layers: the layers that run.
        reaches: how far the integers of each map should reach.
        mode: the mode of all formats.
        blobs_of: gives the values of parameters.
        file: path of the prototxt.
        sums: see `Ties`.
    """
    ties = Ties(layers, reaches, sums=sums)
    formats: dict[Map, MapFormat] = {}
    for item, reach in ties.reach.items():
        form = Threshold(BITS, Fraction(as_float32(reach)) if reach > _LEAST else Fraction(1))
        formats[item] = form if mode is Mode.XILINX else covering(form)
    _leave_shifts(layers, ties, formats)
    chained = {id(layer) for chain in taken_along(layers) for layer in chain}
    norms = norms_before(layers)
    for layer in layers:
        kind = kind_of(layer)
        if kind is Kind.NONE or not layer.bottoms or not layer.tops:
            continue
        uses = ties.maps[id(layer)]
        maps_in = formats.get(ties.group(uses.reads[0]))
        maps_out = formats.get(ties.group(uses.writes[0]))
        if maps_in is None or maps_out is None:
            continue
        names = () if mode is Mode.XILINX or id(layer) in chained else statistics_of(layer)
        layer.precision = replace(
            layer.precision or Precision(mode, location=layer.location(file)),
            maps_in=maps_in,
            maps_out=maps_out,
            bias=maps_out if kind in _WEIGHTED else None,
            statistics=statistic_formats(names, layer, norms.get(id(layer)), BITS, blobs_of),
        )


def _leave_shifts(layers: Sequence[Layer], ties: Ties, formats: dict[Map, MapFormat]) -> None:
    """Takes bits behind the binary point from results that have as many of them as sums."""
    for _ in layers:
        changed = False
        for layer in layers:
            weights = layer.precision.weights if layer.precision is not None else None
            if not isinstance(weights, QFormat) or not layer.bottoms or not layer.tops:
                continue
            uses = ties.maps[id(layer)]
            before, behind = ties.group(uses.reads[0]), ties.group(uses.writes[0])
            read, written = formats.get(before), formats.get(behind)
            if not isinstance(read, QFormat) or not isinstance(written, QFormat):
                continue
            most = read.frac + weights.frac - 1
            if written.frac > most and before != behind:
                formats[behind] = QFormat(written.bits, most)
                changed = True
        if not changed:
            return
