"""The formats that a prototxt gives its layers, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location, Severity
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.network import Layer, names_of
from dlaconv.frontends.caffe.precision import Mode
from dlaconv.frontends.caffe.precision.declared import LayerFormats
from dlaconv.frontends.caffe.precision.flow import taken_along
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of
from dlaconv.frontends.caffe.schema import caffe_schema

_FIELDS = ("precision_param", "quantization_param")
_RISTRETTO_ONLY = (
    "precision", "rounding_scheme", "mant_bits", "exp_bits", "exp_min", "exp_max",
)  # fmt: skip
_CHAIDNN_ONLY = ("quant_type", "th_layer_in", "th_layer_out", "th_params")
_MOST_LAYERS = 50
"""Layers of which findings are told one by one."""
_AS_THEY_ARE = "CHaiDNN hands integers from layer to layer as they are, whatever they stand for"


def quantised(layers: Iterable[Layer]) -> list[Layer]:
    """The layers to which the prototxt gives formats."""
    return [
        layer
        for layer in layers
        if kind_of(layer) is not Kind.NONE and (_message(layer) is not None or _ristretto(layer))
    ]


def read_written(layers: Sequence[Layer], file: str, found: Diagnostics) -> None:
    """Sets ``precision`` of every layer to what the prototxt says.

    Args:
        layers: the layers that run, in the order of the file.
        file: path of the prototxt.
        found: takes findings.
    """
    asked = quantised(layers)
    _report_ignored(layers, bool(asked), file, found)
    if not asked:
        return
    network = _Network(layers, asked, file, found)
    network.read()
    _report_floating(layers, network.chaidnn, file, found)


class _Network:
    """Reads layer after layer, with what is known about all of them."""

    def __init__(
        self, layers: Sequence[Layer], asked: Sequence[Layer], file: str, found: Diagnostics
    ) -> None:
        self._layers, self._file, self._found = layers, file, found
        self._chained = {id(layer) for chain in taken_along(layers) for layer in chain}
        self._modes: dict[int, Mode | None] = {
            id(layer): self._mode(layer) for layer in asked if _message(layer) is not None
        }
        self.chaidnn = any(mode is not Mode.RISTRETTO for mode in self._modes.values())

    def read(self) -> None:
        self._report_modes()
        told, more = 0, Diagnostics()
        for layer in self._layers:
            here = Diagnostics()
            self._layer(layer, here)
            if told < _MOST_LAYERS:
                self._found.extend(here)
                told += len(here) > 0
            else:
                more.extend(here)
        if len(more):
            self._report_more(more)

    def _report_more(self, more: Diagnostics) -> None:
        count = len({item.location for item in more})
        worst = [*more.errors, *more.warnings, *more][0]
        message = f"and {count} more layers with such findings: {worst.message}"
        self._found.add(replace(worst, message=message, help="mend the layers named before first"))

    def _layer(self, layer: Layer, found: Diagnostics) -> None:
        kind, message = kind_of(layer), _message(layer)
        if kind is Kind.NONE:
            return
        chained = self.chaidnn and id(layer) in self._chained
        if message is not None:
            if all(layer.message.has(name) for name in _FIELDS):
                self._report_unread(layer, found)
            mode = self._modes[id(layer)]
            if mode is not None and not self._refused(layer, message, found):
                formats = LayerFormats(layer, message, mode, self._file, found, chained=chained)
                layer.precision = formats.read()
            return
        if kind is Kind.MAPS and self.chaidnn:
            if layer.type != "LRN":  # which CHaiDNN does not have
                self._report_unsaid(layer, found)
            return
        if kind is Kind.STATISTICS and chained:
            if layer.type == "Scale":
                self._report_unsaid_result(layer, found)
            return
        needed = kind in {Kind.WEIGHTED, Kind.STATISTICS}
        if (self.chaidnn and needed) or (not self.chaidnn and _ristretto(layer)):
            mode = Mode.DYNAMIC_FIXED if self.chaidnn else Mode.RISTRETTO
            empty = Message(caffe_schema(), "PrecisionParameter", layer.line)
            formats = LayerFormats(
                layer, empty, mode, self._file, found, chained=chained, written=False
            )
            layer.precision = formats.read()

    def _mode(self, layer: Layer) -> Mode | None:
        message = _message(layer)
        assert message is not None
        if _in_ristretto(layer, message):
            return Mode.RISTRETTO
        text = message.text("quant_type")
        if text in {Mode.DYNAMIC_FIXED, Mode.XILINX, ""}:
            return Mode(text or Mode.DYNAMIC_FIXED)
        near = [mode for mode in (Mode.DYNAMIC_FIXED, Mode.XILINX) if text.lower() == mode.lower()]
        self._found.error(
            "DLA140",
            "quant-type",
            f"quant_type {text!r} is neither 'DynamicFixed' nor 'Xilinx'",
            location=_place(layer, self._file, message.line_of("quant_type")),
            help=f'write quant_type: "{near[0]}"' if near else "write one of the two",
            notes=("CHaiDNN ends with EP501 here",),
        )
        return None

    def _report_modes(self) -> None:
        first: dict[Mode, Layer] = {}
        for layer in self._layers:
            if (mode := self._modes.get(id(layer))) is not None:
                first.setdefault(mode, layer)
        if len(first) < 2:
            return
        counted = list(self._modes.values())
        words = ", ".join(f"{counted.count(mode)} of {mode}" for mode in first)
        where = list(first.values())[1]
        self._found.warning(
            "DLA140",
            "quant-type",
            f"layers of several quant_types: {words}",
            location=_place(where, self._file),
            help='write the same quant_type into every layer; without one it is "DynamicFixed"',
            notes=(_AS_THEY_ARE, "here maps are rounded anew where formats differ"),
        )

    def _refused(self, layer: Layer, message: Message, found: Diagnostics) -> bool:
        values = {
            "precision": ("DYNAMIC_FIXED_POINT", message.text("precision")),
            "rounding_scheme": ("NEAREST", message.text("rounding_scheme")),
        }
        other = [f"{name}: {value}" for name, (known, value) in values.items() if value != known]
        if other:
            found.error(
                "DLA131",
                "unread-precision",
                f"Ristretto's {' with '.join(other)} is not read",
                location=_place(layer, self._file, message.line),
                help="quantise it again with DYNAMIC_FIXED_POINT and NEAREST, or give the network "
                "in floating point and --calibrate",
                notes=("the accelerator has integers that are rounded to nearest",),
            )
        return bool(other)

    def _report_unread(self, layer: Layer, found: Diagnostics) -> None:
        found.warning(
            "DLA144",
            "ignored-precision",
            "quantization_param is not read beside precision_param",
            location=_place(layer, self._file, layer.message.line_of("quantization_param")),
            help="remove one of the two",
            notes=("CHaiDNN takes precision_param, too",),
        )

    def _report_unsaid(self, layer: Layer, found: Diagnostics) -> None:
        how = "what reads it says how its result is stored"
        if layer.type == "Pooling":
            how = "its result is stored like what it reads"
        found.warning(
            "DLA143",
            "precision-default",
            f"the {layer.type} layer has no precision: {how}",
            location=_place(layer, self._file),
            help="write a precision_param, the same as that of the layer before it",
            notes=(
                "CHaiDNN writes down 6 bits and a fraction of 3 for it",
                "its hardware works on the integers of the layer before as they are",
            ),
        )

    def _report_unsaid_result(self, layer: Layer, found: Diagnostics) -> None:
        found.warning(
            "DLA143",
            "precision-default",
            "the Scale has no precision: its result is stored as the convolution before it says",
            location=_place(layer, self._file),
            help="write the convolution's precision_param into the BatchNorm and the Scale, too",
            notes=(
                "CHaiDNN makes one convolution of the three, and the Scale says how to store it",
                "there it would have 6 bits with a fraction of 3, or a threshold that is never set",
            ),
        )


def _message(layer: Layer) -> Message | None:
    for name in _FIELDS:
        if layer.message.has(name):
            return layer.message.message(name)
    return None


def _ristretto(layer: Layer) -> bool:
    return layer.message.text("type").endswith("Ristretto")


def _in_ristretto(layer: Layer, message: Message) -> bool:
    """True if a message has Ristretto's meaning; CHaiDNN uses the same names."""
    if layer.message.has("precision_param") or any(message.has(name) for name in _CHAIDNN_ONLY):
        return False
    return _ristretto(layer) or any(message.has(name) for name in _RISTRETTO_ONLY)


