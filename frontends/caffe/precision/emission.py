"""Settles the formats of a network that are applied to it and written into a prototxt.

Whatever says the formats, or chooses them, they are put into messages first and read back from
there, so the network that is imported is the one that the written file describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.errors import InternalError, UsageError
from dlaconv.frontends import Calibration
from dlaconv.frontends.caffe.network import Layer, names_of
from dlaconv.frontends.caffe.precision import FilterThresholds, MapFormat, Mode, Precision
from dlaconv.frontends.caffe.precision.choosing import LARGEST, choose_maps, choose_weights
from dlaconv.frontends.caffe.precision.flow import taken_along
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of
from dlaconv.frontends.caffe.precision.limits import as_float32
from dlaconv.frontends.caffe.precision.magnitudes import Blobs
from dlaconv.frontends.caffe.precision.modes import convert_modes, explicit
from dlaconv.frontends.caffe.precision.tying import Map
from dlaconv.frontends.caffe.precision.writing import network_message, write_precision
from dlaconv.frontends.caffe.precision.written import read_written
from dlaconv.frontends.caffe.printing import printed
from dlaconv.ir.formats import Threshold


def parse_mode(text: str | None) -> Mode | None:
    """Reads ``--quant-type``; None without it.

    Raises:
        UsageError: if it is no mode of CHaiDNN.
    """
    if text is None:
        return None
    if text not in {Mode.XILINX, Mode.DYNAMIC_FIXED}:
        raise UsageError(
            Diagnostic(
                "DLA426",
                "option-value",
                f"quant_type cannot be {str(text)!r}",
                help=f"choose {Mode.XILINX} or {Mode.DYNAMIC_FIXED}",
            )
        )
    return Mode(text)


Values = Callable[[], tuple[ir.Model, Mapping[Map, str]]]
"""A network with the precision that its layers have, and the names of its values by map."""


@dataclass(frozen=True)
class Emission:
    """What a user wants of formats beside reading them.

    Attributes:
        path: the prototxt to write; None for none.
        mode: the mode of all formats; None for that of the source, Xilinx if it has none.
        calibration: measures a network in floating point; None without data.
    """

    path: Path | None = None
    mode: Mode | None = None
    calibration: Calibration | None = None

    def settle(
        self,
        layers: Sequence[Layer],
        blobs_of: Blobs,
        values: Values,
        file: str,
        found: Diagnostics,
    ) -> None:
        """Settles the formats of all layers, and writes them into their messages.

        Args:
            layers: the layers that run, with the precision that the user's files and options say.
            blobs_of: the values of parameters.
            values: makes the network to measure.
            file: path of the prototxt that is read.
            found: takes findings; with errors, layers may have no formats.
        """
        quantised = any(layer.precision is not None for layer in layers)
        if self.path is None and not (quantised and self.mode is not None):
            return
        if quantised:
            convert_modes(layers, self.mode, blobs_of, file, found)
            _require_all(layers, file, found)
        elif self.calibration is None:
            found.error(
                "DLA154",
                "no-formats",
                "the network is in floating point, so there are no formats to write",
                location=Location(file=file),
                help="give inputs to choose them by, with --calibrate, or --precision 8,8,8 "
                "--fl-bitwidths 4,7,4, or --thresholds FILE",
                notes=("CHaiDNN takes 6 bits and a threshold of 16 for what is not written",),
            )
        else:
            self._choose(layers, self.calibration, blobs_of, values, file, found)
        if not found.errors:
            _through_messages(layers, blobs_of, file, found)

    def _choose(
        self,
        layers: Sequence[Layer],
        calibration: Calibration,
        blobs_of: Blobs,
        values: Values,
        file: str,
        found: Diagnostics,
    ) -> None:
        mode = self.mode or Mode.XILINX
        choose_weights(layers, mode, blobs_of, file)
        model, names = values()
        if not names:  # importing the network says why
            for layer in layers:
                layer.precision = None
            return
        measured = calibration.reaches(model, list(names.values()), LARGEST)
        reaches = {item: measured[name] for item, name in names.items()}
        if wrong := [item for item, reach in reaches.items() if not math.isfinite(reach)]:
            found.error(
                "DLA154",
                "no-formats",
                f"the calibration data make {wrong[0][0]!r} infinite, or no number",
                location=Location(file=file),
                help="check the weights and the inputs",
            )
            return
        sums = calibration.ranges != "xilinx"
        choose_maps(layers, reaches, mode, blobs_of, file, sums=sums)

    def files(self, name: str, layers: Sequence[Layer]) -> dict[Path, str]:
        """The prototxt with the formats of `settle`, by its path.

        Args:
            name: the network's name.
            layers: its layers.
        """
        return {} if self.path is None else {self.path: printed(network_message(name, layers))}


def _require_all(layers: Sequence[Layer], file: str, found: Diagnostics) -> None:
    """Refuses layers for which CHaiDNN would take its defaults."""
    chained = {id(layer) for chain in taken_along(layers) for layer in chain[1:]}
    left = [
        layer
        for layer in layers
        if layer.precision is None
        and kind_of(layer) in {Kind.WEIGHTED, Kind.STATISTICS}
        and id(layer) not in chained
    ]
    if left:
        found.error(
            "DLA155",
            "unwritten-precision",
            f"the source quantises other layers, but not {names_of(left)}",
            location=left[0].location(file),
            help="give them a precision_param, too",
            notes=("CHaiDNN would read 6 bits with a fraction of 3 for them",),
        )


def _through_messages(
    layers: Sequence[Layer], blobs_of: Blobs, file: str, found: Diagnostics
) -> None:
    """Writes all formats in full, and takes what is read back."""
    for layer in layers:
        if layer.precision is not None:
            layer.precision = _in_full(layer, layer.precision, blobs_of)
    wanted = [layer.precision for layer in layers]
    write_precision(layers)
    for layer in layers:
        layer.precision = None
    again = Diagnostics()
    read_written(layers, file, again)
    found.extend(again.errors)
    for layer, precision in zip(layers, wanted, strict=True):
        read = layer.precision
        if again.errors or kind_of(layer) is Kind.NONE or _same(read, precision):
            continue
        raise InternalError(f"{layer.name!r}: {precision} is written, {read} is read back")


def _in_full(layer: Layer, precision: Precision, blobs_of: Blobs) -> Precision:
    """A precision as a message can say it: thresholds are written out and of float32."""
    weights = precision.weights
    if isinstance(weights, FilterThresholds):
        given = explicit(layer, weights, blobs_of)
        weights = replace(given, thresholds=tuple(map(_rounded, given.thresholds)))
    return replace(
        precision,
        maps_in=_rounded_format(precision.maps_in),
        maps_out=_rounded_format(precision.maps_out),
        weights=weights,
        bias=_rounded_format(precision.bias),
    )


def _rounded_format(form: MapFormat | None) -> MapFormat | None:
    return replace(form, th=_rounded(form.th)) if isinstance(form, Threshold) else form


def _rounded(value: Fraction) -> Fraction:
    number = as_float32(float(value))
    return Fraction(number) if number < float("inf") else value


def _same(one: Precision | None, other: Precision | None) -> bool:
    if one is None or other is None:
        return one is other
    nowhere = Location()
    return replace(one, location=nowhere) == replace(other, location=nowhere)
