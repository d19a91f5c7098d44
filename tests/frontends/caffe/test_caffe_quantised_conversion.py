"""Quantised Caffe networks all the way to files of the accelerator, which is simulated."""

import json

import numpy as np
import pytest

import dlaconv
from dlaconv.options import Hardware, Options
from tests.frontends.caffe.files import INPUT, caffemodel, numbers
from tests.frontends.caffe.integer_model import IntegerModel
from tests.frontends.caffe.quantised import convolution, fixed, in_place, named, thresholds

SHAPE = (1, 8, 16, 16)
HEAD = INPUT.format("dim: 1 dim: 8 dim: 16 dim: 16")
MAX = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
AVE = "pooling_param { pool: AVE kernel_size: 2 stride: 2 }"


def weights(*shape, seed=0):
    return numbers(*shape, seed=seed) * np.float32(np.sqrt(2 / np.prod(shape[1:])))


BLOBS = {
    "a": [weights(16, 8, 3, 3), numbers(16)],
    "b": [weights(16, 16, 3, 3, seed=1), numbers(16, seed=2)],
    "c": [weights(16, 16, 3, 3, seed=3), numbers(16, seed=4)],
    "d": [weights(32, 32, 1, 1, seed=5), numbers(32, seed=6)],
}


def network(formats, bits):
    """Every kind of layer that has formats, with one requantisation."""
    image, first, weight, other, last = formats
    say = [
        fixed(image, first, weight, bits=bits),
        fixed(first, last, weight, bits=bits),
        fixed(other, last, weight, bits=bits),
        fixed(last, last, bits=bits),
        fixed(last, last, weight, bits=bits),
    ]
    return (
        HEAD
        + convolution("a", "data", 16, say[0])
        + in_place("r", "ReLU", "a")
        + named("p", "Pooling", MAX, ["a"])
        + convolution("b", "p", 16, say[1])
        + convolution("c", "p", 16, say[2])
        + named("e", "Eltwise", say[3], ["b", "c"])
        + named("m", "Pooling", AVE + say[3], ["e"])
        + named("n", "Pooling", MAX, ["b"])
        + named("j", "Concat", "", ["m", "n"])
        + convolution("d", "j", 32, say[4], "kernel_size: 1")
    )


def image(seed=9, most=6.0, count=1):
    shape = (count, *SHAPE[1:])
    return np.random.default_rng(seed).uniform(-most, most, shape).astype(np.float32)


def converted(folder, text, blobs=BLOBS, **options):
    """The file that a network becomes, and its report."""
    (folder / "net.prototxt").write_text(text, "utf-8")
    (folder / "net.caffemodel").write_bytes(caffemodel(blobs))
    if options.get("calibrate") == "images":
        np.savez(folder / "x.npz", data=image(3, count=8))
        options["calibrate"] = folder / "x.npz"
    files, output = [folder / "net.prototxt", folder / "net.caffemodel"], folder / "net.dla.onnx"
    dlaconv.convert(files, output, frontend="caffe", options=Options(**options))
    assert not dlaconv.check(output).diagnostics.errors
    return output, json.loads((folder / "net.dla.json").read_text("utf-8"))


def simulated(output, model, x, rounding):
    """What the accelerator stores of an image, with what the model has, by name of the map."""
    q = model.read(model.layers[1], model.maps["data"])
    found = dlaconv.run(output, {"data": q}, fetch_all=True, hardware=Hardware(rounding=rounding))
    stored = {name: m.q for name, m in model.maps.items() if m.step is not None}
    return {name: (found[name], stored[name]) for name in found if name in stored}


def maps_of(report):
    return {row["name"]: row for row in report["tensors"] if row["kind"] == "map"}


