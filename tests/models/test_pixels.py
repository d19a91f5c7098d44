"""Real classifiers that take pixels, beside their sources."""

import numpy as np
import onnxruntime
import pytest

import dlaconv
from dlaconv.errors import ConversionError
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing
from tests.models.collection import FOLDER, ONNX, needs_models

pytestmark = needs_models

IMAGES = 300
IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1 / 255)


def pictures(name):
    """Bytes with channels first, and their labels."""
    with np.load(FOLDER / "data" / f"{name}.npz") as arrays:
        pixels, labels = arrays["x"], arrays["y"]
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), labels


def prepared(pixels, how):
    how = how.with_preset()
    mean, std = (np.array(v or (d,)).reshape(1, -1, 1, 1) for v, d in ((how.mean, 0), (how.std, 1)))
    return ((pixels * (how.scale or 1) - mean) / std).astype(np.float32)


CASES = [
    ("cifar_resnet20_ts13", "cifar10_train_calib1000_jpeg", "cifar10_test_jpeg", IMAGENET),
    ("mnist12_zoo", "mnist_first100_raw", "mnist_t10k", Preprocessing(preset="raw")),
    (
        "mnist_digit_recognizer_pt",
        "mnist_first100_raw",
        "mnist_t10k",
        Preprocessing(scale=1 / 255, mean=(0.1307,), std=(0.3081,)),
    ),
]


@pytest.mark.parametrize(("name", "known", "unknown", "how"), CASES, ids=[c[0] for c in CASES])
def test_a_classifier_that_takes_pixels_is_as_good_as_its_source(
    name, known, unknown, how, tmp_path
):
    calibration, (pixels, labels) = pictures(known)[0][:64], pictures(unknown)
    pixels, labels = pixels[-IMAGES:], labels[-IMAGES:]
    source = ONNX / f"{name}.onnx"
    session = onnxruntime.InferenceSession(str(source))
    feed = session.get_inputs()[0].name
    values = prepared(pixels, how)
    real = np.concatenate([session.run(None, {feed: v[None]})[0] for v in values])
    float_right = int((real.reshape(IMAGES, -1).argmax(1) == labels).sum())
    target = tmp_path / "net.dla.onnx"
    options = Options(
        calibrate=list(calibration), images=how, fold_preprocess=True, border_channel=True
    )
    conversion = dlaconv.convert(source, target, options=options)
    assert conversion.report["verification"]["passed"]
    outputs = dlaconv.run(target, {feed: pixels}, as_float=True)
    got = next(iter(outputs.values())).reshape(IMAGES, -1)[:, : real.shape[-1]]
    assert int((got.argmax(1) == labels).sum()) >= float_right - 3


def test_resnet_is_refused_without_the_further_channel(tmp_path):
    calibration = pictures("cifar10_train_calib1000_jpeg")[0][:8]
    options = Options(images=IMAGENET, fold_preprocess=True, calibrate=list(calibration))
    target = tmp_path / "net.dla.onnx"
    for name in ("cifar_resnet20_ts13", "cifar_resnet20_qdq_s8s8_pc"):
        with pytest.raises(ConversionError) as error:
            dlaconv.convert(ONNX / f"{name}.onnx", target, options=options)
        assert {item.rule for item in error.value.diagnostics if item.severity == "error"} == {
            "DLA337"
        }
        assert not target.exists()
