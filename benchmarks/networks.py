"""Seeded QONNX files of the size and shape of ResNet-18 and VGG16, as Brevitas exports them.

Raw float weights under Quant nodes, 8-bit maps, unsigned behind ReLUs, float biases or batch
normalisation, initializers repeated as graph inputs. Weights are random with the variance that
keeps every map's magnitude, so quantisers saturate as seldom as in a trained network.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

QONNX = "qonnx.custom_op.general"
IMAGE = (1, 3, 224, 224)
CLASSES = 1000
_LARGEST = 4.0
"""Largest magnitude of a map in standard deviations; decides the quantisers' scales."""


@dataclass(frozen=True)
class Map:
    """A value of the graph: its shape, its spread before the ReLU, its mean square."""

    name: str
    shape: tuple[int, ...]
    deviation: float = 1.0
    power: float = 1.0


class Builder:
    """Builds a network operation by operation."""

    def __init__(self, *, power_of_two: bool, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.power_of_two = power_of_two
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.constants: dict[float, str] = {}

    def node(self, op_type: str, inputs: list[str], name: str, domain: str = "", **fields) -> str:
        self.nodes.append(
            helper.make_node(op_type, inputs, [name], name=f"n_{name}", domain=domain, **fields)
        )
        return name

    def tensor(self, name: str, array: np.ndarray) -> str:
        data = np.ascontiguousarray(array, np.float32)
        self.tensors.append(
            helper.make_tensor(name, TensorProto.FLOAT, data.shape, data.tobytes(), raw=True)
        )
        return name

    def constant(self, value: float) -> str:
        if value not in self.constants:
            self.constants[value] = self.tensor(f"c{len(self.constants)}", np.float32(value))
        return self.constants[value]

    def scale(self, largest: float, highest: int) -> float:
        scale = largest / highest
        return 2.0 ** math.ceil(math.log2(scale)) if self.power_of_two else float(np.float32(scale))

    def quant(self, x: Map, name: str, *, signed: bool) -> Map:
        highest = 127 if signed else 255
        scale = self.constant(self.scale(_LARGEST * x.deviation, highest))
        inputs = [x.name, scale, self.constant(0.0), self.constant(8.0)]
        fields = {"signed": int(signed), "narrow": 0, "rounding_mode": "ROUND"}
        return replace(x, name=self.node("Quant", inputs, name, QONNX, **fields))

    def weights(self, name: str, shape: tuple[int, ...], power: float) -> str:
        """Quantised weights that keep the variance; ``power`` is the summed input's."""
        deviation = math.sqrt(1.0 / power)
        array = self.rng.standard_normal(shape, np.float32) * np.float32(deviation)
        largest = float(np.abs(array).max())
        inputs = [
            self.tensor(f"{name}.weight", array),
            self.constant(self.scale(largest, 127)),
            self.constant(0.0),
            self.constant(8.0),
        ]
        fields = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
        return self.node("Quant", inputs, f"{name}.weight_q", QONNX, **fields)

    def conv(
        self, x: Map, name: str, channels: int, kernel: int, stride: int = 1, *, normalise: bool
    ) -> Map:
        pad = kernel // 2
        _, depth, height, width = x.shape
        shape = (1, channels, -(-height // stride), -(-width // stride))
        power = depth * kernel**2 * x.power
        inputs = [x.name, self.weights(name, (channels, depth, kernel, kernel), power)]
        if not normalise:
            inputs.append(self.tensor(f"{name}.bias", 0.1 * self.rng.standard_normal(channels)))
        result = self.node(
            "Conv", inputs, name,
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, dilations=[1, 1],
            group=1,
        )  # fmt: skip
        if normalise:
            per_channel = [
                1 + 0.1 * self.rng.standard_normal(channels),
                0.1 * self.rng.standard_normal(channels),
                0.1 * self.rng.standard_normal(channels),
                np.exp(0.2 * self.rng.standard_normal(channels)),
            ]
            inputs = [
                self.tensor(f"{name}.bn.{part}", array)
                for part, array in zip(("g", "b", "m", "v"), per_channel, strict=True)
            ]
            result = self.node("BatchNormalization", [result, *inputs], f"{name}.bn", epsilon=1e-5)
        return Map(result, shape)

    def relu(self, x: Map, name: str) -> Map:
        """ReLU and its unsigned quantiser; half of a symmetric map's mean square remains."""
        result = self.node("Relu", [x.name], f"{name}.relu")
        return self.quant(replace(x, name=result, power=x.power / 2), name, signed=False)

    def dense(self, x: Map, name: str, features: int) -> Map:
        depth = x.shape[1]
        weights = self.weights(name, (features, depth), depth * x.power)
        bias = self.tensor(f"{name}.bias", 0.1 * self.rng.standard_normal(features))
        result = self.node("Gemm", [x.name, weights, bias], name, transB=1)
        return Map(result, (1, features))

    def pool(self, x: Map, name: str, kernel: int, pad: int = 0) -> Map:
        fields = {"kernel_shape": [kernel] * 2, "strides": [2, 2], "pads": [pad] * 4}
        result = self.node("MaxPool", [x.name], name, **fields)
        n, c, h, w = x.shape
        return replace(x, name=result, shape=(n, c, h // 2, w // 2), power=2 * x.power)

    def save(self, x: Map, path: Path) -> None:
        result = helper.make_tensor_value_info(x.name, TensorProto.FLOAT, x.shape)
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE)]
        inputs += [
            helper.make_tensor_value_info(item.name, TensorProto.FLOAT, list(item.dims))
            for item in self.tensors
        ]
        graph = helper.make_graph(self.nodes, path.stem, inputs, [result], self.tensors)
        self.tensors.clear()
        imports = [helper.make_opsetid("", 20), helper.make_opsetid(QONNX, 2)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=9)
        model.producer_name = "pytorch"
        path.write_bytes(model.SerializeToString())


def resnet18(path: Path, *, power_of_two: bool) -> None:
    """11.7 million weights, 47 MB: residual blocks with batch normalisation."""
    net = Builder(power_of_two=power_of_two)
    x = net.quant(Map("x", IMAGE), "input", signed=True)
    x = net.relu(net.conv(x, "stem", 64, 7, 2, normalise=True), "stem.act")
    x = net.pool(x, "stem.pool", 3, 1)
    stages = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
    for index, (channels, stride) in enumerate(stages):
        name = f"block{index}"
        y = net.relu(net.conv(x, f"{name}.a", channels, 3, stride, normalise=True), f"{name}.a.act")
        y = net.conv(y, f"{name}.b", channels, 3, normalise=True)
        y = net.quant(y, f"{name}.b.out", signed=True)
        if stride != 1 or x.shape[1] != channels:
            x = net.conv(x, f"{name}.skip", channels, 1, stride, normalise=True)
        x = net.quant(x, f"{name}.skip.out", signed=True)
        total = net.node("Add", [y.name, x.name], f"{name}.sum")
        x = net.relu(Map(total, y.shape, 1.4, 2.0), f"{name}.act")
    mean = net.node("GlobalAveragePool", [x.name], "gap")
    mean = net.quant(Map(mean, (1, 512, 1, 1), 0.4, 0.3), "gap.out", signed=False)
    flat = Map(net.node("Flatten", [mean.name], "flat", axis=1), (1, 512), power=0.3)
    net.save(net.dense(flat, "fc", CLASSES), path)


def vgg16(path: Path, *, power_of_two: bool) -> None:
    """138 million weights, 553 MB: a chain of convolutions and three large FC layers."""
    net = Builder(power_of_two=power_of_two)
    x = net.quant(Map("x", IMAGE), "input", signed=True)
    for stage, (channels, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for index in range(count):
            name = f"conv{stage}_{index}"
            x = net.relu(net.conv(x, name, channels, 3, normalise=False), f"{name}.act")
        x = net.pool(x, f"pool{stage}", 2)
    flat = net.node("Flatten", [x.name], "flat", axis=1)
    x = replace(x, name=flat, shape=(1, math.prod(x.shape)))
    for index in range(2):
        x = net.relu(net.dense(x, f"fc{index}", 4096), f"fc{index}.act")
    net.save(net.dense(x, "fc2", CLASSES), path)


NETWORKS = {"resnet18": resnet18, "vgg16": vgg16}
"""The generators by name of the network."""


def main() -> None:
    """Writes one network: ``python -m benchmarks.networks resnet18 net.onnx [--power-of-two]``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--power-of-two", action="store_true", help="scales are powers of two")
    options = parser.parse_args()
    NETWORKS[options.network](options.file, power_of_two=options.power_of_two)


if __name__ == "__main__":
    main()
