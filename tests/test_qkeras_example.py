"""The example in QKeras: its files, and what the commands of its README make of them."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import dlaconv
from dlaconv import cli
from dlaconv.ir.execution import Executor
from dlaconv.plugins import Plugins

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits_qkeras"
NET, SAMPLES = EXAMPLE / "digits.h5", EXAMPLE / "samples.npz"
COUNT = 450


def prose():
    return (EXAMPLE / "README.md").read_text("utf-8")


def samples():
    with np.load(SAMPLES) as arrays:
        return dict(arrays)


def accuracy(logits):
    return float(np.mean(logits.argmax(1) == samples()["label"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands of the README have run, beside copies of the example's files."""
    place = tmp_path_factory.mktemp("qkeras")
    for file in (NET, SAMPLES):
        shutil.copy(file, place)
    commands = re.findall(r"^dlaconv (.*)$", prose(), re.MULTILINE)
    assert [line.split()[0] for line in commands] == ["from-keras", "check", "run", "validate"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in commands:
            assert cli.run([*shlex.split(line), "-q"], Plugins(third_parties=False)) == 0, line
    return place


def test_what_is_read_computes_what_qkeras_computed():
    imported, known = dlaconv.load(NET), samples()
    assert not list(imported.diagnostics)
    executor = Executor(imported.model)
    for image, wanted in zip(known["image"], known["logits"], strict=True):
        [got] = executor.run({"image": image[None]}).values()
        np.testing.assert_array_equal(got[0], wanted)


def test_the_accelerator_computes_the_integers_of_qkeras(folder):
    known = samples()
    with np.load(folder / "logits.npz") as arrays:
        logits = arrays["logits"]
    assert logits.shape == (COUNT, 10)
    np.testing.assert_array_equal(logits, known["logits"])
    assert (logits.argmax(1) == known["logits"].argmax(1)).mean() >= 0.99
    shares = accuracy(known["logits"]), accuracy(logits)
    assert shares[0] > 0.98
    assert shares[1] >= shares[0] - 0.01
    [row] = re.findall(r"^\| `digits.h5.*$", prose(), re.MULTILINE)
    assert re.findall(r"[\d.]+ %", row) == [f"{100 * share:.1f} %" for share in shares]


def test_every_integer_is_kept(folder):
    report = json.loads((folder / "digits.dla.json").read_text("utf-8"))
    maps, weights = (report["summary"][kind] for kind in ("maps", "weights"))
    assert maps["exact"] == sum(maps.values()) > 0
    assert weights["kept"] == sum(weights.values()) == 3
    assert all(rewrite["exact"] for rewrite in report["rewrites"])
    assert report["verification"]["passed"]
    assert report["summary"]["macs"]["host"] == 0
    assert not dlaconv.check(folder / "digits.dla.onnx").diagnostics


def test_weights_are_powers_of_two_where_qkeras_makes_them_so(folder):
    [part] = dlaconv.show(folder / "digits.dla.onnx").parts
    steps = {row["layer"]: row["weights"] for row in part["layers"] if row["weights"]}
    assert {name: row["smallest_step"] for name, row in steps.items()} == {
        "conv1": 2**-6,  # chosen for each channel
        "conv2": 2**-4,  # the smallest power
        "classifier": 2**-7,
    }
    assert steps["conv1"]["largest_step"] == 2**-5
    assert steps["classifier"]["largest_step"] == 2**-7


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in EXAMPLE.glob("*.*")) < 200_000
