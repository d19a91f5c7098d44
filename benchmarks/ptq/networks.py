"""The networks of the comparison, and what they are calibrated and judged on.

Files and data come from a collection outside the project (``onnx/`` and ``data/`` of a folder given
on the command line; its ``data/evalsets.py`` prepares the images). Images to calibrate on are never
images to judge on: of MNIST, of which only the test set is there, the last 1,000 are held back.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from onnx import version_converter

from benchmarks.ptq.floating import without_quantisers

_HELD_BACK = 1000
"""Images of MNIST that are only calibrated on."""
_OPSET = 13


@dataclass(frozen=True)
class Data:
    """Stacked samples.

    Attributes:
        calibration: what every tool is given.
        evaluation: what every tool is judged on.
        labels: of the evaluation images; empty where nobody labelled them.
    """

    calibration: np.ndarray
    evaluation: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Network:
    """A network of the collection.

    Attributes:
        name: its file.
        data: makes the samples: collection, images to calibrate on, images to judge on.
        prepare: makes a float network of the file; it is one if None.
        labelled: whether the images to judge on have labels.
    """

    name: str
    data: Callable[[Path, int, int], Data]
    prepare: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None
    labelled: bool = True

    def write(self, collection: Path, target: Path) -> str:
        """Writes the float network for all tools; returns the name of its input.

        It gets a batch of one and an opset that has scales per channel, which some tools want.
        """
        model = onnx.load(collection / "onnx" / f"{self.name}.onnx")
        if self.prepare is not None:
            model = self.prepare(model)
        constants = {item.name for item in model.graph.initializer}
        (value,) = (item for item in model.graph.input if item.name not in constants)
        value.type.tensor_type.shape.dim[0].dim_value = 1
        opset = next(item.version for item in model.opset_import if item.domain in {"", "ai.onnx"})
        if opset < _OPSET:
            model = version_converter.convert_version(model, _OPSET)
        onnx.save(model, target)
        return str(value.name)


def _sets(collection: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("evalsets", collection / "data" / "evalsets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _mnist(preparation: str, layout: str = "nchw") -> Callable[[Path, int, int], Data]:
    def load(collection: Path, calibration: int, evaluation: int) -> Data:
        images, labels = _sets(collection).mnist_set(preparation, layout)
        end = len(images) - _HELD_BACK
        seen = images[end:][_spread(_HELD_BACK, calibration)]
        chosen = _spread(end, evaluation)
        return Data(seen, images[chosen], labels[chosen])

    return load


def _cifar(preparation: str, layout: str = "nchw") -> Callable[[Path, int, int], Data]:
    def load(collection: Path, calibration: int, evaluation: int) -> Data:
        sets = _sets(collection)
        images, _ = sets.cifar_set(preparation, "train_calib1000_jpeg", layout)
        seen = images[_spread(len(images), calibration)]
        images, labels = sets.cifar_set(preparation, "test_jpeg", layout)
        chosen = _spread(len(images), evaluation)
        return Data(seen, images[chosen], labels[chosen])

    return load


def _photographs(collection: Path, calibration: int, evaluation: int) -> Data:
    """Crops of 224 x 224, (x - 127) / 128: of some photographs to calibrate, of others to judge."""
    from PIL import Image

    folder = collection / "data" / "images"
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".jpg", ".png"})
    generator = np.random.default_rng(0)
    generator.shuffle(files)
    parts = []
    for photographs, count in ((files[::2], calibration), (files[1::2], evaluation)):
        crops = []
        for index in range(count):
            with Image.open(photographs[index % len(photographs)]) as opened:
                image = opened.convert("RGB")
            scale = generator.uniform(240, 400) / min(image.size)
            size = [max(240, round(length * scale)) for length in image.size]
            left, top = (int(generator.integers(0, length - 223)) for length in size)
            image = image.resize((size[0], size[1])).crop((left, top, left + 224, top + 224))
            crops.append((np.asarray(image, np.float32) - 127) / 128)
        parts.append(np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2)))
    return Data(parts[0], parts[1], np.empty(0, np.int64))


def _spread(available: int, wanted: int) -> np.ndarray:
    """Indices of so many samples, evenly spread: sets may be sorted by class."""
    return np.linspace(0, available - 1, min(wanted, available)).round().astype(int)


NETWORKS = (
    Network("mnist12_zoo", _mnist("255")),
    Network("mnist_digit_recognizer_pt", _mnist("std")),
    Network("mnist_convnet_avgpool", _mnist("01")),
    Network("mnist_keras_cnn_nhwc", _mnist("01", "nhwc")),
    Network("mnist_sigmoid_mlp6x200", _mnist("01")),
    Network("cifar_resnet20_dyn18", _cifar("imnet")),
    Network("cifar_resnet20_ts11_bn", _cifar("imnet")),
    Network("cifar_resnet20_ts13", _cifar("imnet")),
    Network("cifar_resnet4b", _cifar("std")),
    Network("cifar_resnet3b2_bn", _cifar("std2")),
    Network("cifar_tf_nhwc_large", _cifar("01", "nhwc")),
    Network(
        "imagenet_efficientnet_lite0_qdq_u8s8_pc", _photographs, without_quantisers, labelled=False
    ),
)
"""Every labelled float network, and EfficientNet-Lite0 without its quantisers and labels."""