def _place(layer: Layer, file: str, line: int = 0) -> Location:
    return Location(file, line or layer.line, layer.name, layer.type)


def _report_ignored(layers: Sequence[Layer], used: bool, file: str, found: Diagnostics) -> None:
    """Names the layers whose formats mean nothing; CHaiDNN never reads those of an Input."""
    ignored = [
        layer
        for layer in layers
        if kind_of(layer) is Kind.NONE
        and _message(layer) is not None
        and (layer.type != "Input" or not used)
    ]
    if ignored:
        found.add(
            Diagnostic(
                "DLA144",
                "ignored-precision",
                f"a precision without effect: {names_of(ignored)}",
                Severity.NOTE if used else Severity.WARNING,
                _place(ignored[0], file),
                "" if used else "write precision_param into the layers that compute, too",
                ("these layers keep the format of what they read, in CHaiDNN as well",),
            )
        )


def _report_floating(layers: Sequence[Layer], chaidnn: bool, file: str, found: Diagnostics) -> None:
    """Names the layers that are computed in floating point where the network was quantised."""
    products = [layer for layer in layers if kind_of(layer) is Kind.SOFTWARE]
    weighted = [layer for layer in layers if kind_of(layer) in {Kind.WEIGHTED, Kind.SOFTWARE}]
    left = [layer for layer in weighted if layer.precision is None]
    if chaidnn:
        given = [layer for layer in products if layer.precision is not None]
        left = [layer for layer in left if layer in products]
        words = [f"quantised as written: {names_of(given)}"] if given else []
        words += [f"without precision: {names_of(left)}"] if left else []
        message = f"CHaiDNN computes InnerProduct in floating point; {'; '.join(words)}"
    else:
        given, words = [], [names_of(left)] if left else []
        message = f"Ristretto leaves layers in floating point: {'; '.join(words)}"
    if words:
        found.note(
            "DLA144",
            "ignored-precision",
            message,
            location=_place((given or left)[0], file),
            help="give --calibrate for what has no precision" if left else "",
            notes=("its results differ from CHaiDNN's by that rounding",) if given else (),
        )
