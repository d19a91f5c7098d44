"""The example in Caffe: its script, its files, and what becomes of them."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import dlaconv
from dlaconv import cli
from dlaconv.frontends.caffe.blobs import Weights
from dlaconv.ir.execution import Executor
from dlaconv.plugins import Plugins

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits_caffe"
BINARY, SAMPLES = EXAMPLE / "digits.caffemodel", EXAMPLE / "samples.npz"
MODES = ("xilinx", "dynamic")
TEXTS = ("digits.prototxt", *(f"digits_{mode}.prototxt" for mode in MODES))


def source(mode):
    return [EXAMPLE / f"digits_{mode}.prototxt", BINARY]


def run(*arguments):
    return cli.run([str(argument) for argument in arguments], Plugins(third_parties=False))


def samples():
    with np.load(SAMPLES) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The files that the README's command writes, by mode."""
    folder = tmp_path_factory.mktemp("caffe")
    for mode in MODES:
        assert run("from-caffe", *source(mode), "-o", folder / f"{mode}.dla.onnx", "-q") == 0
    return {mode: folder / f"{mode}.dla.onnx" for mode in MODES}


@pytest.fixture
def script(monkeypatch):
    """The modules of the example, as the script imports them."""
    names = ("network", "caffe_files", "train")
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


def prose():
    return (EXAMPLE / "README.md").read_text("utf-8")


def percent(share):
    return f"{100 * share:.1f} %"


@pytest.mark.parametrize("mode", MODES)
def test_the_accelerator_is_right_as_often_as_the_floats(converted, mode):
    known = samples()
    found = dlaconv.validate(
        converted[mode], SAMPLES, SAMPLES, source=[EXAMPLE / "digits.prototxt", BINARY]
    )
    floats = np.mean(known["fc"].argmax(1) == known["label"])
    assert found.theirs.top1 / 450 == floats > 0.98
    assert found.ours.top1 / 450 >= floats - 0.01
    [row] = re.findall(rf"^\| `digits_{mode}.*$", prose(), re.MULTILINE)
    assert percent(found.ours.top1 / 450) in row
    [row] = re.findall(r"^\| `digits.prototxt.*$", prose(), re.MULTILINE)
    assert percent(floats) in row


@pytest.mark.parametrize("mode", MODES)
def test_it_converts_without_being_rewritten_for_the_hardware(converted, mode):
    assert not dlaconv.check(converted[mode]).diagnostics.errors
    report = json.loads(converted[mode].with_suffix(".json").read_text("utf-8"))
    assert {item["name"] for item in report["rewrites"]} == {"fold_batch_norm"}
    assert not [item for item in report["diagnostics"] if item["severity"] == "error"]
    assert {"derived", "requantised"}.isdisjoint(
        kind for kind, count in report["summary"]["maps"].items() if count
    )
    assert report["verification"]["passed"]


@pytest.mark.parametrize("mode", MODES)
def test_its_maps_equal_those_of_the_source_up_to_roundings(converted, mode):
    assert run("verify", *source(mode), converted[mode], "--input", SAMPLES, "-q") == 0


def test_the_network_in_floating_point_is_not_the_source_of_integers(converted, capsys):
    floats = [EXAMPLE / "digits.prototxt", BINARY]
    assert run("verify", *floats, converted["xilinx"], "--input", SAMPLES, "-q") == 2
    shown = capsys.readouterr().err
    assert "DLA903" in shown
    assert "this source quantises nothing" in shown
    assert run("compare", *floats, converted["xilinx"], "--input", SAMPLES, "-q") == 0


def test_a_clip_that_a_pinned_output_loses_is_kept_by_absorbing(tmp_path):
    """Random inputs, with which the conversion compares here, leave the range of ``fc``."""
    target = tmp_path / "net.dla.onnx"
    pinned = dlaconv.convert(source("xilinx"), target)
    [lost] = [item for item in pinned.diagnostics if item.rule == "DLA904"]
    assert "--io absorb" in lost.help
    absorbed = dlaconv.convert(source("xilinx"), target, options=dlaconv.Options(io="absorb"))
    assert "DLA904" not in {item.rule for item in absorbed.diagnostics}


def formats(mode):
    """The fields of every layer's precision_param, by the name of the layer."""
    found = {}
    for text in (EXAMPLE / f"digits_{mode}.prototxt").read_text("utf-8").split("layer {")[1:]:
        _, _, written = text.partition("precision_param {")
        fields = re.findall(r"(\w+): (\S+)", written.partition("}")[0])
        found[re.search(r'name: "(\w+)"', text)[1]] = dict(fields)
    return found


def test_every_map_of_dynamic_fixed_keeps_its_step(converted):
    written = formats("dynamic")
    layers = {"scale1": "conv1", "scale2": "conv2"}  # the last of what becomes one
    wanted = {
        layers.get(name, name): 2.0 ** -int(fields["fl_layer_out"])
        for name, fields in written.items()
        if fields and name not in {"conv1", "conv2", "bn1", "bn2"}
    }
    report = json.loads(converted["dynamic"].with_suffix(".json").read_text("utf-8"))
    assert report["summary"]["maps"]["exact"] == sum(report["summary"]["maps"].values())
    [part] = dlaconv.show(converted["dynamic"]).parts
    steps = {row["layer"]: item["real_step"] for row in part["layers"] for item in row["maps"]}
    assert part["inputs"][0]["maps"][0]["real_step"] == 2.0 ** -int(written["conv1"]["fl_layer_in"])
    assert {name: steps.get(name) for name in wanted} == wanted


