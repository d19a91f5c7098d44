"""Networks that onnxruntime quantised: their integers are kept, and their accuracy."""

import functools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import dlaconv
from dlaconv.options import Options
from tests.models.collection import FOLDER, ONNX, needs_models

pytestmark = needs_models

SIGNED = "cifar_resnet20_qdq_s8s8_pc"
CIFAR = [SIGNED, "cifar_resnet20_qdq_u8s8_pt", "cifar_resnet20_qop_u8u8"]
EFFICIENT = "imagenet_efficientnet_lite0_qdq_u8s8_pc"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES = 1500
POINTS = 0.3
"""What accuracy may lose, in points."""
BIAS_LIMIT = 32767


def images(name):
    """Images of CIFAR-10 as the networks want them, and their labels."""
    with np.load(FOLDER / "data" / f"cifar10_{name}.npz") as arrays:
        pixels, labels = arrays["x"], arrays["y"]
    x = (pixels.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32), labels


def reference(name):
    with np.load(ONNX / f"{name}.ref.npz") as arrays:
        return arrays["input"]


@functools.cache
def calibration(name):
    """Samples that no accuracy is measured on."""
    if name == EFFICIENT:
        return reference(name)[:1]
    return images("train_calib1000_jpeg")[0][::40]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Converts a network once; returns the report and the path of the file."""

    @functools.cache
    def convert(name):
        folder = tmp_path_factory.mktemp(name)
        np.savez(folder / "x.npz", input=calibration(name))
        target = folder / "net.dla.onnx"
        options = Options(calibrate=folder / "x.npz", partition=True, samples=4)
        found = dlaconv.convert(ONNX / f"{name}.onnx", target, frontend="onnx", options=options)
        return found.report, target

    return convert


def source_layers(name):
    """By layer: the source's integers without their zero point, and those of its bias."""
    model = onnx.load(ONNX / f"{name}.onnx")
    known = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type in {"QLinearConv", "QGemm"}:
            weights, zero, bias = (known[node.input[index]] for index in (3, 5, -1))
            if node.op_type == "QGemm":
                bias = known[node.input[6]]
        elif node.op_type in {"Conv", "Gemm"}:
            holders = [made[value] for value in node.input[1:3]]
            weights, bias = (known[holder.input[0]] for holder in holders)
            zero = known[holders[0].input[2]]
        else:
            continue
        layer = node.name.removesuffix("_quant")
        found[layer] = weights.astype(int) - zero.reshape(-1)[0].astype(int), bias.astype(int)
    return found


def written_integers(path):
    """By layer: the integers of its weights, in the shape that the file has them in."""
    model = onnx.load(path)
    known = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type not in {"Conv", "Gemm"}:
            continue
        scales = next(
            helper.get_attribute_value(item)
            for item in node.attribute
            if item.name == "weight_ch_scales"
        )
        weights = known[node.input[1]].astype(np.float64)
        steps = np.asarray(scales, np.float64).reshape(-1, *[1] * (weights.ndim - 1))
        integers = weights / steps
        assert np.abs(integers - integers.round()).max() < 1e-3
        # the layer inside a QLinear operator has a name of its own
        found[node.name.partition("_quant/")[0]] = integers.round().astype(int)
    return found


def equal_but_zeros(source, written):
    """Whether the weights of a channel are equal; windows and input channels may be padded."""
    return np.array_equal(source[source != 0], written[written != 0])


@pytest.mark.parametrize("name", [*CIFAR, EFFICIENT])
def test_every_weight_keeps_its_integer_unless_it_or_its_bias_does_not_fit(name, converted):
    _, path = converted(name)
    written, source = written_integers(path), source_layers(name)
    compared = kept = 0
    for layer, (weights, bias) in source.items():
        assert layer in written, f"{layer} is not in the file"
        rows, found = (w.reshape(len(w), -1) for w in (weights, written[layer]))
        same = np.array([equal_but_zeros(*pair) for pair in zip(rows, found, strict=False)])
        assert not found[len(rows) :].any()
        fits = (rows >= -128).all(1) & (rows <= 127).all(1) & (np.abs(bias) <= BIAS_LIMIT)
        assert same[fits].all(), f"{layer}: channels {np.flatnonzero(fits & ~same)} changed"
        compared += len(rows)
        kept += int(same.sum())
    assert compared > 600
    assert kept > 0.9 * compared


