"""Trains a float network on scikit-learn's digits and exports it as plain ONNX.

Needs torch, onnx and scikit-learn (``tests/oracle/requirements.txt`` has them); using the example
needs none of them.

* ``digits_float.onnx``: what a tutorial network looks like when nobody thought of an accelerator.
  24 channels, a dilated and a grouped convolution, batch normalisation, a padded max pool.
* ``calibration.npz``: 64 training images.
* ``samples.npz``: the test images with labels and the logits in floating point.

Usage: ``python train.py [--epochs N] [--folder DIR]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 3
CALIBRATION = 64


def block(channels: int, filters: int, **options: int) -> nn.Sequential:
    """A convolution that keeps the size of the map, batch normalisation and ReLU."""
    conv = nn.Conv2d(channels, filters, 3, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(filters), nn.ReLU())


class Digits(nn.Module):
    """Convolutions of several kinds, a residual connection and a classifier.

    Input ``[N, 1, 8, 8]`` in 0..1, output ``[N, 10]``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(1, 24, padding=1)
        self.dilated = block(24, 24, padding=2, dilation=2)
        self.grouped = block(24, 24, padding=1, groups=3)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.depthwise = block(24, 24, padding=1, groups=24)
        self.pointwise = nn.Sequential(nn.Conv2d(24, 40, 1), nn.ReLU())
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(40, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.stem(image)
        x = self.pool(x + self.grouped(self.dilated(x)))
        x = self.pointwise(self.depthwise(x))
        return self.classifier(self.average(x).flatten(1))


def load_data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images in 0..1 with their labels, split as in ``examples/digits``."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    split = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in split)
    return train_x, test_x, train_y, test_y


def train(net: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Trains on images that are moved by up to one pixel."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    steps = epochs * -(-len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            down, right = torch.randint(0, 3, (2,)).tolist()
            moved = padded[batch, :, down : 8 + down, right : 8 + right]
            loss = nn.functional.cross_entropy(net(moved), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


def main() -> None:
    """Trains, exports and says how good the network is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()

    torch.manual_seed(SEED)
    train_x, test_x, train_y, test_y = load_data()
    net = Digits()
    train(net, train_x, train_y, options.epochs)
    with torch.no_grad():
        logits = net(test_x)
    accuracy = (logits.argmax(1) == test_y).double().mean().item()
    print(f"digits_float: {accuracy:.1%} of {len(test_x)} test images")
    torch.onnx.export(
        net,
        (test_x[:1],),
        str(options.folder / "digits_float.onnx"),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,  # leaves batch normalisation as it is
        dynamo=False,
    )
    np.savez_compressed(options.folder / "calibration.npz", image=train_x[:CALIBRATION].numpy())
    np.savez_compressed(
        options.folder / "samples.npz",
        image=test_x.numpy(),
        label=test_y.numpy().astype(np.int8),
        logits=logits.numpy(),
    )


if __name__ == "__main__":
    main()
