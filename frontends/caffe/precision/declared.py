"""The formats that one layer's ``precision_param`` or ``quantization_param`` gives it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from dlaconv.diagnostics import Diagnostics, Location
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import FilterThresholds, MapFormat, Mode, Precision
from dlaconv.frontends.caffe.precision.defaults import CHAIDNN, RISTRETTO, Defaults
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of, statistics_of
from dlaconv.frontends.caffe.precision.limits import (
    BITS_WHY,
    FRACTION_WHY,
    SHIFT_WHY,
    THRESHOLD_WHY,
    as_float32,
    bits_problem,
    fraction_problem,
    shift_problem,
    threshold_problem,
)
from dlaconv.ir.formats import QFormat, Threshold

_OTHER_MODE = {
    Mode.DYNAMIC_FIXED: ("th_layer_in", "th_layer_out", "th_params"),
    Mode.XILINX: ("fl_layer_in", "fl_layer_out", "fl_params"),
}
_EVERY_FIELD = "CHaiDNN goes on with its defaults and says so only in a list at the end"


class LayerFormats:
    """Reads the formats of one layer, and reports all that is wrong with them at once."""

    def __init__(
        self,
        layer: Layer,
        message: Message,
        mode: Mode,
        file: str,
        found: Diagnostics,
        *,
        chained: bool = False,
        written: bool = True,
    ) -> None:
        """Takes what there is to read.

        Args:
            layer: the layer.
            message: its message, empty if it has none.
            mode: the message's mode.
            file: path of the prototxt.
            found: takes findings.
            chained: the layer is one of a Convolution, BatchNorm and Scale that become one.
            written: the message is in the file.
        """
        self._layer, self._message, self._mode = layer, message, mode
        self._found, self._file = found, file
        self._chained, self._written = chained, written
        self._defaults: Defaults = RISTRETTO if mode is Mode.RISTRETTO else CHAIDNN
        self._missing: list[str] = []

    def read(self) -> Precision:
        """The layer's precision; what is wrong is None in it, and reported."""
        kind = kind_of(self._layer)
        optional = self._mode is not Mode.RISTRETTO and kind in {Kind.SOFTWARE, Kind.JOINED}
        maps_in, maps_out = (self._map(side, optional=optional) for side in ("in", "out"))
        weights = None
        has_weights = kind in {Kind.WEIGHTED, Kind.SOFTWARE}
        if has_weights and (not optional or self._says_weights()):
            weights = self._weights()
        bias: MapFormat | None = None
        if has_weights:
            bias = maps_out
            if self._mode is Mode.RISTRETTO:
                bias = weights if isinstance(weights, QFormat) else None
        shifts = kind is Kind.WEIGHTED and not self._chained
        if shifts and not self._shifts(maps_in, weights, maps_out):
            weights = None
        precision = Precision(
            self._mode,
            maps_in,
            maps_out,
            weights,
            bias,
            self._statistics(),
            self._place(""),
        )
        self._report_missing()
        return precision

    def _map(self, side: str, *, optional: bool) -> MapFormat | None:
        bits_field = f"bw_layer_{side}"
        unit_field = f"th_layer_{side}" if self._mode is Mode.XILINX else f"fl_layer_{side}"
        if optional and not self._message.has(bits_field) and not self._message.has(unit_field):
            return None
        if self._mode is not Mode.XILINX:
            return self._q_format(bits_field, unit_field, self._defaults.fraction)
        bits = self._bits(bits_field)
        threshold = self._defaults.threshold
        if self._message.has(unit_field):
            threshold = as_float32(self._message.number(unit_field))
        else:
            self._missing.append(f"{unit_field}={threshold:g}")
        if bits is None or self._is_wrong(
            unit_field, threshold_problem(unit_field, threshold, bits)
        ):
            return None
        return Threshold(bits, Fraction(threshold))

    def _q_format(self, bits_field: str, unit_field: str, default: int) -> QFormat | None:
        bits, fraction = self._bits(bits_field), default
        if self._message.has(unit_field):
            fraction = self._message.integer(unit_field)
        else:
            self._missing.append(f"{unit_field}={fraction}")
        if self._is_wrong(unit_field, fraction_problem(unit_field, fraction)) or bits is None:
            return None
        return QFormat(bits, fraction)

    def _bits(self, name: str) -> int | None:
        bits = self._defaults.bits
        if self._message.has(name):
            bits = self._message.integer(name)
        else:
            self._missing.append(f"{name}={bits}")
        return None if self._is_wrong(name, bits_problem(name, bits)) else bits

    def _says_weights(self) -> bool:
        return any(self._message.has(name) for name in ("bw_params", "fl_params", "th_params"))

    def _weights(self) -> QFormat | FilterThresholds | None:
        if self._mode is not Mode.XILINX:
            return self._q_format("bw_params", "fl_params", self._defaults.weights_fraction)
        bits = self._bits("bw_params")
        given = [as_float32(value) for value in self._message.numbers("th_params")]
        name = "inner_product_param" if self._layer.type == "InnerProduct" else "convolution_param"
        filters = self._layer.param(name).integer("num_output")
        if not given:
            self._found.note(
                "DLA143",
                "precision-default",
                "no th_params: each filter's largest magnitude is taken",
                location=self._place(""),
                help="write one th_params for each filter to have others",
                notes=("CHaiDNN does the same",),
            )
        elif len(given) != filters:
            self._report(
                "th_params",
                f"{len(given)} th_params for {filters} filters",
                "write one for each of num_output",
                "CHaiDNN does not compare the numbers and reads thresholds behind the list's end",
            )
            return None
        for index, value in enumerate(given):
            problem = (
                "" if value == 0 else threshold_problem(f"th_params[{index}]", value, bits or 8)
            )
            if self._is_wrong("th_params", problem):
                return None
        return None if bits is None else FilterThresholds(bits, tuple(map(Fraction, given)))

    def _statistics(self) -> Mapping[str, QFormat]:
        names = () if self._chained else statistics_of(self._layer)
        if self._mode is Mode.XILINX:
            return {}
        formats = {
            name: self._q_format(f"{name}_bw", f"{name}_fl", self._defaults.fraction)
            for name in names
        }
        return {name: value for name, value in formats.items() if value is not None}

    def _shifts(self, maps_in: object, weights: object, maps_out: object) -> bool:
        """True if CHaiDNN's hardware can get from sums to results; reported if not.

        It shifts sums to the right by as many bits as a result has fewer behind the point. Where a
        BatchNorm follows it works out the weights' format anew, so nothing is known here.
        """
        formats = (maps_in, weights, maps_out)
        if self._mode is not Mode.DYNAMIC_FIXED or not all(isinstance(f, QFormat) for f in formats):
            return True
        fl_in, fl_params, fl_out = (f.frac for f in formats if isinstance(f, QFormat))
        problem = shift_problem(fl_in, fl_params, fl_out)
        if problem:
            self._found.error(
                "DLA142",
                "precision-shift",
                problem,
                location=self._place("fl_layer_out"),
                help=f"an fl_layer_out of {fl_in + fl_params - 1} or less has no more bits than "
                "the sums",
                notes=(SHIFT_WHY,),
            )
        return not problem

    def _place(self, name: str) -> Location:
        line = self._message.line_of(name) if name else self._message.line
        return Location(self._file, line or self._layer.line, self._layer.name, self._layer.type)

    def _is_wrong(self, name: str, problem: str) -> bool:
        if problem:
            why = BITS_WHY if "bw" in name else FRACTION_WHY
            why = THRESHOLD_WHY if name.startswith("th") else why
            self._report(name, problem, "write what the network was quantised with", why)
        return bool(problem)

    def _report(self, name: str, problem: str, remedy: str, why: str) -> None:
        self._found.error(
            "DLA141",
            "precision-format",
            problem,
            location=self._place(name),
            help=remedy,
            notes=(why,),
        )

    def _report_missing(self) -> None:
        if not self._missing:
            return
        if self._mode is Mode.RISTRETTO:
            self._found.note(
                "DLA143",
                "precision-default",
                f"fields are missing, and have Ristretto's defaults: {', '.join(self._missing)}",
                location=self._place(""),
            )
            return
        what = "fields are missing"
        if not self._written:
            what = f"precision_param is missing ({self._mode})"
        other = [name for name in _OTHER_MODE[self._mode] if self._message.has(name)]
        remedy = "write the fields that the network was quantised with"
        if other:
            swapped = Mode.XILINX if self._mode is Mode.DYNAMIC_FIXED else Mode.DYNAMIC_FIXED
            remedy = f'{other[0]} is for quant_type: "{swapped}"; ' + remedy
        self._found.warning(
            "DLA143",
            "precision-default",
            f"{what}, and CHaiDNN's defaults are taken: {', '.join(self._missing)}",
            location=self._place(""),
            help=remedy,
            notes=(_EVERY_FIELD, _consequence(self._mode)),
        )


def _consequence(mode: Mode) -> str:
    if mode is Mode.XILINX:
        return "6 bits with a threshold of 16 are steps of 16/31, and all beyond 16 is cut off"
    return "6 bits of which 3 are a fraction reach from -4 to 3.875, in steps of 1/8"
