"""Networks that take pixels: conversion, and every command that feeds them."""

import json
from importlib import resources

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import dlaconv
from dlaconv.cli import run
from dlaconv.driver.pixels import pixels_in
from dlaconv.driver.reading import load_target, read_network
from dlaconv.errors import ConversionError, UsageError
from dlaconv.ir.pixels import Pixels
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing
from tests.core.test_schemas import validate

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TORCHVISION = Preprocessing(preset="torchvision", bgr=True)


def classifier(path, *, pads=0, head=(), last=(), shape=(1, 3, 10, 10)):
    """A small float network of 3 x 10 x 10, with further nodes before and behind."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(16, 3, 3, 3)) / 5,
        "b": rng.normal(size=16),
        "v": rng.normal(size=(32, 16, 3, 3)) / 12,
        "f": rng.normal(size=(32, 10)),
    }
    nodes = [
        *head,
        helper.make_node("Conv", ["h" if head else "x", "w", "b"], ["c"], pads=[pads] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["d"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["g"]),
        helper.make_node("Flatten", ["g"], ["k"]),
        helper.make_node("MatMul", ["k", "f"], ["y"]),
        *last,
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("z" if last else "y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a.astype("f"), n) for n, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def bytes_of(count, seed=0):
    """Smooth pictures, so that maps have something to show."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 3, 4, 4), np.uint8)
    found = [[np.asarray(Image.fromarray(c).resize((10, 10))) for c in image] for image in small]
    return np.array(found, np.uint8)


def prepared(pixels, *, bgr=True):
    """Torchvision's values, computed apart from ours."""
    given = pixels[:, ::-1] if bgr else pixels
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    return ((given / 255 - mean) / std).astype(np.float32)


def source_outputs(path, values):
    session = onnxruntime.InferenceSession(str(path))
    return np.concatenate([session.run(None, {"x": v[None]})[0] for v in values])


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pixels.npz"
    np.savez(path, x=bytes_of(24))
    return path


@pytest.fixture
def net(tmp_path):
    return classifier(tmp_path / "net.onnx")


@pytest.fixture(params=[False, True], ids=["plain", "padded"])
def either(tmp_path, request):
    """A network without padding in the first layer, and one with, which takes a further channel."""
    return classifier(tmp_path / "net.onnx", pads=int(request.param))


def is_padded(source):
    first = next(item for item in onnx.load(source).graph.node if item.op_type == "Conv")
    return any(list(item.ints) == [1] * 4 for item in first.attribute)


def convert(source, data, name="net.dla.onnx", **options):
    target = source.with_name(name)
    options = {"images": TORCHVISION, "fold_preprocess": True, "calibrate": data} | options
    if options["fold_preprocess"]:
        options = {"border_channel": is_padded(source)} | options
    return dlaconv.convert(source, target, options=Options(**options)), target


def rules(error):
    return [item.rule for item in error.value.diagnostics if item.severity == "error"]


def decibels(wanted, got):
    return 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum())


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


def test_pixels_of_any_type_are_the_same_and_int8_is_what_the_host_feeds(either, data):
    _, target = convert(either, data)
    pixels = bytes_of(3, seed=2)
    wanted = dlaconv.run(target, {"x": pixels})["y"]
    fed = (pixels ^ 0x80).view(np.int8)
    for given in (pixels.astype("f"), pixels.astype(np.int64), pixels.astype(np.uint16), fed):
        assert np.array_equal(dlaconv.run(target, {"x": given})["y"], wanted)


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
