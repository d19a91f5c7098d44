"""A float network of the size of ResNet-50, as PyTorch exports it, with random weights.

Bottleneck blocks, batch normalisation folded, 25 million weights (100 MB), 4.1e9 multiplications.
Weights keep the variance of every map; accuracy means nothing here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = (3, 224, 224)
_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


class _Builder:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], name: str, **fields) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n_{name}", **fields))
        return name

    def tensor(self, name: str, array: np.ndarray) -> str:
        self.tensors.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(self, x: str, name: str, depth: int, channels: int, kernel: int, stride: int) -> str:
        shape = (channels, depth, kernel, kernel)
        weights = self.rng.standard_normal(shape, np.float32) * np.sqrt(2 / (depth * kernel**2))
        inputs = [
            x,
            self.tensor(f"{name}.weight", weights),
            self.tensor(f"{name}.bias", 0.1 * self.rng.standard_normal(channels)),
        ]
        pads, sizes = [kernel // 2] * 4, [kernel] * 2
        return self.node("Conv", inputs, name, kernel_shape=sizes, strides=[stride] * 2, pads=pads)


def resnet50(path: Path, *, seed: int = 0) -> None:
    """Writes the network."""
    net = _Builder(seed)
    x = net.node("Relu", [net.conv("x", "stem", 3, 64, 7, 2)], "stem.relu")
    x = net.node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    depth = 64
    for stage, (width, blocks, first) in enumerate(_STAGES):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", first if block == 0 else 1
            y = net.node("Relu", [net.conv(x, f"{name}.a", depth, width, 1, 1)], f"{name}.a.relu")
            y = net.node("Relu", [net.conv(y, f"{name}.b", width, width, 3, stride)], f"{name}.br")
            y = net.conv(y, f"{name}.c", width, 4 * width, 1, 1)
            if block == 0:
                x = net.conv(x, f"{name}.skip", depth, 4 * width, 1, stride)
            x = net.node("Relu", [net.node("Add", [y, x], f"{name}.sum")], f"{name}.relu")
            depth = 4 * width
    x = net.node("GlobalAveragePool", [x], "gap")
    x = net.node("Flatten", [x], "flat")
    weights = net.tensor("fc.weight", 0.02 * net.rng.standard_normal((1000, depth)))
    net.node("Gemm", [x, weights, net.tensor("fc.bias", np.zeros(1000))], "y", transB=1)
    graph = helper.make_graph(
        net.nodes,
        "resnet50",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *IMAGE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1000])],
        net.tensors,
    )
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)


def images(path: Path, count: int, *, seed: int = 0) -> None:
    """Writes smooth random pictures, stacked, as ``.npy``."""
    rng = np.random.default_rng(seed)
    file = np.lib.format.open_memmap(path, "w+", np.float32, (count, *IMAGE))
    for index in range(count):
        coarse = rng.standard_normal((3, 14, 14)).astype(np.float32)
        file[index] = np.kron(coarse, np.ones((16, 16), np.float32))
    file.flush()


def main() -> None:
    """Writes the network: ``python -m benchmarks.float_networks net.onnx``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    resnet50(parser.parse_args().file)


if __name__ == "__main__":
    main()
