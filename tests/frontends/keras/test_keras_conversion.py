"""Whole conversions of Keras models, from the command line."""

import json
import zipfile
from itertools import pairwise

import numpy as np
import pytest

import dlaconv
from dlaconv.cli import main
from tests.frontends.keras.files import L, functional, given, save_keras, sequential

RNG = np.random.default_rng(11)


def values(*shape):
    return (RNG.standard_normal(shape) / 3).astype(np.float32)


def code_of(arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(item) for item in arguments])
    return caught.value.code


def conv(name, kernel, **config):
    given_config = {"filters": kernel.shape[-1], "kernel_size": list(kernel.shape[:2]), **config}
    weights = {"kernel": kernel, "bias": values(kernel.shape[-1])}
    return L("Conv2D", name, config=given_config, weights=weights)


@pytest.fixture
def model(tmp_path):
    """Strides and paddings of one side, a residual sum, and a flattened map."""
    channels = {"gamma": 1 + values(16), "beta": values(16), "moving_mean": values(16)}
    layers = [
        given("x", (12, 12, 16)),
        conv("c", values(3, 3, 16, 16), strides=[2, 2], padding="same", activation="relu"),
        conv("d", values(3, 3, 16, 16), padding="same", use_bias=True),
        L(
            "BatchNormalization",
            "b",
            weights=channels | {"moving_variance": np.ones(16, np.float32)},
        ),
        L("Add", "s"),
        L("MaxPooling2D", "p", config={"pool_size": [2, 2]}),
        L("Flatten", "f"),
        L(
            "Dense",
            "e",
            config={"units": 16},
            weights={"kernel": values(144, 16), "bias": values(16)},
        ),
    ]
    for before, layer in pairwise(layers):
        layer.reads = [["c", "b"]] if layer.kind == "Add" else [before.name]
    path = save_keras(tmp_path / "net.keras", layers, functional(layers, ["e"]))
    np.savez(tmp_path / "x.npz", x=values(8, 12, 12, 16))
    return path


@pytest.mark.parametrize("command", ["from-keras", "convert"])
def test_a_model_is_calibrated_converted_and_compared(model, tmp_path, command, capsys):
    output = tmp_path / "net.dla.onnx"
    given_data = ["--calibrate", tmp_path / "x.npz"]
    assert code_of([command, model, "-o", output, *given_data]) == 0
    report = json.loads((tmp_path / "net.dla.json").read_text())
    assert report["verification"]["passed"]
    assert {row["layer"] for row in report["tensors"]} >= {"c", "s", "e"}
    assert not dlaconv.check(output).diagnostics.errors
    assert "net.keras" in capsys.readouterr().out


def test_transposes_are_left_at_the_border_only(model):
    from dlaconv.ir.passes import CANONICAL
    from dlaconv.ir.pipeline import Pipeline
    from dlaconv.ir.stages import Stage

    imported = dlaconv.load(model)
    Pipeline([(Stage.CANONICAL, list(CANONICAL))], None).run(imported.model, context())
    kinds = [node.op_type for node in imported.model.graph]
    assert kinds.count("Transpose") == 1
    assert kinds[0] == "Transpose"
    assert "BatchNormalization" not in kinds


def context():
    from dlaconv.driver.reading import load_target
    from dlaconv.ir.pipeline import Context

    return Context(target=load_target(None))


def test_a_description_and_its_weights_are_hashed(model, tmp_path):
    with zipfile.ZipFile(model) as archive:
        archive.extractall(tmp_path / "folder")
    folder, output = tmp_path / "folder", tmp_path / "net.dla.onnx"
    given_data = ["--calibrate", tmp_path / "x.npz"]
    arguments = [folder / "config.json", "--weights", folder / "model.weights.h5"]
    assert code_of(["from-keras", *arguments, "-o", output, *given_data]) == 0
    report = json.loads((tmp_path / "net.dla.json").read_text())
    assert "model.weights.h5" in json.dumps(report["source"])
    for path in (folder / "config.json", folder):
        output.unlink()
        assert code_of(["from-keras", path, "-o", output, *given_data]) == 0
    report = json.loads((tmp_path / "net.dla.json").read_text())
    assert "model.weights.h5" in json.dumps(report["source"])


def test_a_model_that_cannot_be_read_writes_nothing(tmp_path, capsys):
    layers = [given("x", (4,)), L("Lambda", "code", config={"function": ["4wEAAAA", None, None]})]
    path = save_keras(tmp_path / "net.keras", layers, sequential(layers))
    assert code_of(["from-keras", path, "-o", tmp_path / "net.dla.onnx"]) == 1
    said = capsys.readouterr().err
    assert "DLA179" in said
    assert 'layer "code" (Lambda)' in said
    path.write_bytes(path.read_bytes()[:200])
    assert code_of(["from-keras", path, "-o", tmp_path / "net.dla.onnx"]) == 3
    assert "DLA170" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


