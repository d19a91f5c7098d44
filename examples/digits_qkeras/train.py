"""Trains the example network with QKeras on scikit-learn's digits.

Needs QKeras and TensorFlow, see README.md; using the example needs neither.

* ``digits.h5``: the network as QKeras saves it.
* ``samples.npz``: test images with labels, and what QKeras computes.

Usage: ``python train.py [--epochs N] [--folder DIR]``
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # QKeras 0.9 is of Keras 2

import numpy as np
import tf_keras
from qkeras import QActivation, QConv2D, QConv2DBatchnorm, QDense, quantized_bits, quantized_po2
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tf_keras.layers import Flatten, Input, MaxPooling2D

SEED = 3
BATCH = 32


def network() -> tf_keras.Model:
    """Two convolutions and a classifier; every map has 8 bits at most.

    Input ``[N, 8, 8, 1]`` in 0..1, output ``[N, 10]``.
    """
    image = Input((8, 8, 1), name="image")
    x = QActivation("quantized_bits(8, 1)", name="pixels")(image)
    x = QConv2DBatchnorm(
        16,
        3,
        padding="same",
        kernel_quantizer=quantized_bits(8, 0, alpha="auto_po2"),
        bias_quantizer=quantized_bits(12, 3),
        name="conv1",
    )(x)
    x = QActivation("quantized_relu(7, 2)", name="relu1")(x)
    x = MaxPooling2D(2, name="pool1")(x)
    x = QConv2D(
        32,
        3,
        padding="same",
        kernel_quantizer=quantized_po2(3, max_value=1),
        bias_quantizer=quantized_bits(12, 3),
        name="conv2",
    )(x)
    x = QActivation("quantized_relu(7, 3)", name="relu2")(x)
    x = MaxPooling2D(2, name="pool2")(x)
    x = Flatten(name="features")(x)
    x = QDense(
        10,
        kernel_quantizer=quantized_bits(8, 0, alpha=1),
        bias_quantizer=quantized_bits(12, 3),
        name="classifier",
    )(x)
    return tf_keras.Model(image, QActivation("quantized_bits(8, 5)", name="logits")(x))


def train(model: tf_keras.Model, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    """Trains with Adam and a rate that falls to nothing."""
    steps = epochs * -(-len(images) // BATCH)
    rate = tf_keras.optimizers.schedules.CosineDecay(4e-3, steps)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.Adam(rate), loss)
    model.fit(images, labels, BATCH, epochs, verbose=0)


def load_data() -> list[np.ndarray]:
    """Training and test images in 0..1 with their labels, split as in ``examples/digits``."""
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    split: list[np.ndarray] = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    return split


def main() -> None:
    """Trains, saves and says how good the network is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()

    tf_keras.utils.set_random_seed(SEED)
    train_x, test_x, train_y, test_y = load_data()
    model = network()
    train(model, train_x, train_y, options.epochs)
    logits = model.predict(test_x, verbose=0)
    accuracy = float((logits.argmax(1) == test_y).mean())
    print(f"digits: {accuracy:.1%} of {len(test_x)} test images")
    model.save(options.folder / "digits.h5", include_optimizer=False)
    np.savez_compressed(
        options.folder / "samples.npz", image=test_x, label=test_y.astype(np.int8), logits=logits
    )


if __name__ == "__main__":
    main()
