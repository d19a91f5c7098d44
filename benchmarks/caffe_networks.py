"""VGG16 as a float Caffe network: a prototxt, and a caffemodel as Caffe writes it.

553 MB of seeded random weights, written block by block. They keep the variance of every map: values
have a deviation of 2, so that 8 bits with 4 of them behind the point hold four deviations, and 8
bits with 7 behind the point the weights.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

_DEVIATION = 2.0
"""Of every map, before its ReLU, and of the inputs that the network is meant for."""
_BIAS = 0.1
_BLOCK = 1 << 20
"""Weights that are drawn at a time."""
_BYTES = 2
"""Wire type of fields with a length."""


@dataclass(frozen=True)
class Layer:
    """A layer as both files have it.

    Attributes:
        name: its name, of its top as well, unless it works in place.
        type: its type.
        bottom: the blob that it reads; none for the input.
        top: the blob that it writes.
        parameter: further fields in the prototxt.
        shape: shape of its weights, output channels first; none if it has no weights and biases.
        deviation: the standard deviation of its weights.
    """

    name: str
    type: str
    bottom: str
    top: str
    parameter: str = ""
    shape: tuple[int, ...] = ()
    deviation: float = 0.0

    def text(self) -> str:
        """The layer in the prototxt."""
        fields = [f'name: "{self.name}"', f'type: "{self.type}"']
        fields += [f'{kind}: "{blob}"' for kind, blob in self._blobs()]
        fields += [self.parameter] if self.parameter else []
        return "".join(["layer {\n", *(f"  {one}\n" for one in fields), "}\n"])

    def head(self) -> bytes:
        """The layer in the caffemodel, but for its weights."""
        numbers = {"bottom": 3, "top": 4}
        strings = [(1, self.name), (2, self.type)]
        strings += [(numbers[kind], blob) for kind, blob in self._blobs()]
        return b"".join(_key(number, len(one)) + one.encode() for number, one in strings)

    def _blobs(self) -> list[tuple[str, str]]:
        return [(kind, name) for kind in ("bottom", "top") if (name := getattr(self, kind))]


def vgg16(width: int = 64, size: int = 224, classes: int = 1000) -> list[Layer]:
    """The layers of VGG16, with 138 million weights in its own width and size.

    Dropout, which does nothing at inference, is left out: caffe-onnx makes invalid nodes of it.

    Args:
        width: channels of the first convolutions.
        size: height and width of the image, a multiple of 32.
        classes: outputs.
    """
    shape = " ".join(f"dim: {dim}" for dim in (1, 3, size, size))
    layers = [Layer("data", "Input", "", "data", f"input_param {{ shape {{ {shape} }} }}")]
    blob, depth, power = "data", 3, _DEVIATION**2

    def linear(name: str, kind: str, parameter: str, shape: tuple[int, ...]) -> str:
        deviation = _DEVIATION / math.sqrt(math.prod(shape[1:]) * power)
        layers.append(Layer(name, kind, blob, name, parameter, shape, deviation))
        return name

    for stage, (times, count) in enumerate([(1, 2), (2, 2), (4, 3), (8, 3), (8, 3)], 1):
        channels = times * width
        for index in range(1, count + 1):
            words = f"convolution_param {{ num_output: {channels} pad: 1 kernel_size: 3 }}"
            shape_ = (channels, depth, 3, 3)
            blob = linear(f"conv{stage}_{index}", "Convolution", words, shape_)
            layers.append(Layer(f"relu{stage}_{index}", "ReLU", blob, blob))
            depth, power = channels, _DEVIATION**2 / 2
        words = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        layers.append(Layer(f"pool{stage}", "Pooling", blob, f"pool{stage}", words))
        blob, power = f"pool{stage}", _DEVIATION**2
    depth *= (size // 32) ** 2
    for number, outputs in ((6, 64 * width), (7, 64 * width), (8, classes)):
        words = f"inner_product_param {{ num_output: {outputs} }}"
        blob = linear(f"fc{number}", "InnerProduct", words, (outputs, depth))
        if number < 8:
            layers.append(Layer(f"relu{number}", "ReLU", blob, blob))
        depth, power = outputs, _DEVIATION**2 / 2
    return layers


def write(layers: Sequence[Layer], prototxt: Path, caffemodel: Path, *, seed: int = 0) -> None:
    """Writes both files of a network."""
    name = "VGG16"
    prototxt.write_text(f'name: "{name}"\n' + "".join(layer.text() for layer in layers), "utf-8")
    generator = np.random.default_rng(seed)
    with caffemodel.open("wb") as file:
        file.write(_key(1, len(name)) + name.encode())
        for layer in layers:
            _write_layer(file, layer, generator)


def _write_layer(file: BinaryIO, layer: Layer, generator: np.random.Generator) -> None:
    head = layer.head()
    blobs = [(layer.shape, layer.deviation), (layer.shape[:1], _BIAS)] if layer.shape else []
    sizes = [_blob_size(shape) for shape, _ in blobs]
    file.write(_key(100, len(head) + sum(len(_key(7, size)) + size for size in sizes)) + head)
    for (shape, deviation), size in zip(blobs, sizes, strict=True):
        count = math.prod(shape)
        file.write(_key(7, size) + _key(5, 4 * count))
        for values in _drawn(generator, count):
            file.write((values * np.float32(deviation)).astype("<f4").tobytes())
        file.write(_shape(shape))


def _drawn(generator: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    for begin in range(0, count, _BLOCK):
        yield generator.standard_normal(min(_BLOCK, count - begin), np.float32)


def _blob_size(shape: tuple[int, ...]) -> int:
    """Bytes of a BlobProto: its packed floats, and behind them its shape, as Caffe orders them."""
    data = 4 * math.prod(shape)
    return len(_key(5, data)) + data + len(_shape(shape))


def _shape(shape: tuple[int, ...]) -> bytes:
    dims = b"".join(map(_varint, shape))
    inner = _key(1, len(dims)) + dims
    return _key(7, len(inner)) + inner


def _key(number: int, size: int) -> bytes:
    """What stands before a field of so many bytes."""
    return _varint(number << 3 | _BYTES) + _varint(size)


def _varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def main() -> None:
    """Writes VGG16: ``python -m benchmarks.caffe_networks vgg16.prototxt vgg16.caffemodel``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("prototxt", type=Path)
    parser.add_argument("caffemodel", type=Path)
    options = parser.parse_args()
    write(vgg16(), options.prototxt, options.caffemodel)


if __name__ == "__main__":
    main()
