"""Makes ``tests/data/qonnx``: small Brevitas networks, exported, with what Brevitas computes.

Runs in the oracle environment (``tests/oracle/requirements.txt``). Each network sees some batches
of scikit-learn's digits, so that its scales fit; none is trained to be good.

Usage: ``python make_test_networks.py [--folder DIR] [NAME...]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    Int16Bias,
    Int32Bias,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from sklearn.datasets import load_digits
from torch import Tensor, nn

SAMPLES = 16
STEPS = 60


class Int8WeightPerChannelFixedPoint(Int8WeightPerTensorFixedPoint):
    """One power-of-two scale per output channel."""

    scaling_per_output_channel = True


class Network(nn.Module):
    """What the networks share: quantisers, and how layers are made."""

    weight = Int8WeightPerTensorFixedPoint
    after_relu = Uint8ActPerTensorFixedPoint
    signed = Int8ActPerTensorFixedPoint
    bias: type | None = Int32Bias
    weight_bits = 8
    map_bits = 8

    def __init__(self) -> None:
        super().__init__()
        self.image = qnn.QuantIdentity(act_quant=self.signed, return_quant_tensor=True)

    def identity(self) -> nn.Module:
        return qnn.QuantIdentity(act_quant=self.signed, return_quant_tensor=True)

    def relu(self) -> nn.Module:
        return qnn.QuantReLU(
            act_quant=self.after_relu, bit_width=self.map_bits, return_quant_tensor=True
        )

    def conv(self, channels: int, filters: int, kernel: int = 3, **more: object) -> nn.Module:
        return qnn.QuantConv2d(
            channels,
            filters,
            kernel,
            padding=kernel // 2,
            weight_quant=self.weight,
            weight_bit_width=self.weight_bits,
            bias_quant=self.bias,
            **{"bias": True, **more},
        )

    def linear(self, features: int) -> nn.Module:
        return qnn.QuantLinear(
            features, 10, bias=True, weight_quant=self.weight, bias_quant=self.bias
        )


class PotSigned(Network):
    """Signed power-of-two maps; Add and Concat with one shared quantiser, global average."""

    after_relu = Int8ActPerTensorFixedPoint
    bias = Int16Bias

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = self.conv(1, 16), self.conv(16, 16), self.conv(16, 16)
        self.shared, self.relu1, self.relu2 = self.identity(), self.relu(), self.relu()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.last, self.fc = self.identity(), self.linear(32)
        self.logits = qnn.QuantIdentity(act_quant=self.signed)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu1(self.stem(self.image(image)))
        x, y = self.shared(self.left(x)), self.shared(self.right(x))
        total = self.relu2(x + y)
        x = torch.cat([self.shared(total), y], dim=1)
        return self.logits(self.fc(self.last(self.average(x)).flatten(1)))


class PotDepthwise(Network):
    """Signed power-of-two maps, weights per channel, depth-wise separable blocks with stride 2."""

    weight = Int8WeightPerChannelFixedPoint
    after_relu = Int8ActPerTensorFixedPoint
    bias = Int16Bias

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            self.conv(1, 16),
            self.relu(),
            self.conv(16, 16, groups=16),
            self.relu(),
            self.conv(16, 32, 1),
            self.relu(),
            self.conv(32, 32, groups=32, stride=2),
            self.relu(),
            self.conv(32, 16, 1),
            self.relu(),
        )
        self.fc = self.linear(16 * 4 * 4)
        self.logits = qnn.QuantIdentity(act_quant=self.signed)

    def forward(self, image: Tensor) -> Tensor:
        return self.logits(self.fc(self.layers(self.image(image)).flatten(1)))


class PotUnsigned(Network):
    """Unsigned power-of-two maps behind ReLU, max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.conv2 = self.conv(1, 16), self.conv(16, 16), self.conv(16, 32)
        self.relu1, self.relu2, self.relu3 = self.relu(), self.relu(), self.relu()
        self.pool = nn.MaxPool2d(2)
        self.fc = self.linear(32 * 2 * 2)
        self.logits = qnn.QuantIdentity(act_quant=self.signed)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.stem(self.image(image))))
        x = self.relu2(self.conv1(x))
        x = self.pool(self.relu3(self.conv2(x)))
        return self.logits(self.fc(x.flatten(1)))


class PotResidual(Network):
    """Unsigned power-of-two maps; a signed quantiser quantises the trunk again for the Add."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.conv2 = self.conv(1, 16), self.conv(16, 16), self.conv(16, 16)
        self.relu1, self.relu2, self.relu3 = self.relu(), self.relu(), self.relu()
        self.shared, self.last = self.identity(), self.identity()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = self.linear(16)
        self.logits = qnn.QuantIdentity(act_quant=self.signed)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu1(self.stem(self.image(image)))
        y = self.conv2(self.relu2(self.conv1(x)))
        x = self.relu3(self.shared(x) + self.shared(y))
        return self.logits(self.fc(self.last(self.average(x)).flatten(1)))


class FloatBatchNorm(Network):
    """Brevitas' defaults: float scales, here per channel, and batch norms, some gammas negative."""

    weight = Int8WeightPerChannelFloat
    after_relu = Uint8ActPerTensorFloat
    signed = Int8ActPerTensorFloat
    bias = None

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            self.conv(1, 16, bias=False),
            self.norm(16),
            self.relu(),
            self.conv(16, 16, stride=2, bias=False),
            self.norm(16),
            self.relu(),
            self.conv(16, 16, bias=True),
            self.norm(16),
            self.relu(),
        )
        self.fc = self.linear(16 * 4 * 4)

    @staticmethod
    def norm(channels: int) -> nn.Module:
        norm = nn.BatchNorm2d(channels)
        with torch.no_grad():
            norm.weight[::3] *= -1
        return norm

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.layers(self.image(image)).flatten(1))


