import json

import numpy as np
import onnx
import pytest
from PIL import Image

import dlaconv
from dlaconv.cli import run
from dlaconv.commands.calibration import preprocessing_of
from dlaconv.diagnostics import Diagnostics
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A float network that takes pictures of 8 x 8."""
    weights = RNG.normal(size=(16, 3, 3, 3)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            onnx.helper.make_node("Relu", ["c"], ["y"]),
        ],
        "net",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 16, 8, 8])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path_factory.mktemp("source") / "net.onnx"
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(4):
        pixels = RNG.integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "readme.txt").write_text("no picture")
    return folder


def test_a_folder_of_pictures_calibrates(source, photos, tmp_path, capsys):
    target = tmp_path / "net.dla.onnx"
    call = ["from-onnx", str(source), "-o", str(target), "--calibrate", str(photos)]
    assert run([*call, "--preset", "unit", "--mean", "0.5", "--scale", "1/255", "-q"]) == 0
    report = json.loads(target.with_suffix(".json").read_text("utf-8"))
    assert report["calibration"] == {
        "kind": "images", "source": str(photos), "samples": 4, "skipped": 1,
    }  # fmt: skip
    assert report["options"]["images"] == {"preset": "unit", "mean": [0.5], "scale": 1 / 255}
    assert [d["rule"] for d in report["diagnostics"]].count("DLA331") == 1
    assert report["verification"]["inputs"] == "calibration data"
    capsys.readouterr()


def test_samples_of_a_generator_give_what_a_file_of_them_gives(source, tmp_path):
    data = RNG.normal(size=(6, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=data)
    found = [
        dlaconv.convert(source, frontend="onnx", options=Options(calibrate=given)).report
        for given in (tmp_path / "d.npz", (row for row in data))
    ]
    assert found[0]["tensors"] == found[1]["tensors"]
    assert found[1]["options"]["calibrate"] == "generator"


def test_random_calibration_is_marked_in_file_and_report(source, tmp_path):
    target = tmp_path / "net.dla.onnx"
    found = dlaconv.convert(source, target, frontend="onnx", options=Options(calibrate="random"))
    marks = {item.key: item.value for item in onnx.load(target).metadata_props}
    assert marks["dlaconv.calibration"] == "random"
    assert found.report["calibration"]["kind"] == "random"
    assert "DLA334" in {item.rule for item in found.diagnostics}


def test_other_files_have_no_such_mark(source, photos, tmp_path):
    target = tmp_path / "net.dla.onnx"
    options = Options(calibrate=photos, images=Preprocessing(preset="unit"))
    dlaconv.convert(source, target, frontend="onnx", options=options)
    assert "dlaconv.calibration" not in {item.key for item in onnx.load(target).metadata_props}


def read(**texts):
    problems = Diagnostics()
    names = ("preset", "mean", "std", "scale", "resize", "crop", "layout")
    found = preprocessing_of(*(texts.get(name) for name in names), problems, bgr=False)
    return found, [item.rule for item in problems]


def test_numbers_ratios_and_sizes_are_read():
    found, problems = read(mean="0.5,1/4, 2", std="2", scale="1/255", resize="256", crop="8x9")
    assert not problems
    assert found == Preprocessing(
        mean=(0.5, 0.25, 2.0), std=(2.0,), scale=1 / 255, resize=(256,), crop=(8, 9)
    )


@pytest.mark.parametrize(("option", "text"), [
    ("mean", "a"), ("mean", "1,,2"), ("std", ""), ("scale", "1/0"), ("scale", "inf"),
    ("resize", "0"), ("resize", "1x2x3"), ("crop", "2.5"),
])  # fmt: skip
def test_what_cannot_be_read_is_said(option, text):
    assert read(**{option: text})[1] == ["DLA336"]
