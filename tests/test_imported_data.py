"""The networks in ``tests/data/qonnx`` and ``examples``, imported, compute what Brevitas does."""

from pathlib import Path

import numpy as np
import pytest

from dlaconv.frontends.qonnx import load_qonnx
from dlaconv.ir.execution import Executor, split_samples

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data" / "qonnx"
DIGITS = ROOT / "examples" / "digits"
FILES = sorted(DATA.glob("*.onnx"))
NAMES = {"float_batch_norm", "float_sum", "low_bits", "pot_depthwise", "pot_residual"} | {
    "pot_signed",
    "pot_unsigned",
    "trunc_average",
}


def imported_outputs(path: Path, images: np.ndarray) -> np.ndarray:
    imported = load_qonnx(path)
    assert not imported.diagnostics.errors
    executor = Executor(imported.model)
    (name,) = executor.outputs
    return np.concatenate([executor.run(feeds)[name] for feeds in split_samples({"image": images})])


def close(got: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(got - wanted).max() <= 1e-6 * np.abs(wanted).max())


def test_every_network_is_there():
    assert {path.name.partition(".")[0] for path in FILES} == NAMES
    assert {path.stem for path in FILES if ".dynamo." in path.name} == {
        "pot_signed.dynamo",
        "float_batch_norm.dynamo",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imported_network_computes_what_brevitas_computed(path):
    stored = np.load(DATA / f"{path.name.partition('.')[0]}.npz")
    assert close(imported_outputs(path, stored["image"]), stored["logits"])


@pytest.mark.parametrize(
    ("name", "outputs", "accuracy"),
    [("digits", "logits", 0.95), ("digits_float_scales", "logits_float_scales", 0.95)],
)
def test_imported_example_computes_what_brevitas_computed(name, outputs, accuracy):
    stored = np.load(DIGITS / "samples.npz")
    got = imported_outputs(DIGITS / f"{name}.onnx", stored["image"])
    assert close(got, stored[outputs])
    assert (got.argmax(1) == stored["label"]).mean() >= accuracy


def test_examples_are_small():
    assert sum(path.stat().st_size for path in DIGITS.iterdir()) < 150_000