@pytest.mark.parametrize("calibrate", [None, "images"])
@pytest.mark.parametrize("rounding", ["half-away", "half-even"])
def test_dynamic_fixed_of_8_bits_is_kept_to_the_last_integer(tmp_path, rounding, calibrate):
    text = network((4, 5, 7, 3, 4), 8)
    output, report = converted(tmp_path, text, calibrate=calibrate, rounding=rounding)
    assert {row["class"] for row in report["tensors"]} == {"exact"}
    rows = maps_of(report)
    for row in rows.values():
        assert row["target"]["step"] == row["source"]["step"] == 2.0 ** row["target"]["exponent"]
    assert rows["c/quantise/out"]["target"]["step"] == 1 / 8  # the requantisation
    model = IntegerModel(tmp_path / "net.prototxt", BLOBS, even=rounding == "half-even")
    x = image()
    model.run(x)
    pairs = simulated(output, model, x, rounding)
    assert {"a", "b", "c", "e", "m", "d"} <= pairs.keys()
    for name, (found, wanted) in pairs.items():
        np.testing.assert_array_equal(found, wanted, err_msg=name)
        assert np.unique(wanted).size > 50
    assert report["verification"]["passed"]


@pytest.mark.parametrize("calibrate", [None, "images"])
def test_dynamic_fixed_of_6_bits_keeps_steps_and_counts_what_saturates_later(tmp_path, calibrate):
    text = network((2, 3, 5, 1, 2), 6)
    output, report = converted(tmp_path, text, calibrate=calibrate)
    rows = maps_of(report)
    assert {row["class"] for row in report["tensors"]} == {"exact"}
    assert [rows[name]["target"]["step"] for name in ("a", "b", "e", "c/quantise/out")] == [
        1 / 8, 1 / 4, 1 / 4, 1 / 2
    ]  # fmt: skip
    warned = [item for item in report["diagnostics"] if item["rule"] == "DLA904"]
    assert warned
    x = image()
    model = IntegerModel(tmp_path / "net.prototxt", BLOBS, least=8)  # of the accelerator
    model.run(x)
    for name, (found, wanted) in simulated(output, model, x, "half-away").items():
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    source = IntegerModel(tmp_path / "net.prototxt", BLOBS)
    source.run(x)
    found, wanted = simulated(output, source, x, "half-away")["a"]
    np.testing.assert_array_equal(np.clip(found, -32, 31), wanted)
    assert (found > 31).any()


def test_values_beyond_6_bits_are_counted_behind_a_pool_too(tmp_path):
    text = HEAD + convolution("a", "data", 16, fixed(2, 3, 5, bits=6))
    text += named("p", "Pooling", MAX, ["a"]) + in_place("r", "ReLU", "p")
    text += convolution("b", "p", 16, fixed(3, 2, 5, bits=6))
    _, report = converted(tmp_path, text)
    assert "DLA904" in {item["rule"] for item in report["diagnostics"]}
    assert report["verification"]["passed"]


def test_dynamic_fixed_of_6_bits_is_exact_where_nothing_saturates(tmp_path):
    blobs = {name: [w / 4, b / 4] for name, (w, b) in BLOBS.items()}
    output, _ = converted(tmp_path, network((2, 3, 6, 1, 3), 6), blobs)
    model = IntegerModel(tmp_path / "net.prototxt", blobs)
    x = image(most=4)
    maps = model.run(x)
    assert max(np.abs(m.q).max() for name, m in maps.items() if name != "data") < 31
    for name, (found, wanted) in simulated(output, model, x, "half-away").items():
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_xilinx_mode_stays_within_what_scales_explain(tmp_path):
    th = {name: np.abs(w).reshape(len(w), -1).max(1) for name, (w, _) in BLOBS.items()}
    text = (
        HEAD
        + convolution("a", "data", 16, thresholds(6.3, 11.7, th["a"]))
        + in_place("r", "ReLU", "a")
        + named("p", "Pooling", MAX, ["a"])
        + convolution("b", "p", 16, thresholds(11.7, 9.1, th["b"]))
        + convolution("c", "p", 16, thresholds(11.7, 9.1, th["c"]))
        + named("j", "Concat", "", ["b", "c"])
        + convolution("d", "j", 32, thresholds(9.1, 13.9, th["d"]), "kernel_size: 1")
    )
    output, report = converted(tmp_path, text, io="absorb")
    assert {row["class"] for row in maps_of(report).values()} == {"exact"}
    model = IntegerModel(tmp_path / "net.prototxt", BLOBS)
    x = image()
    maps = model.run(x)
    found = simulated(output, model, x, "half-away")
    # each layer by itself, fed with what the accelerator has stored
    model.run(x, {name: q * float(maps[name].step) for name, (q, _) in found.items()})
    assert model.differing.keys() >= {"a", "b", "c", "d"}
    for name, (count, most) in model.differing.items():
        assert most <= 1, name
        assert count < 0.15 * found[name][0].size, name  # 2^n/a is up to 0.4 % off


