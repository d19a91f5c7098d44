"""Quantised Caffe networks of the collection, with weights made here: the files have none."""

import json
import re

import numpy as np
import pytest

import dlaconv
from dlaconv.ir.execution import Executor
from dlaconv.options import Hardware, Options
from tests.frontends.caffe.files import caffemodel, load, run
from tests.frontends.caffe.integer_model import Formats, IntegerModel, layers_in
from tests.frontends.caffe.quantised import convolution, in_place, thresholds
from tests.models.collection import FOLDER, needs_models

pytestmark = needs_models

CHAI = FOLDER / "caffe" / "chai"
SHAPE = (1, 3, 224, 224)


def prototxt(mode):
    [found] = CHAI.glob(f"RECON_googlenet*{mode}8*.prototxt")
    return found


def arrays(path, seed=0):
    """Weights and biases with which maps fill their range, by layer."""
    random, found, channels = np.random.default_rng(seed), {}, {}
    for layer in layers_in(path):
        read = [channels[name] for name in layer.bottoms]
        made = sum(read) if layer.type == "Concat" else (read or [3])[0]
        if layer.type in {"Convolution", "InnerProduct"}:
            kind = "convolution" if layer.type == "Convolution" else "inner_product"
            param, formats = layer.param(f"{kind}_param"), Formats(layer)
            inner, made = read[0], param.integer("num_output")
            kernel = param.integers("kernel_size") * 2 if kind == "convolution" else []
            w = random.standard_normal((made, inner, *kernel))
            w *= np.sqrt(2 / w[0].size)
            bias = random.standard_normal(made) * float(formats.step("out")) * 127 / 16
            if formats.th_params.size:
                th = formats.th_params / np.abs(w).reshape(made, -1).max(1)
                w *= th.reshape(-1, *(1,) * (w.ndim - 1))
            found[layer.name] = [w.astype(np.float32), bias.astype(np.float32)]
        channels.update(dict.fromkeys(layer.tops, made))
    return found


def image(mode):
    random = np.random.default_rng(5)
    if mode == "DynamicFixed":
        return random.uniform(-8, 8, SHAPE).astype(np.float32)
    return (random.uniform(0, 255, SHAPE) - 120).astype(np.float32)


@pytest.fixture(scope="module", params=["DynamicFixed", "Xilinx"])
def network(request, tmp_path_factory):
    """Mode, files and arrays of a GoogLeNet."""
    folder, path = tmp_path_factory.mktemp(request.param), prototxt(request.param)
    blobs = arrays(path)
    (folder / "net.caffemodel").write_bytes(caffemodel(blobs))
    return request.param, [path, folder / "net.caffemodel"], blobs


def imported_maps(files, names, x):
    imported = dlaconv.load(files, "caffe")
    assert not imported.diagnostics.errors, imported.diagnostics
    made = {value.name for node in imported.model.graph for value in node.outputs}
    fetched = [name for name in names if name in made]
    return Executor(imported.model, fetched).run({"data": x})


def test_the_imported_network_equals_the_integer_model(network):
    mode, files, blobs = network
    x = image(mode)
    model = IntegerModel(files[0], blobs, exact=True)
    maps = model.run(x)
    stored = {name for name, found in maps.items() if found.step is not None}
    filled = [np.abs(maps[name].q).max() for name in stored]
    assert np.mean(np.array(filled) >= 100) > 0.9
    found = imported_maps(files, stored, x)
    assert len(found) == len(stored) >= 80
    if mode == "DynamicFixed":
        for name, values in found.items():
            q = np.rint(values / float(maps[name].step)).astype(np.int64)
            np.testing.assert_array_equal(q, maps[name].q, err_msg=name)
        return
    model.run(x, found)  # layer by layer: float32 cannot tell all neighbours of a tie
    counts, most = np.array(list(model.differing.values())).T
    assert most.max() <= 1
    assert counts.sum() < 1e-5 * sum(values.size for values in found.values())


def test_22_bits_of_a_multiplier_explain_what_chaidnn_itself_has(network):
    mode, files, blobs = network
    if mode == "DynamicFixed":
        pytest.skip("shifts are exact")
    x = image(mode)
    model = IntegerModel(files[0], blobs)
    maps = model.run(x)
    found = imported_maps(files, {name for name in maps if maps[name].step is not None}, x)
    model.run(x, found)
    counts, most = np.array(list(model.differing.values())).T
    assert most.max() <= 1
    assert counts.sum() < 1e-3 * sum(values.size for values in found.values())


