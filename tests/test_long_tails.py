"""Long tails of activations, on which nothing depends: careless calibration breaks the network."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import dlaconv

DATA = Path(__file__).parent / "data" / "calibration"
NETWORK = DATA / "long_tailed.onnx"
POINTS = 1.5
"""What the default calibration may lose."""


@pytest.fixture(scope="module")
def data():
    """Calibration images, test images and labels."""
    with np.load(DATA / "long_tailed.npz") as arrays:
        images = (arrays[name].astype(np.float32) / 16 for name in ("calibration", "image"))
        return *images, arrays["label"]


def run(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    found = zip(*(session.run(names, {"image": x[None]}) for x in images), strict=True)
    return {name: np.concatenate(rows) for name, rows in zip(names, found, strict=True)}


def accuracy(logits, labels):
    return np.mean(logits.reshape(len(labels), -1).argmax(1) == labels)


def activations(images):
    """Every map behind a ReLU on some images, by name."""
    model = onnx.load(NETWORK)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    found = run(model, images)
    return {name: found[name] for name in names}


def with_steps(steps):
    """The float network with some maps stored as int8, by onnxruntime's own operators."""
    model = onnx.load(NETWORK)
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for name in set(node.output) & set(steps):
            node.output[0] = f"{name}/float"
            constants = [np.float32(steps[name]), np.int8(0)]
            names = [f"{name}/step", f"{name}/zero"]
            model.graph.initializer.extend(map(numpy_helper.from_array, constants, names))
            nodes += [
                helper.make_node("QuantizeLinear", [f"{name}/float", *names], [f"{name}/q"]),
                helper.make_node("DequantizeLinear", [f"{name}/q", *names], [name]),
            ]
    rewritten = helper.make_graph(
        nodes,
        "stored",
        model.graph.input,
        model.graph.output,
        model.graph.initializer,
    )
    return helper.make_model(
        rewritten, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def rounded_up(reach):
    return 2.0 ** np.ceil(np.log2(reach / 127))


def test_its_activations_have_long_tails(data):
    for name, values in activations(data[0]).items():
        assert values.max() > 50 * values[values > 0].mean(), name


def test_calibration_images_are_no_test_images(data):
    seen = {image.tobytes() for image in data[0]}
    assert not seen & {image.tobytes() for image in data[1]}


def test_ranges_that_cover_everything_lose_ten_points_and_others_need_not(data):
    calibration, images, labels = data
    floats = accuracy(run(onnx.load(NETWORK), images)["logits"], labels)
    assert floats > 0.96
    maps = activations(calibration)
    covering = {name: rounded_up(values.max()) for name, values in maps.items()}
    clipping = {name: rounded_up(np.percentile(values, 99.5)) for name, values in maps.items()}
    assert accuracy(run(with_steps(covering), images)["logits"], labels) < floats - 0.1
    assert accuracy(run(with_steps(clipping), images)["logits"], labels) > floats - POINTS / 100


def test_the_default_calibration_stays_near_the_floats(data, tmp_path):
    calibration, images, labels = data
    floats = accuracy(run(onnx.load(NETWORK), images)["logits"], labels)
    np.savez(tmp_path / "x.npz", image=calibration)
    target = tmp_path / "net.dla.onnx"
    options = dlaconv.Options(calibrate=tmp_path / "x.npz", verify=False)
    dlaconv.convert(NETWORK, target, frontend="onnx", options=options)
    (logits,) = dlaconv.run(target, {"image": images}, as_float=True).values()
    assert accuracy(logits, labels) >= floats - POINTS / 100