def bad_file(kind, model):
    """A file of a kind that is refused; ``model`` is a good one."""
    path = model.with_name("bad.h5" if kind == "weights only" else "bad.keras")
    if kind == "malformed":
        path.write_bytes(b"PK\x03\x04" + bytes(2000))
    elif kind == "truncated":
        path.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    elif kind == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", zipfile.ZipFile(model).read("config.json"))
            archive.writestr("model.weights.h5", bytes(1 << 27))
    elif kind == "weights only":
        path.write_bytes(zipfile.ZipFile(model).read("model.weights.h5"))
    elif kind == "subclassed":
        save_keras(path, [], {"class_name": "MyModel", "config": {"name": "mine"}})
    else:
        layers = [given("x", (4,)), L("Lambda", "code", config={"function": ["4wEA", None, None]})]
        save_keras(path, layers, sequential(layers))
    return path


@pytest.mark.parametrize(
    ("kind", "code", "rule", "about"),
    [
        ("malformed", 3, "DLA170", "cut off"),
        ("truncated", 3, "DLA170", "cut off"),
        ("bomb", 3, "DLA407", "would unpack"),
        ("weights only", 3, "DLA171", "--weights"),
        ("subclassed", 1, "DLA174", 'layer "mine" (MyModel)'),
        ("code", 1, "DLA179", 'layer "code" (Lambda)'),
    ],
)
def test_what_is_refused_ends_in_one_error_with_what_to_do(model, capsys, kind, code, rule, about):
    path = bad_file(kind, model)
    output = path.with_name("net.dla.onnx")
    assert code_of(["from-keras", path, "-o", output]) == code
    said = capsys.readouterr().err
    assert (said.count("error["), said.count(f"error[{rule}]")) == (1, 1)
    assert f"--> {path}" in said
    assert "help: " in said
    assert about in said
    assert not output.exists()


def test_integers_of_qkeras_are_kept(tmp_path):
    fixed = {"class_name": "quantized_bits", "config": {"bits": 8, "integer": 0, "alpha": 1.0}}
    wide = {"class_name": "quantized_bits", "config": {"bits": 16, "integer": 4, "alpha": 1.0}}
    own = {"kernel_quantizer": fixed, "bias_quantizer": wide}

    def activation(name, text):
        return L("QActivation", name, config={"activation": text}, module="qkeras.qlayers")

    layers = [
        given("x", (8, 8, 16)),
        activation("q", "quantized_bits(8,1,alpha=1)"),
        conv("c", values(3, 3, 16, 16), padding="same", **own),
        activation("r", "quantized_relu(7,1)"),
        conv("d", values(3, 3, 16, 16), padding="valid", **own),
        activation("s", "quantized_bits(8,3,alpha=1)"),
    ]
    for before, layer in pairwise(layers):
        layer.reads = [before.name]
        if layer.kind == "Conv2D":
            layer.kind, layer.module = "QConv2D", "qkeras.qconvolutional"
    path = save_keras(tmp_path / "net.keras", layers, functional(layers, ["s"]))
    np.savez(tmp_path / "x.npz", x=values(4, 8, 8, 16) * 4)
    output = tmp_path / "net.dla.onnx"
    arguments = ["from-keras", path, "-o", output]
    assert code_of(arguments) == 0
    report = json.loads((tmp_path / "net.dla.json").read_text())
    assert report["summary"]["weights"] == {"kept": 2, "requantised": 0, "derived": 0}
    assert report["summary"]["maps"]["requantised"] == 0
    found = dlaconv.verify(path, output, inputs=tmp_path / "x.npz")
    assert found.passed
    assert {row.about.fidelity for row in found.rows} <= {"exact", "rescaled"}
    assert not any(row.accumulated.differing for row in found.rows)


def test_a_description_is_a_source_for_all_commands_and_no_report(model, tmp_path, capsys):
    with zipfile.ZipFile(model) as archive:
        archive.extractall(tmp_path / "folder")
    description, weights = (tmp_path / "folder" / n for n in ("alone.json", "model.weights.h5"))
    (tmp_path / "folder" / "config.json").rename(description)
    moved = weights.rename(tmp_path / "weights.h5")
    assert code_of(["show", description]) == 3
    assert "--source-option weights=" in " ".join(capsys.readouterr().err.split())
    assert code_of(["show", description, "--source-option", f"weights={moved}"]) == 0
