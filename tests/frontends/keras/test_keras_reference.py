"""``--verify-with tensorflow`` with a stand-in for Keras, which says how it is called."""

import json
import zipfile

import numpy as np
import pytest

from dlaconv.cli import main
from dlaconv.errors import UnreadableError
from dlaconv.frontends.keras import in_tensorflow, reference
from tests.frontends.keras.files import L, given, save_keras, sequential

KERAS = """
import json, os, sys
NOTES = {notes!r}
class Model:
    def __init__(self, **called):
        self.called = called
        self.called["package"] = __name__
        self.called["environment"] = {{k: os.environ.get(k) for k in {variables!r}}}
    def load_weights(self, path):
        self.called["weights"] = path
    def __call__(self, x, training):
        json.dump(self.called, open(NOTES, "w"))
        assert x.shape[0] == 1 and not training
        return {result}
class models:
    def load_model(path, compile, safe_mode):
        assert not compile and safe_mode
        import zipfile
        names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
        return Model(model=path, names=names)
    def model_from_json(text):
        return Model(text=text)
"""
TENSORFLOW = """
class nest:
    def flatten(found):
        return found if isinstance(found, list) else [found]
"""
VARIABLES = ["TF_USE_LEGACY_KERAS", "KERAS_BACKEND", "CUDA_VISIBLE_DEVICES"]
LAYERS = [given("x", (16,)), L("ReLU", "r", ["x"])]


@pytest.fixture
def keras(tmp_path, monkeypatch):
    """Installs stand-ins whose models return what is given; the function reads what was called."""
    packages, notes = tmp_path / "packages", tmp_path / "notes.json"
    packages.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.setattr(reference, "absent", lambda names: [])

    def install(result="x.clip(0)"):
        (packages / "tensorflow.py").write_text(TENSORFLOW)
        program = KERAS.format(notes=str(notes), variables=VARIABLES, result=result)
        for name in ("keras", "tf_keras"):
            (packages / f"{name}.py").write_text(program)
        return lambda: json.loads(notes.read_text())

    return install


def model(tmp_path, version=3):
    return save_keras(tmp_path / f"net{version}.keras", LAYERS, sequential(LAYERS), version)


def code_of(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in arguments])
    return ended.value.code


def test_a_conversion_says_how_far_off_it_is(tmp_path, keras, capsys):
    called = keras()
    output = tmp_path / "net.dla.onnx"
    options = ["--calibrate", "random", "--verify-with", "tensorflow"]
    assert code_of("from-keras", model(tmp_path), "-o", output, *options) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "source in tensorflow 4 samples, outputs differ by at most 0" in said
    assert called()["package"] == "keras"


def test_a_model_that_keras_computes_otherwise_is_refused(tmp_path, keras, capsys):
    keras("x")
    output = tmp_path / "net.dla.onnx"
    options = ["--calibrate", "random", "--verify-with", "tensorflow"]
    assert code_of("from-keras", model(tmp_path), "-o", output, *options) == 1
    assert "DLA908" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("version", "package", "environment"),
    [(2, "tf_keras", ["1", None, "-1"]), (3, "keras", ["0", "tensorflow", "-1"])],
)
def test_the_generation_that_wrote_a_file_runs_it(tmp_path, keras, version, package, environment):
    called = keras("[x + 1, x * 2]")
    x = np.arange(32, dtype=np.float32).reshape(2, 16)
    first, second = in_tensorflow(model(tmp_path, version), [x])
    assert np.array_equal(first, x + 1)
    assert np.array_equal(second, x * 2)
    assert called()["package"] == package
    assert list(called()["environment"].values()) == environment


@pytest.mark.parametrize("given_as", ["folder", "config"])
def test_an_unzipped_model_is_zipped(tmp_path, keras, given_as):
    called, folder = keras(), tmp_path / "net"
    with zipfile.ZipFile(model(tmp_path)) as archive:
        archive.extractall(folder)
    path = folder if given_as == "folder" else folder / "config.json"
    in_tensorflow(path, [np.zeros((1, 16), np.float32)])
    assert {"config.json", "model.weights.h5"} <= set(called()["names"])


def test_a_description_gets_its_weights(tmp_path, keras):
    called, folder = keras(), tmp_path / "net"
    with zipfile.ZipFile(model(tmp_path)) as archive:
        archive.extractall(folder)
    (folder / "config.json").rename(folder / "model.json")
    held = folder / "model.weights.h5"
    in_tensorflow(folder / "model.json", [np.zeros((1, 16), np.float32)], held)
    assert called()["text"] == (folder / "model.json").read_text()
    assert called()["weights"] == str(held)


def test_without_tensorflow_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "absent", lambda names: list(names))
    with pytest.raises(UnreadableError) as caught:
        in_tensorflow(model(tmp_path, 2), [])
    [found] = caught.value.diagnostics
    assert found.rule == "DLA183"
    assert "tensorflow and tf_keras are not installed" in found.message
    assert found.help == "pip install 'dlaconv[tensorflow]'"


def test_what_keras_says_of_a_failure_is_shown(tmp_path, keras):
    keras("1 / 0")
    with pytest.raises(UnreadableError) as caught:
        in_tensorflow(model(tmp_path), [np.zeros((1, 16), np.float32)])
    [found] = caught.value.diagnostics
    assert "exit code 1" in found.message
    assert found.notes[-1] == "ZeroDivisionError: division by zero"


def test_a_saved_model_is_not_run(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(UnreadableError) as caught:
        in_tensorflow(tmp_path, [])
    assert "SavedModels are not run" in str(caught.value)