@pytest.mark.parametrize("name", [*CIFAR, EFFICIENT])
def test_no_layer_is_off_by_more_than_its_roundings(name, converted):
    report, _ = converted(name)
    assert report["verification"]["passed"]
    assert "DLA901" not in {found["rule"] for found in report["diagnostics"]}
    unmatched = report["verification"]["unmatched"]
    assert all(map_.endswith(("/concat/out", "/reshape")) for map_ in unmatched)


@pytest.mark.parametrize("name", [*CIFAR, EFFICIENT])
def test_what_is_converted_again_keeps_every_integer(name, converted, tmp_path):
    _, path = converted(name)
    again = tmp_path / "again.onnx"
    dlaconv.convert(path, again, frontend="onnx", options=Options(samples=1))
    one, other = (onnx.load(file).graph for file in (path, again))
    assert [node.attribute for node in one.node] == [node.attribute for node in other.node]
    for tensors in zip(one.initializer, other.initializer, strict=True):
        assert np.array_equal(*map(numpy_helper.to_array, tensors))


def test_signed_maps_are_within_the_prediction(converted):
    report, _ = converted(SIGNED)
    maps = report["verification"]["maps"]
    rows = [row for row in maps if row["class"] == "exact" and row["predicted_share"] is not None]
    assert len(rows) >= 25
    for row in rows:
        local = row["local"]
        # the sums of two maps have few values, so a rate is rough: many may lie beside one tie
        rough = 0.005 if "add" in row["layer"] else 0.002
        share = local["differing"] / local["count"]
        assert share <= 1.1 * row["predicted_share"] + rough, row
        assert local["largest"] <= 1, row
        assert local["clipped"] + local["beyond"] == 0, row


def classes_of_source(name, samples):
    session = ort.InferenceSession(ONNX / f"{name}.onnx", providers=["CPUExecutionProvider"])
    value = session.get_inputs()[0].name
    rows = [session.run(None, {value: sample[None]})[0].reshape(-1) for sample in samples]
    return np.stack(rows).argmax(1)


def classes_of(path, samples):
    outputs = dlaconv.run_chain(path.with_suffix(".json"), {"input": samples})
    return next(iter(outputs.values())).reshape(len(samples), -1).argmax(1)


@pytest.mark.parametrize("name", CIFAR)
def test_accuracy_is_that_of_the_source(name, converted):
    """Images that only one of the two gets right come and go: one standard error is allowed.

    Every image and its mirror image.
    """
    _, path = converted(name)
    samples, labels = (array[:IMAGES] for array in images("test_jpeg"))
    samples, labels = np.concatenate([samples, samples[..., ::-1]]), np.tile(labels, 2)
    wanted = classes_of_source(name, samples) == labels
    assert wanted.mean() > 0.75
    got = classes_of(path, samples) == labels
    lost, gained = np.sum(wanted & ~got), np.sum(got & ~wanted)
    assert lost - gained <= POINTS / 100 * len(labels) + np.sqrt(lost + gained)


def test_efficientnet_sees_what_its_source_sees(converted):
    """Nobody labelled its images, so the classes of the source count, where it is sure of them."""
    _, path = converted(EFFICIENT)
    first = reference(EFFICIENT)
    samples = np.concatenate([first, first[..., ::-1], np.roll(first, 12, 3), 0.8 * first])
    samples = np.ascontiguousarray(samples)
    wanted = classes_of_source(EFFICIENT, samples)
    assert len(set(wanted)) > 1
    assert (classes_of(path, samples) == wanted).mean() >= 7 / 8
