"""A program of its own: runs a Keras model on samples, one at a time.

Called by `dlaconv.frontends.keras.reference` as
``python reference_program.py PACKAGE INPUTS.npz RESULTS.npz MODEL [WEIGHTS]``. It imports nothing
of ours, so any environment with TensorFlow can run it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(package: str, given: str, results: str, model: str, weights: str = "") -> None:
    """Writes the results as arr_0, arr_1 and so on, stacked over samples.

    Args:
        package: ``keras`` or ``tf_keras``.
        given: a file with stacked samples as arr_0, arr_1 and so on, by input.
        results: the file to write.
        model: a ``.keras``, ``.h5`` or ``.json`` file.
        weights: weights that are loaded afterwards.
    """
    keras = importlib.import_module(package)
    loaded = _loaded(keras, Path(model))
    if weights:
        loaded.load_weights(weights)
    with np.load(given, allow_pickle=False) as arrays:
        inputs = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
    runs = []
    for index in range(len(inputs[0])):
        sample = [array[index : index + 1] for array in inputs]
        found = loaded(sample if len(sample) > 1 else sample[0], training=False)
        flat = importlib.import_module("tensorflow").nest.flatten(found)
        runs.append([np.asarray(array) for array in flat])
    np.savez(results, *[np.concatenate(outputs) for outputs in zip(*runs, strict=True)])


def _loaded(keras: Any, path: Path) -> Any:
    if path.suffix == ".json":
        return keras.models.model_from_json(path.read_text("utf-8-sig"))
    return keras.models.load_model(str(path), compile=False, safe_mode=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # whatever Keras raises; its message says more than where it was
        sys.exit(f"{type(error).__name__}: {error}")
