import json

import numpy as np
import onnx
import pytest
from PIL import Image

import dlaconv
from dlaconv.cli import run
from dlaconv.commands.calibration import picture_options
from dlaconv.diagnostics import Diagnostics
from dlaconv.errors import ConversionError, UnreadableError
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
    found = picture_options(problems, **texts)
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


def test_a_cache_gives_the_same_scales_without_another_run(source, tmp_path, monkeypatch):
    np.save(tmp_path / "d.npy", RNG.normal(size=(6, 3, 8, 8)))
    cache = tmp_path / "seen.npz"
    options = Options(
        calibrate=tmp_path / "d.npy", calibration_cache=cache, verify=False, optimise=0
    )
    first = dlaconv.convert(source, frontend="onnx", options=options).report
    written = cache.read_bytes()
    monkeypatch.setattr("dlaconv.ir.calibration.observe.Executor", None)
    again = dlaconv.convert(source, frontend="onnx", options=options)
    assert again.report["tensors"] == first["tensors"]
    assert cache.read_bytes() == written


def test_a_cache_that_is_none_is_refused(source, tmp_path):
    np.save(tmp_path / "d.npy", RNG.normal(size=(6, 3, 8, 8)))
    (tmp_path / "seen.npz").write_bytes(b"something else")
    options = Options(calibrate=tmp_path / "d.npy", calibration_cache=tmp_path / "seen.npz")
    with pytest.raises(UnreadableError) as caught:
        dlaconv.convert(source, frontend="onnx", options=options)
    assert {item.rule for item in caught.value.diagnostics} == {"DLA431"}


def test_percentile_gives_an_input_with_an_outlier_a_finer_step(source, tmp_path):
    data = RNG.normal(size=(100, 3, 8, 8))
    data[0, 0, 0, 0] = 3e3  # 1 of 19,200 values
    np.save(tmp_path / "d.npy", data)
    exponents = {}
    for ranges in ("minmax", "percentile"):
        options = Options(calibrate=tmp_path / "d.npy", ranges=ranges, verify=False)
        report = dlaconv.convert(source, frontend="onnx", options=options).report
        [row] = [row for row in report["tensors"] if row["layer"] == "x" or row["name"][0] == "x"]
        exponents[ranges] = row["target"]["exponent"]
    assert exponents["minmax"] >= 4
    assert exponents["percentile"] <= -4


def test_a_float_network_without_data_gets_one_diagnostic_of_all_its_maps(source):
    with pytest.raises(ConversionError) as caught:
        dlaconv.convert(source, frontend="onnx")
    [found] = [item for item in caught.value.diagnostics if item.rule == "DLA205"]
    assert "'x', 'y'" in found.message
    assert "--calibrate" in found.help
