"""Trains a network on scikit-learn's digits and writes it as Caffe and CHaiDNN have it.

Needs NumPy, and scikit-learn for the images; no Caffe.

* ``digits.caffemodel``: the weights, of all three prototxts.
* ``digits.prototxt``: the network in floating point.
* ``digits_xilinx.prototxt``: quantised by thresholds, one for each map and filter.
* ``digits_dynamic.prototxt``: quantised by bits behind the binary point (DynamicFixed).
* ``calibration.npz``: 64 training images.
* ``samples.npz``: the test images with labels and what the network in floating point computes.

Usage: ``python train.py [--epochs N] [--folder DIR]``
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from caffe_files import caffemodel, prototxt
from network import LAYERS, backward, forward, initial

SEED = 3
CALIBRATION = 64
BATCH = 64
RATE = 1e-2
SMOOTHING = 0.05
BITS = 8
LARGEST = 2 ** (BITS - 1) - 1
SHARES = [share / 20 for share in range(8, 21)]
WEIGHTED = {"Convolution", "InnerProduct"}
STATISTICS = {
    "BatchNorm": ("batchnorm_mean", "batchnorm_variance"),
    "Scale": ("scale_gamma", "scale_beta"),
}

Weights = dict[str, list[np.ndarray]]

EQUAL = ({"relu_conv1", "scale2", "relu_sum"}, {"relu_conv3", "relu_conv4", "pool2"})
"""Maps that share a format: CHaiDNN adds and concatenates integers as they are."""
STORED = {"scale1": "relu_conv1", "sum": "relu_sum", "conv3": "relu_conv3", "conv4": "relu_conv4"}
"""The layer behind which a result is stored: a ReLU in place is computed along with it."""
READ = {"conv1": "data", "conv2": "relu_conv1", "sum": "relu_sum", "conv3": "relu_sum"}
READ |= {"conv4": "relu_sum", "concat": "pool2", "pool2": "pool2", "fc": "pool2"}
READ |= {"bn1": "conv1", "scale1": "bn1", "bn2": "conv2", "scale2": "bn2"}
"""What a layer reads, by a layer whose result has the same format."""


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> Weights:
    """Trains on images that are moved by up to one pixel."""
    draw, weights = np.random.default_rng(SEED), initial(SEED)
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    adam: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    steps = epochs * -(-len(images) // BATCH)
    step = 0
    for _ in range(epochs):
        order = draw.permutation(len(images))
        for start in range(0, len(images), BATCH):
            batch = order[start : start + BATCH]
            down, right = draw.integers(0, 3, 2)
            data = padded[batch, :, down : down + 8, right : right + 8]
            written, tape = forward(weights, data, train=True)
            wanted = np.eye(10)[labels[batch]] * (1 - SMOOTHING) + SMOOTHING / 10
            gradients = backward(tape, (_softmax(written["fc"]) - wanted) / len(batch))
            step += 1
            rate = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            _adam(weights, gradients, adam, step, rate)
    return weights


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _adam(
    weights: Weights,
    gradients: Mapping[str, Sequence[np.ndarray]],
    state: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]],
    step: int,
    rate: float,
) -> None:
    for name, found in gradients.items():
        for index, gradient in enumerate(found):
            first, second = state.get((name, index), (np.zeros(()), np.zeros(())))
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient**2
            state[name, index] = first, second
            change = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
            weights[name][index] -= rate * change


def maps(weights: Weights, images: np.ndarray) -> dict[str, np.ndarray]:
    """The values of every layer's result on images; of those in `EQUAL` together."""
    written, _ = forward(weights, images)
    found = {name: array.reshape(-1) for name, array in written.items()}
    for names in EQUAL:
        together = np.concatenate([found[name] for name in sorted(names)])
        found |= dict.fromkeys(names, together)
    return found


def threshold(values: np.ndarray) -> float:
    """What the largest integer stands for, so that all values are off least; some saturate."""
    largest = float(np.abs(values).max())
    return min((largest * share for share in SHARES), key=lambda top: _error(values, top / LARGEST))


