"""Makes ``tests/data/keras``: a small network of HGQ2, with what HGQ2 computes.

Its maps have a width for each element, some of them none; some wrap, some saturate. Inputs go
beyond the ranges that were traced, so that values do wrap.

Needs keras, jax, hgq2 and scikit-learn; see the README beside the data for versions.

Usage: ``python make_hgq_networks.py [--folder DIR]``
"""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from hgq.config import QuantizerConfigScope
from hgq.layers import QAdd, QConv2D, QDense
from hgq.utils import trace_minmax
from sklearn.datasets import load_digits

SEED = 5
EPOCHS = 12
SHOWN = 24
BEYOND = 1.5
"""Factor of the inputs that are stored, to those on which ranges were traced."""


def network() -> keras.Model:
    """A residual sum whose operands have other widths, and two classifiers: one saturates."""
    image = keras.Input((4, 4, 1), name="image")
    with (
        QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP"),
        QuantizerConfigScope(place="weight", default_q_type="kbi", b0=6, round_mode="RND_CONV"),
    ):
        first = QConv2D(3, 3, padding="same", activation="relu", name="first")(image)
        second = QConv2D(3, 3, padding="same", name="second")(first)
        total = QAdd(name="total")([first, second])
        wraps = QDense(10, name="wraps")(keras.layers.Flatten(name="flat")(total))
    with QuantizerConfigScope(place="datalane", default_q_type="kbi", overflow_mode="SAT"):
        saturates = QDense(10, name="saturates")(keras.layers.Flatten(name="flat2")(total))
    return keras.Model(image, [wraps, saturates])


def prune(model: keras.Model) -> None:
    """Takes all bits from one element in eight of a map, as training does with a higher price."""
    widths = model.get_layer("second").iq.quantizer._f
    kept = np.arange(np.prod(widths.shape)).reshape(widths.shape) % 8 != 3
    widths.assign(np.where(kept, np.array(widths), -9))


def packed(path: Path, members: dict[str, bytes]) -> None:
    """Writes a zip file of compressed members, the same bytes each time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)


def main() -> None:
    """Trains the network and writes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "data" / "keras")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(SEED)
    digits = load_digits()
    images = digits.images.reshape(-1, 4, 2, 4, 2).mean((2, 4))[..., None].astype(np.float32) / 16
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(4e-3), loss=[loss, loss])
    model.fit(images, [digits.target] * 2, epochs=EPOCHS, verbose=0)
    prune(model)
    trace_minmax(model, images, verbose=False)
    shown = (images[:SHOWN] * np.float32(BEYOND)).astype(np.float32)
    wraps, saturates = model.predict(shown, verbose=0)
    bare = network()  # without what the optimiser remembers
    bare.set_weights(model.get_weights())
    bare.save(folder / "hgq2.keras")
    with zipfile.ZipFile(folder / "hgq2.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packed(folder / "hgq2.keras", members)
    bare.save(folder / "hgq2.h5")
    packed(folder / "hgq2.h5.zip", {"hgq2.h5": (folder / "hgq2.h5").read_bytes()})
    (folder / "hgq2.h5").unlink()
    np.savez_compressed(folder / "hgq2.npz", image=shown, wraps=wraps, saturates=saturates)


if __name__ == "__main__":
    main()