@pytest.mark.parametrize("rounding", ["half-away", "half-even"])
def test_the_network_is_converted_and_simulated(network, rounding, tmp_path):
    mode, files, blobs = network
    output = tmp_path / "net.dla.onnx"
    options = Options(
        rounding=rounding, samples=1, io="pin" if mode == "DynamicFixed" else "absorb"
    )
    dlaconv.convert(files, output, frontend="caffe", options=options)
    assert not dlaconv.check(output).diagnostics.errors
    report = json.loads((tmp_path / "net.dla.json").read_text("utf-8"))
    assert report["verification"]["passed"]
    rows = [row for row in report["tensors"] if row["kind"] == "map"]
    model = IntegerModel(files[0], blobs, exact=True, even=rounding == "half-even")
    x = image(mode)
    maps = model.run(x)
    q = model.read(model.layers[1], maps["data"])
    found = dlaconv.run(output, {"data": q}, fetch_all=True, hardware=Hardware(rounding=rounding))
    stored = {}
    for name in maps.keys() & found.keys() - {"data"}:
        shape = maps[name].q.shape  # the accelerator's channels are padded at the end
        stored[name] = found[name].reshape(len(found[name]), -1, *shape[2:])[:, : shape[1]]
    assert len(stored) >= 79
    if mode == "DynamicFixed":
        assert {row["class"] for row in report["tensors"]} == {"exact"}
        assert all(row["target"]["step"] == row["source"]["step"] for row in rows)
        for name, values in stored.items():
            np.testing.assert_array_equal(values, maps[name].q, err_msg=name)
        return
    model.run(x, {name: values * float(maps[name].step) for name, values in stored.items()})
    counts, most = np.array(list(model.differing.values())).T
    # 2^n/a is up to 0.4 % off, and some weights are rounded anew to make room for their bias
    assert most.max() <= 2
    assert counts.sum() < 0.05 * sum(values.size for values in stored.values())


@pytest.mark.parametrize("calibrate", [None, "random"])
def test_six_bits_keep_their_steps(tmp_path, calibrate):
    text = prototxt("DynamicFixed").read_text("utf-8")
    for old, new in ((r"(bw_\w+): 8", r"\1: 6"), (r"(fl_layer_\w+): 4", r"\1: 2"),
                     ("fl_params: 7", "fl_params: 5")):  # fmt: skip
        text = re.sub(old, new, text)
    files = [tmp_path / "net.prototxt", tmp_path / "net.caffemodel"]
    files[0].write_text(text, "utf-8")
    blobs = arrays(files[0])
    files[1].write_bytes(caffemodel(blobs))
    output = tmp_path / "net.dla.onnx"
    options = Options(samples=1, calibrate=calibrate, optimise=0)
    dlaconv.convert(files, output, frontend="caffe", options=options)
    assert not dlaconv.check(output).diagnostics.errors
    report = json.loads((tmp_path / "net.dla.json").read_text("utf-8"))
    steps = {row["target"]["step"] for row in report["tensors"] if row["kind"] == "map"}
    assert steps == {0.25}
    assert {row["class"] for row in report["tensors"]} == {"exact"}
    model = IntegerModel(files[0], blobs, least=8)
    x = image("DynamicFixed")
    maps = model.run(x)
    q = model.read(model.layers[1], maps["data"])
    simulated = dlaconv.run(output, {"data": q}, hardware=Hardware(rounding="half-away"))
    [found] = simulated.values()
    np.testing.assert_array_equal(found, maps["loss3/classifier"].q)


def test_the_golden_convolution_but_for_what_22_bits_explain(tmp_path):
    golden = np.load(CHAI / "golden_conv_xilinx8.npz")
    said = thresholds(float(golden["th_in"]), float(golden["th_out"]), golden["th_w"])
    window = "kernel_size: 7 pad: 3 stride: 2"
    text = convolution("y", "data", 4, said, window) + convolution("z", "data", 4, said, window)
    text += in_place("r", "ReLU", "z")
    blobs = {key: [golden["w"], golden["b"]] for key in "yz"}
    imported = load(tmp_path, text, blobs, shape=golden["x"].shape)
    found = run(imported, data=golden["x"])
    step = float(golden["th_out"]) / 127
    for name, key in (("y", "y"), ("z", "y_relu")):
        off = np.abs(np.rint(found[name] / step) - golden[key])
        # the multipliers are rounded to 22 bits there: by so many units of the largest sums
        exact = golden["acc"] * (golden["th_w"].astype(np.float64) / 127).reshape(1, -1, 1, 1)
        exact *= float(golden["th_in"]) / 127 / step
        held = golden["acc"] * golden["M22"].reshape(1, -1, 1, 1) / 2**22
        near = np.abs(np.abs(exact % 1) - 0.5) <= np.abs(exact - held) + 1e-4
        assert not (off > near).any()
        assert off.sum() <= 1


def test_fragments_of_the_guide_are_read(tmp_path):
    for path in sorted((CHAI / "seed_fragments").glob("0[0-3]*.prototxt")):
        text = path.read_text("utf-8")
        bottoms = set(re.findall(r'bottom: "([^"]+)"', text))
        [kind] = re.findall(r'\btype: "([^"]+)"', text)
        channels = 3 if kind == "Convolution" else 16
        head = "".join(
            f"layer {{ name: '{name}' type: 'Input' top: '{name}' input_param {{ shape {{ dim: 1 "
            f"dim: {channels} dim: 16 dim: 16 }} }} }}\n"
            for name in sorted(bottoms)
        )
        blobs = {"conv1/7x7_s2": [np.ones((4, 3, 7, 7)), np.ones(4)]}
        imported = load(tmp_path, head + text, blobs)
        assert not imported.diagnostics.errors, path
        found = run(imported, **{name: np.ones((1, channels, 16, 16)) for name in bottoms})
        assert all(np.isfinite(values).all() for values in found.values())
