"""Networks that take pixels: what a conversion makes of them, and what it refuses."""

import json
from importlib import resources

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import dlaconv
from dlaconv.driver.pixels import pixels_in
from dlaconv.driver.reading import load_target, read_network
from dlaconv.errors import ConversionError, UsageError
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing
from tests.core.pixels.networks import (
    MEAN,
    STD,
    bytes_of,
    classifier,
    convert,
    decibels,
    is_padded,
    prepared,
    rules,
    source_outputs,
)


def test_the_hardware_takes_pixels_and_computes_what_the_source_makes_of_them(either, data):
    conversion, target = convert(either, data)
    fed = conversion.report["io"]["inputs"][0]
    assert (fed["scale"], fed["real_step"], fed["qmin"], fed["qmax"]) == (1, 1, -128, 127)
    words = "int8 = pixel - 128, of 0..255, red first"
    further = "; 41 in channel 3" if is_padded(either) else ""
    assert fed["feed"] == words + further
    assert fed["shape"] == [1, 4 if further else 3, 10, 10]
    pixels = bytes_of(6, seed=9)
    wanted = source_outputs(either, prepared(pixels))
    got = dlaconv.run(target, {"x": pixels}, as_float=True)["y"]
    assert decibels(wanted, got) > 28
    assert conversion.report["verification"]["passed"]
    rows = {row["name"]: row for row in conversion.report["verification"]["maps"]}
    assert rows["x"]["accumulated"]["differing"] == 0


def test_weights_are_those_of_a_folded_network_that_is_built_by_hand(net, data, tmp_path):
    _, target = convert(net, data, verify=False, optimise=0)
    model = onnx.load(net)
    weights = {item.name: item for item in model.graph.initializer}
    w, b = (numpy_helper.to_array(weights[n]).astype(np.float64) for n in "wb")
    factor = 1 / (255 * np.array(STD)).reshape(1, 3, 1, 1)
    offset = (128 / 255 - np.array(MEAN)) / np.array(STD)
    bias = b + (w.sum(axis=(2, 3)) * offset).sum(axis=1)
    folded = (w * factor)[:, ::-1]
    weights["w"].CopyFrom(numpy_helper.from_array(folded.astype("f"), "w"))
    weights["b"].CopyFrom(numpy_helper.from_array(bias.astype("f"), "b"))
    quantise = [
        helper.make_node("QuantizeLinear", ["x", "s", "o"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "o"], ["h"]),
    ]
    model.graph.node[0].input[0] = "h"
    nodes = [*quantise, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "s"))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "o"))
    onnx.save(model, tmp_path / "hand.onnx")
    centred = np.load(data)["x"].astype(np.float32) - 128
    np.savez(tmp_path / "centred.npz", x=centred)
    hand = tmp_path / "hand.dla.onnx"
    options = Options(calibrate=tmp_path / "centred.npz", verify=False, optimise=0)
    dlaconv.convert(tmp_path / "hand.onnx", hand, options=options)
    first, other = (
        read_network(file, load_target(None))[0].layers[0].weights for file in (target, hand)
    )
    assert np.array_equal(first.integers, other.integers)
    assert np.array_equal(first.scales, other.scales)
    pixels = bytes_of(5, seed=4)
    ours = dlaconv.run(target, {"x": pixels})["y"].astype(int)
    theirs = dlaconv.run(hand, {"x": pixels.astype(np.float32) - 128})["y"]
    assert np.abs(ours - theirs).max() <= 2  # the bias makes up for rounded weights


@pytest.mark.parametrize("bad", [0.5, -1, 256])
def test_values_that_are_no_pixels_are_refused(net, data, tmp_path, bad):
    _, target = convert(net, data)
    values = bytes_of(3).astype(np.float32)
    values[2, 1, 4, 4] = bad
    with pytest.raises(UsageError) as error:
        dlaconv.run(target, {"x": values})
    assert rules(error) == ["DLA338"]
    np.savez(tmp_path / "bad.npz", x=values)
    before = target.read_bytes()
    for given in (tmp_path / "bad.npz", list(values)):
        with pytest.raises(UsageError) as error:
            convert(net, given)
        assert rules(error) == ["DLA338"]
    with pytest.raises(UsageError):
        dlaconv.verify(net, target, inputs=tmp_path / "bad.npz")
    assert target.read_bytes() == before


