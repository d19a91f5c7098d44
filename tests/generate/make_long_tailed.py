"""Makes ``tests/data/calibration``: a network of digits whose activations have long tails.

The first channel of every map finds bright blobs, with a high gain: a few activations in a thousand
are a hundred times what the others are. The rest of the network is trained with its maps clipped
every other batch, so nothing depends on how large they are: a range that covers all activations
leaves the others no resolution, and one that clips the few loses nothing.

Needs torch, onnx and scikit-learn (``tests/oracle/requirements.txt`` has them).

Usage: ``python make_long_tailed.py [--folder DIR]``
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 1
EPOCHS = 25
CHANNELS = 16
CALIBRATION = 64
TAIL = 150.0
"""Largest activation of the first channel."""
RARE = 0.997
"""Share of positions at which the first channel is zero."""
KEPT = 0.97
"""Share of the activations above zero that stay when a map is clipped."""


class LongTailed(nn.Module):
    """Four convolutions, two max pools and a classifier; ``[N, 1, 8, 8]`` in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, *[CHANNELS] * 4]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(4 * CHANNELS, 10)
        self.clipping = False
        self.maps: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits; ``maps`` has what the layers computed."""
        self.maps = []
        for index, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            self.maps.append(x)
            if self.clipping:
                active = x.detach()[x.detach() > 0]
                x = x.clamp(max=float(active.quantile(KEPT)) if len(active) else 1.0)
            if index % 2:
                x = self.pool(x)
        return self.classifier(x.flatten(1))


def set_first_channel(net: LongTailed, images: Tensor) -> None:
    """Makes the first channel of every map what the brightest 3 x 3 pixels are above the others."""
    sums = nn.functional.conv2d(images, torch.ones(1, 1, 3, 3), padding=1)
    threshold = sums.flatten().quantile(RARE)
    gain = TAIL / (sums.max() - threshold)
    with torch.no_grad():
        for index, layer in enumerate(net.layers):
            layer.weight[0] = 0
            layer.weight[0, 0] = gain if index == 0 else 0
            layer.weight[0, 0, 1, 1] = gain if index == 0 else 1
            layer.bias[0] = -gain * threshold if index == 0 else 0


def train(net: LongTailed, images: Tensor, labels: Tensor) -> None:
    """Trains on images that are moved by up to one pixel."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    steps = EPOCHS * -(-len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    set_first_channel(net, images)
    for _ in range(EPOCHS):
        for index, batch in enumerate(torch.randperm(len(images)).split(64)):
            down, right = torch.randint(0, 3, (2,)).tolist()
            net.clipping = index % 2 == 1
            logits = net(padded[batch, :, down : 8 + down, right : 8 + right])
            loss = nn.functional.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            for layer in net.layers:
                layer.weight.grad[0] = layer.bias.grad[0] = 0
            nn.utils.clip_grad_norm_(net.parameters(), 3.0)
            optimizer.step()
            schedule.step()
    net.clipping = False


def main() -> None:
    """Trains, exports, and says how good the network and how long its tails are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    folder = Path(__file__).parents[1] / "data" / "calibration"
    parser.add_argument("--folder", type=Path, default=folder)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    split = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in split)
    net = LongTailed()
    train(net, train_x, train_y)
    with torch.no_grad():
        net(train_x[:CALIBRATION])
        seen = [f"{x.max() / x[x > 0].mean():.0f}" for x in net.maps]
        for net.clipping in (True, False):
            right = (net(test_x).argmax(1) == test_y).double().mean().item()
            print(f"long_tailed, clipped {net.clipping}: {right:.1%}; largest over mean: {seen}")
    torch.onnx.export(
        net,
        (test_x[:1],),
        str(options.folder / "long_tailed.onnx"),
        input_names=["image"],
        output_names=["logits"],
        opset_version=17,
        dynamo=False,
    )
    np.savez_compressed(
        options.folder / "long_tailed.npz",
        calibration=(train_x[:CALIBRATION] * 16).numpy().astype(np.uint8),
        image=(test_x * 16).numpy().astype(np.uint8),
        label=test_y.numpy().astype(np.int8),
    )


if __name__ == "__main__":
    main()