def test_thresholds_are_one_for_each_map_and_filter():
    counts = {"conv1": 16, "conv2": 16, "conv3": 16, "conv4": 16, "fc": 10}
    text = (EXAMPLE / "digits_xilinx.prototxt").read_text("utf-8")
    assert text.count("th_params:") == sum(counts.values())
    written = formats("xilinx")
    assert all("th_layer_out" in fields for fields in written.values() if fields)
    for names in (("scale1", "scale2", "sum"), ("conv3", "conv4", "concat", "pool2")):
        assert len({written[name]["th_layer_out"] for name in names}) == 1, names


def test_what_the_script_computes_is_what_caffes_layers_are(script):
    imported = dlaconv.load([EXAMPLE / "digits.prototxt", BINARY])
    assert not imported.diagnostics.errors
    executor, known = Executor(imported.model), samples()
    for image, wanted in zip(known["data"][:16], known["fc"], strict=False):
        [got] = executor.run({"data": image[None]}).values()
        np.testing.assert_allclose(got[0], wanted, atol=1e-4)


def test_gradients_are_those_of_differences(script):
    network, draw = script["network"], np.random.default_rng(0)
    weights, data = network.initial(1), draw.normal(size=(3, 1, 8, 8))
    aim = draw.normal(size=(3, 10))

    def loss():
        return float((network.forward(weights, data, train=True)[0]["fc"] * aim).sum())

    _, tape = network.forward(weights, data, train=True)
    gradients = network.backward(tape, aim)
    for name in ("conv1", "conv3", "conv4", "scale1", "scale2", "fc"):
        for blob, gradient in zip(weights[name], gradients[name], strict=True):
            place = np.unravel_index(int(draw.integers(blob.size)), blob.shape)
            kept, difference = blob[place], []
            for change in (1e-6, -1e-6):
                blob[place] = kept + change
                difference.append(loss())
            blob[place] = kept
            slope = (difference[0] - difference[1]) / 2e-6
            assert slope == pytest.approx(gradient[place], rel=1e-3, abs=1e-5), name


def test_the_script_writes_files_of_the_same_structure(script, tmp_path):
    known, train = samples(), script["train"]
    weights = train.train(known["data"][:128], known["label"][:128], 2)
    train.write(weights, known["data"][:128], tmp_path)
    for name in TEXTS:
        made, kept = ((folder / name).read_text("utf-8") for folder in (tmp_path, EXAMPLE))
        assert without_numbers(made) == without_numbers(kept), name
    made, kept = (Weights(folder / BINARY.name) for folder in (tmp_path, EXAMPLE))
    assert list(made.layers) == list(kept.layers)
    for name in kept.layers:
        shapes = [[blob.shape for blob in item.blobs(name)] for item in (made, kept)]
        assert shapes[0] == shapes[1], name
    for name in TEXTS:
        assert not dlaconv.load([tmp_path / name, tmp_path / BINARY.name]).diagnostics.errors


def without_numbers(text):
    """What does not depend on the weights: quantised numbers are left out."""
    return re.sub(r"((?:th|fl)_\w+|\w+_fl): \S+", r"\1: N", text)


def test_the_files_are_small_and_no_calibration_image_is_a_test_image():
    assert sum(path.stat().st_size for path in EXAMPLE.glob("*.*")) < 200_000
    with np.load(EXAMPLE / "calibration.npz") as arrays:
        seen = {image.tobytes() for image in arrays["data"]}
    assert len(seen) == 64
    assert not seen & {image.tobytes() for image in samples()["data"]}


def test_the_network_in_floating_point_is_quantised_by_dlaconv(tmp_path):
    target = tmp_path / "net.dla.onnx"
    files = [EXAMPLE / "digits.prototxt", BINARY]
    data = EXAMPLE / "calibration.npz"
    assert run("from-caffe", *files, "-o", target, "--calibrate", data, "-q") == 0
    score = dlaconv.validate(target, SAMPLES, SAMPLES).ours.top1 / 450
    [row] = re.findall(r"^\| `digits.prototxt.*$", prose(), re.MULTILINE)
    assert percent(score) in row


def test_one_format_for_all_layers_is_verified_as_it_was_converted(tmp_path):
    target, files = tmp_path / "net.dla.onnx", [EXAMPLE / "digits.prototxt", BINARY]
    how = ["--precision", "8,8,8", "--fl-bitwidths", "3,6,3"]
    assert run("from-caffe", *files, "-o", target, *how, "-q") == 0
    assert run("verify", *files, target, "--input", SAMPLES, "-q") == 0
    found = dlaconv.validate(target, SAMPLES, SAMPLES, source=files)
    assert found.source_options == ["precision=8,8,8", "fl-bitwidths=3,6,3"]
    assert found.ours.top1 / 450 > 0.97