@pytest.mark.parametrize("say", [fixed(4, 3, 7), thresholds(8, 16)])
def test_a_fused_batch_norm_is_converted(tmp_path, say):
    text = (
        HEAD
        + convolution("a", "data", 16, say)
        + in_place("n", "BatchNorm", "a")
        + in_place("s", "Scale", "a", "scale_param { bias_term: true }")
        + in_place("r", "ReLU", "a")
    )
    w = np.clip(BLOBS["a"][0], -1, 1)
    w[:4, 0, 0, 0] = -1  # -128 in both signs of the factor
    gamma = np.where(np.arange(16) % 3 == 0, -1, 1) * np.linspace(0.5, 1.5, 16)
    blobs = {
        "a": [w, numbers(16)],
        "n": [numbers(16), np.linspace(0.5, 2, 16), np.ones(1)],
        "s": [gamma, numbers(16, seed=3)],
    }
    _, report = converted(tmp_path, text, blobs)
    assert report["verification"]["passed"]
    rows = {row["name"]: row for row in report["tensors"]}
    assert len(maps_of(report)) == 2
    assert any("negative factor change sign" in item["detail"] for item in report["rewrites"])
    assert rows["a/conv/weights"]["class"] in {"rescaled", "requantised"}


@pytest.mark.parametrize("activation", ["leaky", "prelu"])
def test_an_activation_that_chaidnn_has_not_is_converted(tmp_path, activation):
    layer = {
        "leaky": in_place("r", "ReLU", "a", "relu_param { negative_slope: 0.25 }"),
        "prelu": in_place("r", "PReLU", "a"),
    }[activation]
    text = HEAD + convolution("a", "data", 16, fixed(4, 4, 7)) + layer
    text += convolution("b", "a", 16, fixed(4, 4, 7))
    blobs = BLOBS | {"r": [np.linspace(0.1, 0.4, 16)]}
    _, report = converted(tmp_path, text, blobs)
    assert report["verification"]["passed"]
    assert [row["target"]["step"] for row in maps_of(report).values()] == [1 / 16] * 3


def test_a_network_that_ends_in_floating_point_is_converted(tmp_path):
    text = (
        HEAD
        + convolution("a", "data", 16, fixed(4, 4, 7))
        + named("f", "InnerProduct", "inner_product_param { num_output: 16 }", ["a"])
        + named("prob", "Softmax", "", ["f"])
    )
    blobs = BLOBS | {"f": [numbers(16, 16 * 256) / 64, numbers(16)]}
    _, report = converted(tmp_path, text, blobs, calibrate="images")
    assert report["verification"]["passed"]
    assert [row["class"] for row in maps_of(report).values()] == ["exact", "exact", "derived"]


def test_sixteen_bits_become_eight(tmp_path):
    text = HEAD + convolution("a", "data", 16, fixed(10, 9, 12, bits=16))
    text += convolution("b", "a", 16, fixed(9, 4, 7, bw_layer_out=8, bits=16))
    _, report = converted(tmp_path, text, calibrate="images")
    rows = maps_of(report)
    assert all(
        np.log2(row["target"]["real_step"]) == row["target"]["exponent"] for row in rows.values()
    )
