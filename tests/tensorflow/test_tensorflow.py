"""SavedModels and the comparison with TensorFlow, with TensorFlow itself.

Models are made by TensorFlow, in the environment that DLACONV_TENSORFLOW names; ours reads them.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dlaconv
from dlaconv.errors import UnreadableError
from dlaconv.frontends.keras import reference, saved_model
from dlaconv.ir.execution import Executor
from dlaconv.options import Options
from tests.models.collection import FOLDER

VARIABLE = "DLACONV_TENSORFLOW"
NEEDED = ("tensorflow", "tf_keras", "tf2onnx")
IS_HERE = all(importlib.util.find_spec(name) is not None for name in NEEDED)
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(
        not (os.environ.get(VARIABLE) or IS_HERE),
        reason=f"{VARIABLE} names no python with tests/tensorflow/requirements.txt",
    ),
]
KERAS = FOLDER / "keras"
RUN = (
    "k3_flatten_concat_digits.keras",
    "k3_int8_native_digits.keras",
    "k3_mobilenet_digits.h5",
    "k3_ops_multiout_digits.keras",
    "real/tiny_ic_resnet8_pretrainedResnet.h5",
    "real/tiny_vww_96.h5",
)


@pytest.fixture(autouse=True)
def interpreter(monkeypatch):
    """Lets our programs run in the environment that has TensorFlow."""
    if os.environ.get(VARIABLE):
        monkeypatch.setattr(sys, "executable", os.environ[VARIABLE])
        for module in (reference, saved_model):
            monkeypatch.setattr(module, "absent", lambda names: [])


@pytest.fixture(scope="session", params=[2, 3])
def made(request, tmp_path_factory):
    """The folder of models that a generation of Keras has written."""
    folder = tmp_path_factory.mktemp(f"keras{request.param}")
    python = os.environ.get(VARIABLE) or sys.executable
    program = Path(__file__).with_name("make_models.py")
    done = subprocess.run(
        [python, "-W", "ignore", str(program), str(folder)],
        env={**os.environ, "TF_USE_LEGACY_KERAS": str(int(request.param == 2))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def compared(path, **options):
    chosen = Options(calibrate="random", partition=True, verify_with="tensorflow", **options)
    found = dlaconv.convert(path, frontend="keras", options=chosen).report["reference"]
    assert found["program"] == "tensorflow"
    assert found["samples"] == 4
    return found["largest"]


def test_a_saved_model_computes_what_tensorflow_computes(made):
    stored = np.load(made / "io.npz")
    imported = dlaconv.load(made / "saved" / "saved_model.pb", "keras")
    assert not imported.diagnostics.errors
    assert imported.notes["producer"].startswith("tf2onnx")
    [given] = imported.model.graph.inputs
    [found] = Executor(imported.model).run({given.name: stored["x"]}).values()
    assert abs(found - stored["y"]).max() <= 1e-5 * abs(stored["y"]).max()


def test_a_saved_model_is_converted(made, tmp_path):
    output = tmp_path / "net.dla.onnx"
    options = Options(calibrate="random", partition=True)
    converted = dlaconv.convert(made / "saved" / "saved_model.pb", output, options=options)
    assert converted.report["verification"]["passed"]
    further = [row["file"] for row in converted.report["source"]["further"]]
    assert any("variables.data" in file for file in further)
    assert not dlaconv.check(output).diagnostics.errors


def test_a_damaged_saved_model_is_one_finding(made, tmp_path):
    data = (made / "saved" / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableError) as caught:
        dlaconv.load(tmp_path / "saved_model.pb", "keras")
    assert [found.rule for found in caught.value.diagnostics] == ["DLA183"]


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_a_model_of_either_generation_is_read_rightly(made, name):
    assert compared(made / name) < 1e-5


@pytest.mark.models
@pytest.mark.parametrize("name", RUN)
def test_models_of_the_collection_are_read_rightly(name):
    if not (KERAS / name).is_file():
        pytest.skip(f"no model collection at {FOLDER} (set DLACONV_MODELS)")
    assert compared(KERAS / name) < (0.02 if "int8" in name else 1e-5)


@pytest.mark.models
def test_classes_of_other_packages_are_refused():
    path = KERAS / "qkeras09_cnn_po2.h5"
    if not path.is_file():
        pytest.skip(f"no model collection at {FOLDER} (set DLACONV_MODELS)")
    with pytest.raises(UnreadableError) as caught:
        compared(path)
    [found] = caught.value.diagnostics
    assert found.rule == "DLA183"
    assert found.notes[0].startswith("ValueError: Unknown layer")