def fraction(values: np.ndarray) -> int:
    """Bits behind the binary point with which all values are off least; some saturate."""
    fitting = math.floor(math.log2(LARGEST / float(np.abs(values).max())))
    return min(range(fitting, fitting + 3), key=lambda bits: _error(values, 2.0**-bits))


def _error(values: np.ndarray, step: float) -> float:
    kept = np.clip(np.round(values / step), -LARGEST, LARGEST) * step
    return float(((values - kept) ** 2).mean())


def xilinx(weights: Weights, known: Mapping[str, np.ndarray]) -> dict[str, dict[str, object]]:
    """Formats by thresholds: of maps, and of the weights of each filter."""
    found: dict[str, dict[str, object]] = {}
    for name, kind, low, high in _ends(known):
        fields = _bits(kind, "Xilinx")
        fields |= {"th_layer_in": threshold(low), "th_layer_out": threshold(high)}
        if kind in WEIGHTED:
            fields["th_params"] = [float(np.abs(item).max()) for item in weights[name][0]]
        found[name] = fields
    return found


def dynamic(weights: Weights, known: Mapping[str, np.ndarray]) -> dict[str, dict[str, object]]:
    """Formats by bits behind the binary point, of maps and of all weights of a layer."""
    found: dict[str, dict[str, object]] = {}
    for name, kind, low, high in _ends(known):
        fields = _bits(kind, "DynamicFixed")
        fields |= {"fl_layer_in": fraction(low), "fl_layer_out": fraction(high)}
        blobs = weights.get(name, [])
        if kind in WEIGHTED:
            fields["fl_params"] = fraction(blobs[0])
        elif kind == "BatchNorm":
            blobs = [blob / blobs[2] for blob in blobs]
        for field, blob in zip(STATISTICS.get(kind, ()), blobs, strict=False):
            fields |= {f"{field}_bw": BITS, f"{field}_fl": fraction(blob)}
        found[name] = fields
    return found


def _ends(known: Mapping[str, np.ndarray]) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Name, type, and values in and out, of each layer that has formats of its own."""
    kinds = {layer.name: layer.type for layer in LAYERS}
    return [
        (name, kinds[name], known[read], known[STORED.get(name, name)])
        for name, read in READ.items()
    ]


def _bits(kind: str, mode: str) -> dict[str, object]:
    fields: dict[str, object] = {"quant_type": f'"{mode}"', "bw_layer_in": BITS}
    fields["bw_layer_out"] = BITS
    return fields | ({"bw_params": BITS} if kind in WEIGHTED else {})


def write(weights: Weights, images: np.ndarray, folder: Path) -> None:
    """Writes the caffemodel and the three prototxts.

    Args:
        weights: the weights.
        images: images that say how large the maps get.
        folder: where the files go.
    """
    known = maps(weights, images)
    (folder / "digits.caffemodel").write_bytes(caffemodel(weights))
    (folder / "digits.prototxt").write_text(prototxt(), "utf-8")
    (folder / "digits_xilinx.prototxt").write_text(prototxt(xilinx(weights, known)), "utf-8")
    (folder / "digits_dynamic.prototxt").write_text(prototxt(dynamic(weights, known)), "utf-8")


def load_data() -> tuple[np.ndarray, ...]:
    """Training and test images in 0..1 with their labels, split as in ``examples/digits``."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    split: tuple[np.ndarray, ...] = tuple(
        train_test_split(
            images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
        )
    )
    return split


def main() -> None:
    """Trains, writes and says how good the network is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()

    train_x, test_x, train_y, test_y = load_data()
    weights = train(train_x, train_y, options.epochs)
    write(weights, train_x, options.folder)
    logits = forward(weights, test_x)[0]["fc"]
    accuracy = float((logits.argmax(1) == test_y).mean())
    print(f"digits: {accuracy:.1%} of {len(test_x)} test images")
    np.savez_compressed(options.folder / "calibration.npz", data=train_x[:CALIBRATION])
    np.savez_compressed(
        options.folder / "samples.npz",
        data=test_x,
        label=test_y.astype(np.int8),
        fc=logits.astype(np.float32),
    )


if __name__ == "__main__":
    main()
