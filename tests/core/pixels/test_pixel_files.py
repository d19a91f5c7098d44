"""Converted files that take pixels: every command that feeds them."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from PIL import Image

import dlaconv
from dlaconv.cli import run
from dlaconv.errors import ConversionError
from dlaconv.ir.pixels import Pixels
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing
from tests.core.pixels.networks import (
    MEAN,
    STD,
    TORCHVISION,
    bytes_of,
    classifier,
    convert,
    decibels,
    is_padded,
    prepared,
    rules,
    source_outputs,
)
from tests.core.test_schemas import validate


def test_pixels_of_any_type_are_the_same_and_int8_is_what_the_host_feeds(either, data):
    _, target = convert(either, data)
    pixels = bytes_of(3, seed=2)
    wanted = dlaconv.run(target, {"x": pixels})["y"]
    fed = (pixels ^ 0x80).view(np.int8)
    for given in (pixels.astype("f"), pixels.astype(np.int64), pixels.astype(np.uint16), fed):
        assert np.array_equal(dlaconv.run(target, {"x": given})["y"], wanted)


def test_commands_feed_pixels_to_both_networks(either, data, tmp_path, capsys):
    target = tmp_path / "net.dla.onnx"
    call = ["from-onnx", str(either), "-o", str(target), "--calibrate", str(data), "--preset",
            "torchvision", "--bgr", "--fold-preprocess", "-q"]  # fmt: skip
    call += ["--border-channel"] if is_padded(either) else []
    assert run(call) == 0
    pixels = bytes_of(20, seed=5)
    np.savez(tmp_path / "in.npz", x=pixels)
    labels = source_outputs(either, prepared(pixels)).argmax(axis=1)
    np.save(tmp_path / "labels.npy", labels)
    files = ["--input", str(tmp_path / "in.npz")]
    capsys.readouterr()
    assert run(["compare", str(either), str(target), *files, "--min-qsnr", "26", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"x", "r", "e", "y"} <= {row["name"] for row in found["layers"]}
    for converted in (target, target.with_suffix(".json")):
        call = ["validate", str(converted), *files, "--labels", str(tmp_path / "labels.npy")]
        assert run([*call, "--source", str(either), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["source_accuracy"]["top1"] == 100
        assert found["accuracy"]["top1"] >= 90
    assert dlaconv.verify(either, target, inputs=tmp_path / "in.npz").passed
    assert dlaconv.verify(either, target).passed
    chain = dlaconv.run_chain(target.with_suffix(".json"), {"x": pixels})["y"]
    assert np.array_equal(chain, dlaconv.run(target, {"x": pixels}, as_float=True)["y"])


def test_layers_are_ranked_on_pixels(either, data):
    options = Options(calibrate=data, images=TORCHVISION, fold_preprocess=True, samples=2,
                      border_channel=is_padded(either))  # fmt: skip
    folded = dlaconv.sensitivity(either, options=options)
    assert folded.everything.as_json()["qsnr_db"] > 26
    assert {row["name"] for row in folded.layers} >= {"r", "e"}


def test_sources_of_open_batch_and_their_reports(tmp_path, data, capsys):
    source = classifier(tmp_path / "net.onnx", pads=1, shape=("n", 3, 10, 10))
    page = tmp_path / "net.html"
    conversion, target = convert(source, data, html=page)
    validate("report", conversion.report)
    assert conversion.report["verification"]["passed"]
    assert "41 in channel 3" in page.read_text("utf-8")
    assert dlaconv.verify(source, target, inputs=data).passed
    assert dlaconv.compare(source, target, data).outputs["y"]["qsnr_db"] > 26
    assert run(["dump", str(target), "--input", str(data), "-o", str(tmp_path / "m.npz")]) == 0
    assert run(["show", str(target), "-q"]) == 0


@pytest.mark.parametrize("unsigned", [False, True])
def test_twins_take_pixels(either, data, unsigned):
    conversion, target = convert(either, data, emit=("qdq", "sim"), unsigned_maps=unsigned)
    pixels = bytes_of(4, seed=6)
    wanted = dlaconv.run(target, {"x": pixels}, as_float=True)["y"]
    assert conversion.report["io"]["inputs"][0]["dtype"] == ("uint8" if unsigned else "int8")
    for kind, file in conversion.emitted.items():
        session = onnxruntime.InferenceSession(str(file))
        real = [session.run(["y"], {"x": image[None].astype("f")})[0] for image in pixels]
        step = conversion.report["io"]["outputs"][0]["real_step"]
        assert np.abs(np.concatenate(real) - wanted).max() <= (0 if kind == "sim" else step)


@pytest.mark.parametrize("pads", [0, 1])
def test_channels_last_are_fed_first_and_the_commands_turn_them(tmp_path, pads):
    head = [helper.make_node("Transpose", ["x"], ["h"], perm=[0, 3, 1, 2])]
    source = classifier(tmp_path / "net.onnx", head=head, pads=pads, shape=(1, 10, 10, 3))
    folder = tmp_path / "photos"
    folder.mkdir()
    last = np.ascontiguousarray(bytes_of(24).transpose(0, 2, 3, 1))
    for index, image in enumerate(last):
        Image.fromarray(image).save(folder / f"{index:02}.png")
    images = Preprocessing(mean=MEAN, std=STD, scale=1 / 255, bgr=True)
    options = {"images": images, "border_channel": bool(pads), "emit": ("qdq", "sim")}
    second, _ = convert(source, list(last), **options)
    first, target = convert(source, folder, **options)
    for name in ("io", "tensors", "verification"):
        assert first.report[name] == second.report[name]
    assert first.report["io"]["inputs"][0]["shape"] == [1, 3 + pads, 10, 10]
    assert first.report["io"]["inputs"][0]["layout"] == "NCHW"
    assert first.report["verification"]["passed"]
    pixels = bytes_of(6, seed=9)
    given = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    values = prepared(pixels).transpose(0, 2, 3, 1)
    got = dlaconv.run(target, {"x": given}, as_float=True)["y"]
    assert decibels(source_outputs(source, values), got) > 28
    fed = (given ^ 0x80).view(np.int8)
    assert np.array_equal(dlaconv.run(target, {"x": fed}, as_float=True)["y"], got)
    np.savez(tmp_path / "in.npz", x=given)
    found = dlaconv.compare(source, target, tmp_path / "in.npz")
    assert found.outputs["y"]["qsnr_db"] > 26
    assert dlaconv.verify(source, target).passed
    for kind, file in first.emitted.items():
        session = onnxruntime.InferenceSession(str(file))
        real = [session.run(["y"], {"x": image[None].astype("f")})[0] for image in given]
        step = first.report["io"]["outputs"][0]["real_step"]
        assert np.abs(np.concatenate(real) - got).max() <= (0 if kind == "sim" else step)
    assert convert(source, None, **options)[0].report["verification"]["passed"]


def test_a_damaged_file_that_says_other_pixels_than_its_shape_is_refused(net, data):
    _, target = convert(net, data)
    model = onnx.load(target)
    entry = next(item for item in model.metadata_props if item.key == "dlaconv.maps")
    table = json.loads(entry.value)
    for change in ({"axis": 2}, {"turn": True, "axis": 3}, {"further": 3}, {"factors": [1.0] * 4}):
        table["x"]["pixels"] = Pixels(128, (1.0,) * 4, axis=1).as_json() | change
        entry.value = json.dumps(table)
        onnx.save(model, target)
        for command in (lambda: dlaconv.run(target, {"x": bytes_of(2)}),
                        lambda: dlaconv.verify(net, target)):  # fmt: skip
            with pytest.raises(ConversionError) as error:
                command()
            assert rules(error) == ["DLA305"]


GOOD = Pixels(128, (0.5, 1.0), (0.0, 3.0), 1, True).as_json()


def test_what_a_file_says_of_pixels_reads_back():
    assert Pixels.from_json(json.loads(json.dumps(GOOD))).as_json() == GOOD


CHANGES = [
    {"zero": 127}, {"zero": True}, {"zero": [1]}, {"factors": []}, {"factors": [float("nan")]},
    {"factors": [1.0] * 3}, {"factors": "1"}, {"axis": 0}, {"axis": 9}, {"axis": "1"},
    {"reverse": 1}, {"border": 128}, {"border": -129}, {"border": 1.0}, {"further": -1},
    {"further": 1, "axis": None, "factors": [1.0], "offsets": [0.0]}, {"further": 1 << 20},
    {"turn": 1}, {"turn": True}, {"more": 1}, {"axis": None}, {"offsets": [10**400]},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_damaged_words_on_pixels_are_not_taken(change):
    for given in (GOOD | change, list(GOOD), None):
        with pytest.raises(ValueError, match=r"pixel|axis|number"):
            Pixels.from_json(given)