def test_a_folder_of_pictures_is_only_resized_and_cropped(either, data, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, image in enumerate(np.load(data)["x"]):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{index:02}.png")
    images = Preprocessing(mean=MEAN, std=STD, scale=1 / 255, bgr=True)
    first, _ = convert(either, folder, images=images)
    second, _ = convert(either, data, images=images)
    for report in (first.report, second.report):
        report["options"] = report["calibration"] = report["timings"] = None
    assert first.report == second.report
    resized = Preprocessing(preset="torchvision", resize=(12,), crop=(10,))
    assert convert(either, folder, images=resized)[0].report["calibration"]["samples"] == 24
    with pytest.raises(UsageError) as error:
        convert(either, data, images=resized)
    assert rules(error) == ["DLA423"]


@pytest.mark.parametrize("given", ["random", None])
def test_no_data_is_random_pixels(either, given):
    conversion, _ = convert(either, given)
    assert conversion.report["verification"]["passed"]
    rows = {row["name"]: row for row in conversion.report["verification"]["maps"]}
    assert rows["x"]["accumulated"]["differing"] == 0


@pytest.mark.parametrize("options", [
    {"policy": "mse"}, {"policy": "ceil"}, {"policy": "nearest"}, {"io": "absorb"},
    {"convention": "int-per-real"}, {"ranges": "percentile", "optimise": 2},
])  # fmt: skip
def test_no_option_of_scales_touches_the_pixels(net, tmp_path, options):
    dark = bytes_of(16) // 8  # calibration data that would have a finer step
    np.savez(tmp_path / "dark.npz", x=dark)
    conversion, target = convert(net, tmp_path / "dark.npz", **options)
    assert conversion.report["io"]["inputs"][0]["scale"] == 1
    assert conversion.report["verification"]["passed"]
    assert pixels_in(read_network(target, load_target(None))[1])["x"].reverse


def test_dark_pictures_cost_no_more_than_with_the_values_of_the_source(net, tmp_path):
    model = onnx.load(net)
    weights = {item.name: item for item in model.graph.initializer}
    weights["b"].CopyFrom(numpy_helper.from_array(np.zeros(16, np.float32), "b"))
    onnx.save(model, net)
    dark = bytes_of(24) // 16
    np.savez(tmp_path / "dark.npz", x=dark)
    np.savez(tmp_path / "values.npz", x=dark / np.float32(15))
    images = Preprocessing(preset="raw", std=(15.0,))
    folded, _ = convert(net, tmp_path / "dark.npz", images=images)
    plain, _ = convert(net, tmp_path / "values.npz", images=Preprocessing(), fold_preprocess=False)
    maps = [
        {row["name"]: row["accumulated"]["qsnr_db"] for row in item.report["verification"]["maps"]}
        for item in (folded, plain)
    ]
    assert maps[0]["r"] > maps[1]["r"] - 1.5


def test_padding_is_refused_with_the_pixels_that_zeros_stand_for(tmp_path, data):
    source = classifier(tmp_path / "net.onnx", pads=1)
    with pytest.raises(ConversionError) as error:
        convert(source, data, border_channel=False)
    assert rules(error) == ["DLA337"]
    assert "pixels of 123.675, 116.28, 103.53 in the source and of 128" in str(error.value)
    assert not (tmp_path / "net.dla.onnx").exists()
    centred = Preprocessing(preset="raw", mean=(128,), std=(58.4, 57.1, 57.4))
    conversion, _ = convert(source, data, images=centred, border_channel=False)
    assert conversion.report["verification"]["passed"]


def test_qonnx_sources_that_quantise_every_pixel_exactly_fold(tmp_path):
    rng = np.random.default_rng(3)
    constants = {
        "w": rng.integers(-127, 128, (16, 3, 3, 3)) / 256, "sw": 1 / 256, "s": 1 / 128, "t": 0.25,
        "zero": 0, "bits": 8,
    }  # fmt: skip
    quantise = {"domain": "qonnx.custom_op.general", "signed": 1, "narrow": 0,
                "rounding_mode": "ROUND"}  # fmt: skip
    nodes = [
        helper.make_node("Quant", ["x", "s", "zero", "bits"], ["h"], **quantise),
        helper.make_node("Quant", ["w", "sw", "zero", "bits"], ["v"], **quantise),
        helper.make_node("Conv", ["h", "v"], ["c"], pads=[1] * 4),
        helper.make_node("Quant", ["c", "t", "zero", "bits"], ["y"], **quantise),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 10, 10])],
        [numpy_helper.from_array(np.float32(a), n) for n, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(quantise["domain"], 1)]
    source = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), source)
    images = Preprocessing(mean=(128.0,), std=(128.0,), bgr=True)
    conversion, target = convert(source, None, images=images, border_channel=False)
    assert conversion.report["summary"]["maps"]["exact"] == 2
    assert conversion.report["summary"]["weights"] == {"kept": 1, "requantised": 0, "derived": 0}
    assert conversion.report["verification"]["outputs"]["y"]["differing"] == 0
    pixels = bytes_of(3)
    plain = source.with_name("plain.dla.onnx")
    dlaconv.convert(source, plain)
    values = ((pixels[:, ::-1].astype(np.float32) - 128) / 128).astype(np.float32)
    wanted = dlaconv.run(plain, {"x": values})["y"]
    assert np.array_equal(dlaconv.run(target, {"x": pixels})["y"], wanted)