class TruncAverage(Network):
    """Average pooling that keeps integers: TruncAvgPool2d, rounding down."""

    bias = Int32Bias

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1 = self.conv(1, 16), self.conv(16, 32)
        self.relu1, self.relu2 = self.relu(), self.relu()
        self.average = qnn.TruncAvgPool2d(2, 2, bit_width=8, float_to_int_impl_type="floor")
        self.global_average = qnn.TruncAvgPool2d(4, 1, bit_width=8)
        self.fc = self.linear(32)

    def forward(self, image: Tensor) -> Tensor:
        x = self.average(self.relu1(self.stem(self.image(image))))
        x = self.global_average(self.relu2(self.conv1(x)))
        return self.fc(x.flatten(1))


class LowBits(Network):
    """4-bit weights and unsigned 4-bit maps at float scales between 8-bit ends."""

    weight = Int8WeightPerTensorFloat
    after_relu = Uint8ActPerTensorFloat
    signed = Int8ActPerTensorFloat
    bias = None
    weight_bits = 4
    map_bits = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            self.conv(1, 16), self.relu(), self.conv(16, 16), self.relu(), nn.MaxPool2d(2)
        )
        self.fc = self.linear(16 * 4 * 4)
        self.logits = qnn.QuantIdentity(act_quant=self.signed)

    def forward(self, image: Tensor) -> Tensor:
        return self.logits(self.fc(self.layers(self.image(image)).flatten(1)))


class FloatSum(Network):
    """Float scales; QuantEltwiseAdd, and a tensor that two quantisers read."""

    weight = Int8WeightPerChannelFloat
    after_relu = Uint8ActPerTensorFloat
    signed = Int8ActPerTensorFloat

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.conv2 = self.conv(1, 16), self.conv(16, 16), self.conv(16, 16)
        self.relu1, self.relu2 = self.relu(), self.relu()
        self.add = qnn.QuantEltwiseAdd(
            input_quant=self.signed, output_quant=self.signed, return_quant_tensor=True
        )
        self.other = self.identity()
        self.fc = self.linear(32 * 4 * 4)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu1(self.stem(self.image(image)))
        sums = self.add(self.conv1(x), self.conv2(x))
        x = torch.cat([self.other(torch.relu(sums)), self.other(sums)], dim=1)
        return self.fc(self.pool(x).flatten(1))


NETWORKS: dict[str, tuple[type[Network], tuple[bool, ...]]] = {
    "pot_signed": (PotSigned, (False, True)),
    "pot_depthwise": (PotDepthwise, (False,)),
    "pot_unsigned": (PotUnsigned, (False,)),
    "pot_residual": (PotResidual, (False,)),
    "float_batch_norm": (FloatBatchNorm, (False, True)),
    "trunc_average": (TruncAverage, (False,)),
    "low_bits": (LowBits, (False,)),
    "float_sum": (FloatSum, (False,)),
}
"""Each network with the exporters it goes through; True is dynamo."""


def fit(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    """A few steps of training, enough for scales and batch statistics."""
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    net.train()
    for _ in range(STEPS):
        batch = torch.randint(0, len(images), (64,))
        loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()


def make(name: str, folder: Path) -> None:
    """Makes one network's files."""
    kind, exporters = NETWORKS[name]
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.from_numpy((digits.images[:, None] / 16).astype(np.float32))
    net = kind()
    fit(net, images[SAMPLES:], torch.from_numpy(digits.target[SAMPLES:]))
    samples = images[:SAMPLES]
    with torch.no_grad():
        # One by one: the files have a batch of one, and sums may depend on the batch.
        logits = torch.cat([torch.as_tensor(net(sample[None])) for sample in samples])
    np.savez_compressed(folder / f"{name}.npz", image=samples.numpy(), logits=logits.numpy())
    for dynamo in exporters:
        path = folder / f"{name}{'.dynamo' if dynamo else ''}.onnx"
        export_qonnx(
            net,
            args=samples[:1],
            export_path=str(path),
            input_names=["image"],
            output_names=["logits"],
            dynamo=dynamo,
        )
        path.with_name(f"{path.name}.data").unlink(missing_ok=True)
        drop_stack_traces(path)
        print(f"{path.name}: {path.stat().st_size:,} bytes")


def drop_stack_traces(path: Path) -> None:
    """Removes what dynamo notes about the exporting program: long, and private to the machine."""
    model = onnx.load(path)
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        kept = [entry for entry in item.metadata_props if "stack_trace" not in entry.key]
        del item.metadata_props[:]
        item.metadata_props.extend(kept)
    onnx.save(model, path)


def main() -> None:
    """Makes the networks that are named, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    here = Path(__file__).parents[1] / "data" / "qonnx"
    parser.add_argument("--folder", type=Path, default=here)
    options = parser.parse_args()
    for name in options.names:
        make(name, options.folder)


if __name__ == "__main__":
    main()
