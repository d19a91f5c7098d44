"""SavedModels: what is done with them, and with programs that fail. tf2onnx is a stand-in here."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from dlaconv.cli import main
from dlaconv.errors import UnreadableError
from dlaconv.frontends.keras import load_keras, saved_model
from dlaconv.frontends.keras.subprocesses import absent, run_python
from dlaconv.ir import provenance
from dlaconv.ir.execution import Executor


@pytest.fixture
def folder(tmp_path):
    """A SavedModel as far as it is looked at."""
    made = tmp_path / "saved"
    (made / "variables").mkdir(parents=True)
    (made / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    (made / "variables" / "variables.data-00000-of-00001").write_bytes(b"\0" * 8)
    return made


@pytest.fixture
def tf2onnx(tmp_path, monkeypatch):
    """Installs a stand-in for tf2onnx, which does what it is given."""
    packages = tmp_path / "packages"
    (packages / "tf2onnx").mkdir(parents=True)
    (packages / "tf2onnx" / "__init__.py").touch()
    (packages / "tensorflow.py").write_text("raise SystemExit('imported by dlaconv')")
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setenv("PYTHONPATH", str(packages))

    def install(program):
        (packages / "tf2onnx" / "convert.py").write_text(program)

    return install


def network(path):
    """y = relu(x), with an input of any batch."""
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "xy"
    ]
    graph = onnx.helper.make_graph([relu], "g", tensors[:1], tensors[1:])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def finding(path, **arguments):
    with pytest.raises(UnreadableError) as caught:
        load_keras(path, **arguments)
    [found] = caught.value.diagnostics
    return found


def code_of(arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in arguments])
    return ended.value.code


@pytest.mark.parametrize("command", ["from-keras", "convert"])
def test_without_the_extra_it_is_said_what_to_install(folder, command, capsys, monkeypatch):
    monkeypatch.setattr(saved_model, "absent", lambda names: names)
    output = folder.parent / "net.dla.onnx"
    assert code_of([command, folder, "-o", output]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "DLA173" in said
    assert "tensorflow and tf2onnx are not installed" in said
    assert "pip install 'dlaconv[tensorflow]'" in said
    assert "python -m tf2onnx.convert --saved-model" in said
    (folder / "saved_model.pb").unlink()
    assert code_of([command, folder, "-o", output]) == 3
    assert "this is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["saved", "saved/saved_model.pb"])
def test_what_tf2onnx_makes_of_it_is_imported(folder, given, tf2onnx, tmp_path):
    made = network(tmp_path / "made.onnx")
    tf2onnx(
        "import shutil, sys\n"
        "told = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        f"assert told['--saved-model'] == {str(folder)!r}\n"
        f"shutil.copy({str(made)!r}, told['--output'])\n"
    )
    imported = load_keras(tmp_path / given)
    assert not imported.diagnostics.errors
    assert provenance.source_file(imported.model) == str(tmp_path / given)
    [variables] = provenance.weight_files(imported.model)
    assert variables.parent == folder / "variables"
    x = np.array([[-1, 0, 2, -3]], np.float32)
    assert Executor(imported.model).run({"x": x})["y"].tolist() == [[0, 0, 2, 0]]


def test_the_last_words_of_tf2onnx_are_shown(folder, tf2onnx):
    tf2onnx("import sys\nprint('started')\nsys.exit('no signature called serving_default')")
    found = finding(folder)
    assert found.rule == "DLA183"
    assert "exit code 1" in found.message
    assert found.notes == ("started", "no signature called serving_default")


def test_a_program_that_aborts_does_not_take_us_with_it(folder, tf2onnx):
    tf2onnx("import os\nos.abort()")
    assert "signal 6" in finding(folder).message


def test_a_program_that_writes_nothing_is_told(folder, tf2onnx):
    tf2onnx("")
    assert "wrote no file" in finding(folder).message


def test_a_part_of_it_is_told(folder):
    (folder / "keras_metadata.pb").write_bytes(b"\x08")
    found = finding(folder / "keras_metadata.pb")
    assert (found.rule, found.help) == ("DLA170", "give its folder")


def test_weights_of_another_file_are_refused(folder, tmp_path):
    assert finding(folder, weights=tmp_path / "w.h5").rule == "DLA170"


def test_a_program_is_ended_in_time():
    [why] = run_python(["-c", "import time; time.sleep(600)"], seconds=0.2)
    assert why == "it was ended after 0.2 s"


def test_a_program_takes_no_modules_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "tensorflow_of_this_test.py").write_text("print('taken')")
    monkeypatch.chdir(tmp_path)
    words = run_python(["-m", "tensorflow_of_this_test"])
    assert "No module named" in words[-1]


def test_of_long_output_the_end_is_kept():
    words = run_python(["-c", "print('x\\n' * 10**6); raise SystemExit('the end')"])
    assert len(words) <= 9
    assert words[-1] == "the end"


def test_what_tensorflow_always_logs_is_left_out():
    logged = "I0000 00:00:1 port.cc:153] oneDNN is on", "WARNING: All log messages before absl::"
    _, *words = run_python(["-c", f"raise SystemExit({chr(10).join([*logged, 'why'])!r})"])
    assert words == ["why"]


def test_a_python_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(sys, "executable", str(Path("/nowhere/python")))
    assert "did not start" in run_python(["-c", ""])[0]


def test_what_is_not_installed_is_found_without_importing_it():
    assert absent(["json", "no_such_module_at_all"]) == ["no_such_module_at_all"]