def test_maps_that_hold_no_bytes_take_no_pixels(net, data, tmp_path):
    described = json.loads((resources.files("dlaconv.schemas") / "access-1.2.0.json").read_text())
    described["map_bits"] = 7
    (tmp_path / "target.json").write_text(json.dumps(described))
    with pytest.raises(UsageError, match="maps of ACCESS hold -64 to 63, and no bytes"):
        convert(net, data, target=tmp_path / "target.json")


def test_a_further_channel_wants_what_it_is_for(net, data):
    with pytest.raises(UsageError) as error:
        convert(net, data, fold_preprocess=False, images=Preprocessing(), border_channel=True)
    assert rules(error) == ["DLA423"]


def test_what_is_done_to_pixels_must_be_known(net, data):
    with pytest.raises(UsageError) as error:
        convert(net, data, images=Preprocessing())
    assert rules(error) == ["DLA339"]
    with pytest.raises(UsageError) as error:
        convert(net, data, images=Preprocessing(mean=(1.0, 2.0)))
    assert rules(error) == ["DLA339"]


@pytest.mark.parametrize("pads", [0, 1])
def test_parts_of_a_network_that_is_cut_take_pixels(tmp_path, data, pads):
    last = [helper.make_node("Softmax", ["y"], ["z"])]
    source = classifier(tmp_path / "net.onnx", last=last, pads=pads)
    conversion, target = convert(source, data)
    assert len(conversion.parts) == 2
    pixels = bytes_of(5, seed=7)
    got = dlaconv.run_chain(target.with_suffix(".json"), {"x": pixels})["z"]
    assert np.abs(got - source_outputs(source, prepared(pixels))).max() < 0.1
    assert conversion.report["verification"]["passed"]


def test_a_first_layer_on_the_host_takes_no_pixels_of_the_accelerator(tmp_path, data):
    source = classifier(tmp_path / "net.onnx")
    model = onnx.load(source)
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [3, 3]))
    onnx.save(model, source)
    with pytest.raises(ConversionError) as error:
        convert(source, data, partition=True, legalise="off")
    assert rules(error) == ["DLA337"]


def test_pixels_that_are_not_folded_lose_a_bit_and_the_user_hears_it(net, data, tmp_path):
    def found(**options):
        done = dlaconv.convert(net, tmp_path / "o.dla.onnx", options=Options(**options))
        return [item for item in done.diagnostics if item.rule == "DLA345"]

    [told] = found(calibrate=data)
    assert "'x' are pixels of 0..25" in told.message
    raw = Preprocessing(preset="raw")
    assert not found(calibrate=data, fold_preprocess=True, images=raw)
    assert not found(calibrate=data, unsigned_maps=True)
    for values in (bytes_of(24) / 255, bytes_of(24) // 2, bytes_of(24) - 128.0):
        np.savez(data, x=values)
        assert not found(calibrate=data)
