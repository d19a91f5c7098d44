"""The example in floating point, through the command line: converted, run, held to its floats."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from dlaconv import cli
from dlaconv.plugins import Plugins

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits_float"
NETWORK = EXAMPLE / "digits_float.onnx"


def dlaconv(*arguments):
    return cli.run([str(argument) for argument in arguments], Plugins())


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The file that the README's command writes."""
    target = tmp_path_factory.mktemp("float") / "digits.dla.onnx"
    code = dlaconv(
        "from-onnx", NETWORK, "-o", target, "--calibrate", EXAMPLE / "calibration.npz", "-q"
    )
    assert code == 0
    return target


def samples():
    with np.load(EXAMPLE / "samples.npz") as arrays:
        return dict(arrays)


def test_the_integers_are_right_as_often_as_the_floats(converted, tmp_path):
    results = tmp_path / "y.npz"
    code = dlaconv("run", converted, "--input", EXAMPLE / "samples.npz", "-o", results, "-q")
    assert code == 0
    known = samples()
    with np.load(results) as arrays:
        got = arrays["logits"].reshape(len(known["label"]), -1).argmax(1)
    floats = known["logits"].argmax(1)
    accuracy, of_floats = (np.mean(guess == known["label"]) for guess in (got, floats))
    assert of_floats > 0.98
    assert accuracy >= of_floats - 0.005
    assert np.mean(got == floats) > 0.99


def test_no_rule_is_broken_and_every_map_is_derived(converted):
    assert dlaconv("check", converted, "-q") == 0
    report = json.loads(converted.with_suffix(".json").read_text("utf-8"))
    assert not [item for item in report["diagnostics"] if item["severity"] == "error"]
    assert set(report["summary"]["maps"]) >= {"derived"}
    assert report["summary"]["maps"]["derived"] == sum(report["summary"]["maps"].values())
    assert all(item["exact"] for item in report["rewrites"])
    assert report["verification"]["passed"]
    assert report["summary"]["qsnr_db"]["logits"] > 25


def test_its_maps_equal_those_of_the_source_within_what_was_predicted(converted, tmp_path):
    few = tmp_path / "few.npz"
    np.savez(few, image=samples()["image"][:16])
    assert dlaconv("verify", NETWORK, converted, "--input", few, "-q") == 0


def test_without_calibration_it_is_refused_with_the_remedy(tmp_path, capsys):
    target = tmp_path / "net.dla.onnx"
    assert dlaconv("from-onnx", NETWORK, "-o", target, "--json") == 1
    assert not list(tmp_path.iterdir())
    found = json.loads(capsys.readouterr().out)["diagnostics"]
    errors = [item for item in found if item["severity"] == "error"]
    assert {item["rule"] for item in errors} == {"DLA205"}
    assert all("--calibrate" in item["help"] for item in errors)


def test_the_example_is_what_its_readme_says():
    model = onnx.load(NETWORK)
    operators = {node.op_type for node in model.graph.node}
    assert {"BatchNormalization", "MaxPool", "Conv", "Gemm"} <= operators
    assert not {"QuantizeLinear", "Quant"} & operators
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    with np.load(EXAMPLE / "calibration.npz") as arrays:
        assert arrays["image"].shape == (64, 1, 8, 8)
    assert samples()["image"].shape == (450, 1, 8, 8)
    assert f"{np.mean(samples()['logits'].argmax(1) == samples()['label']):.1%}".replace(
        "%", " %"
    ) in (EXAMPLE / "README.md").read_text("utf-8")


def test_calibration_images_are_no_test_images():
    with np.load(EXAMPLE / "calibration.npz") as arrays:
        seen = {image.tobytes() for image in arrays["image"]}
    assert not seen & {image.tobytes() for image in samples()["image"]}
