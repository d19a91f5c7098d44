"""Trains the two example networks on scikit-learn's digits and exports them as QONNX.

Needs the packages of ``tests/oracle/requirements.txt``; using the examples needs none of them.

* ``digits.onnx``: what the ACCESS DLA likes best. Every map signed 8 bit with a power-of-two
  scale, weights 8 bit with a power-of-two scale per output channel, 16-bit biases. Its integers
  are the hardware's integers.
* ``digits_float_scales.onnx``: what people usually have. The same network with batch
  normalisation, unsigned ReLU outputs and float scales, Brevitas' defaults.
* ``samples.npz``: test images with labels and Brevitas' outputs of both networks.

Usage: ``python train.py [--epochs N] [--folder DIR]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from brevitas.nn.utils import merge_quant_weights
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int16Bias,
    Uint8ActPerTensorFloat,
)
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 2
SAMPLES = 64


class Int8WeightPerChannelFixedPoint(Int8WeightPerTensorFixedPoint):
    """Signed 8-bit weights with one power-of-two scale per output channel."""

    scaling_per_output_channel = True


class Digits(nn.Module):
    """Convolutions, a residual block, a depth-wise separable block and a classifier.

    Input ``[N, 1, 8, 8]`` in 0..1, output ``[N, 10]``.
    """

    def __init__(self, *, power_of_two: bool) -> None:
        super().__init__()
        self.power_of_two = power_of_two
        self.signed = Int8ActPerTensorFixedPoint if power_of_two else Int8ActPerTensorFloat
        self.after_relu = Int8ActPerTensorFixedPoint if power_of_two else Uint8ActPerTensorFloat
        self.weight = Int8WeightPerChannelFixedPoint if power_of_two else Int8WeightPerChannelFloat
        self.image = self.identity()
        self.stem = self.conv(1, 16, 3)
        # One quantiser for both operands of the addition gives them one scale.
        self.operand = self.identity()
        self.branch1 = self.conv(16, 16, 3)
        self.branch1_relu = self.relu()
        self.branch2 = self.conv(16, 16, 3)
        self.sum_relu = self.relu()
        self.pool = nn.MaxPool2d(2)
        self.depthwise = self.conv(16, 16, 3, groups=16)
        self.depthwise_relu = self.relu()
        self.pointwise = self.conv(16, 32, 1)
        self.pointwise_relu = self.relu()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.average_quant = self.identity()
        self.classifier = QuantLinear(
            32,
            10,
            bias=True,
            weight_quant=self.weight,
            bias_quant=Int16Bias if power_of_two else None,
        )
        self.logits = QuantIdentity(act_quant=self.signed)

    def identity(self) -> nn.Module:
        """A signed quantiser."""
        return QuantIdentity(act_quant=self.signed, return_quant_tensor=True)

    def relu(self) -> nn.Module:
        """A ReLU with the quantiser behind it."""
        return QuantReLU(act_quant=self.after_relu, return_quant_tensor=True)

    def conv(self, channels: int, filters: int, kernel: int, groups: int = 1) -> nn.Module:
        """A convolution that keeps the size of the map, with bias or batch normalisation."""
        conv = QuantConv2d(
            channels,
            filters,
            kernel,
            padding=kernel // 2,
            groups=groups,
            bias=self.power_of_two,
            weight_quant=self.weight,
            bias_quant=Int16Bias if self.power_of_two else None,
        )
        return conv if self.power_of_two else nn.Sequential(conv, nn.BatchNorm2d(filters))

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits."""
        stem = self.operand(torch.relu(self.stem(self.image(image))))
        branch = self.branch1_relu(self.branch1(stem))
        branch = self.operand(self.branch2(branch))
        x = self.pool(self.sum_relu(stem + branch))
        x = self.depthwise_relu(self.depthwise(x))
        x = self.pointwise_relu(self.pointwise(x))
        x = self.average_quant(self.average(x))
        return self.logits(self.classifier(x.flatten(1)))


def load_data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images in 0..1 (exact in 4 bits) with their labels."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    split = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in split)
    return train_x, test_x, train_y, test_y


def shifted(images: Tensor) -> Tensor:
    """The images, moved by up to one pixel."""
    moves = torch.randint(-1, 2, (len(images), 2)).tolist()
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    return torch.stack(
        [
            image[:, 1 + down : 9 + down, 1 + right : 9 + right]
            for image, (down, right) in zip(padded, moves, strict=True)
        ]
    )


def train(net: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Quantisation-aware training from the first step on."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    steps = epochs * -(-len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(
                net(shifted(images[batch])), labels[batch], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


def export(net: nn.Module, image: Tensor, path: Path) -> None:
    """Writes QONNX, with the parameters as initializers only (not repeated as graph inputs).

    The weights are rounded before: Brevitas would export them unrounded, without saying how its
    quantisers round.
    """
    merge_quant_weights(net, image)
    export_qonnx(
        net,
        args=image,
        export_path=str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamo=False,
    )
    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, path)


def main() -> None:
    """Trains, exports and says how good the networks are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()

    train_x, test_x, train_y, test_y = load_data()
    samples = {"image": test_x[:SAMPLES].numpy(), "label": test_y[:SAMPLES].numpy()}
    for name, power_of_two in (("digits", True), ("digits_float_scales", False)):
        torch.manual_seed(SEED)
        net = Digits(power_of_two=power_of_two)
        train(net, train_x, train_y, options.epochs)
        with torch.no_grad():
            logits = net(test_x)
        accuracy = (logits.argmax(1) == test_y).double().mean().item()
        print(f"{name}: {accuracy:.1%} of {len(test_x)} test images")
        key = "logits" if power_of_two else "logits_float_scales"
        samples[key] = logits[:SAMPLES].numpy()
        export(net, test_x[:1], options.folder / f"{name}.onnx")
    np.savez_compressed(options.folder / "samples.npz", **samples)


if __name__ == "__main__":
    main()
