"""Networks of Keras and Caffe: seeds for the fuzzer, small and legal for the hardware."""

from __future__ import annotations

import itertools
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlaconv.frontends.caffe.schema import caffe_schema
from tests.frontends.caffe.files import INPUT, caffemodel
from tests.frontends.caffe.quantised import convolution, fixed, in_place, named, thresholds
from tests.frontends.keras.files import L, given, save
from tests.fuzz.described import archive_of

WEIGHTS = "net.caffemodel"
_SHAPE = (8, 8, 16)
_BITS = {"class_name": "quantized_bits", "config": {"bits": 8, "integer": 0, "alpha": 1}}
_AUTO = {"class_name": "quantized_bits", "config": {"bits": 8, "alpha": "auto_po2"}}
_POWER = {"class_name": "quantized_po2", "config": {"bits": 3, "max_value": 1}}
_WIDE = {"class_name": "quantized_bits", "config": {"bits": 12, "integer": 3}}


def values(*shape: int) -> np.ndarray:
    """Weights that are the same every time."""
    draw = np.random.default_rng(sum(shape)).standard_normal(shape)
    return (draw / 4).astype(np.float32)


def keras() -> dict[str, bytes]:
    """Files by name; their ending is the format."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, layers in (("float", _float()), ("qkeras", _qkeras())):
            for generation, ending in itertools.product((2, 3), (".keras", ".h5")):
                path = Path(folder, f"{kind}-{generation}{ending}")
                save(path, layers, ["e"], generation)
                found[path.name] = _dateless(path) if ending == ".keras" else path.read_bytes()
    return found


def _dateless(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive_of((name, archive.read(name)) for name in archive.namelist())


def _float() -> list[Any]:
    flat = 4 * 4 * 16
    statistics = {"gamma": 1 + values(16), "beta": values(16), "moving_mean": values(16)}
    statistics["moving_variance"] = np.ones(16, np.float32)
    return [
        given("x", _SHAPE),
        _conv("Conv2D", "a", "x", activation="relu"),
        _conv("Conv2D", "b", "a"),
        L("BatchNormalization", "n", ["b"], weights=statistics),
        L("Add", "s", [["a", "n"]]),
        L("ReLU", "r", ["s"], {"max_value": 6.0}),
        L("MaxPooling2D", "p", ["r"], {"pool_size": [2, 2]}),
        L("Flatten", "f", ["p"]),
        L("Dense", "e", ["f"], {"units": 16}, {"kernel": values(flat, 16), "bias": values(16)}),
    ]


def _qkeras() -> list[Any]:
    dense = {"kernel": values(4 * 4 * 16, 16), "bias": values(16)}
    quantisers = {"kernel_quantizer": _BITS, "bias_quantizer": _WIDE}
    auto = {"kernel_quantizer": _AUTO, "bias_quantizer": _WIDE}
    layers = [
        given("x", _SHAPE),
        L("QActivation", "q", ["x"], {"activation": "quantized_bits(8, 1)"}),
        _conv("QConv2D", "a", "q", **auto, activation="quantized_relu(7, 2)"),
        _conv("QConv2D", "b", "a", **auto | {"kernel_quantizer": _POWER}),
        L("QActivation", "r", ["b"], {"activation": "quantized_relu(7, 2)"}),
        L("MaxPooling2D", "p", ["r"], {"pool_size": [2, 2]}),
        L("Flatten", "f", ["p"]),
        L("QDense", "d", ["f"], {"units": 16, **quantisers}, dense),
        L("QActivation", "e", ["d"], {"activation": "quantized_bits(8, 4)"}),
    ]
    for layer in layers:
        if layer.kind.startswith("Q"):
            layer.module, layer.registered = "qkeras.qlayers", f"qkeras>{layer.kind}"
    return layers


def _conv(kind: str, name: str, reads: str, **config: Any) -> Any:
    own = {"filters": 16, "kernel_size": [3, 3], "padding": "same", **config}
    return L(kind, name, [reads], own, {"kernel": values(3, 3, 16, 16), "bias": values(16)})


def caffe() -> dict[str, tuple[bytes, bytes]]:
    """Text and weights by name."""
    shape = "dim: 1 dim: 16 dim: 8 dim: 8"
    found = {}
    for name, low, high in (
        ("float", "", ""),
        ("dynamic", fixed(6, 5, 7), fixed(5, 4, 7)),
        ("xilinx", thresholds(1, 4, [1] * 16), thresholds(4, 8, [1] * 16)),
    ):
        text = INPUT.format(shape)
        text += convolution("a", "data", 16, low) + in_place("r", "ReLU", "a")
        text += convolution("b", "a", 16, high)
        window = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        text += named("p", "Pooling", window, ["b"])
        linear = f"inner_product_param {{ num_output: 16 }} {high}"
        text += named("e", "InnerProduct", linear, ["p"])
        lines = text.replace("{ ", "{\n").replace(" }", "\n}").replace("' ", "'\n")
        blobs = {one: [values(16, 16, 3, 3), values(16)] for one in "ab"}
        blobs["e"] = [values(16, 4 * 4 * 16), values(16)]
        found[name] = lines.encode(), caffemodel(blobs)
    return found


@dataclass(frozen=True)
class Described:
    """A message of Caffe with the two attributes of a descriptor that are needed here."""

    name: str

    @property
    def fields_by_number(self) -> dict[int, _Field]:
        """The fields of the message."""
        fields = caffe_schema().messages[self.name].fields.values()
        return {
            item.number: _Field(Described(item.type_name) if item.kind == "message" else None)
            for item in fields
        }


@dataclass(frozen=True)
class _Field:
    message_type: Described | None
