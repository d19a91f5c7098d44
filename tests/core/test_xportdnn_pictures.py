"""Pictures as XportDNN feeds them, by caffe.io.Transformer, and the options for that here."""

import numpy as np
import pytest
from PIL import Image

from dlaconv.commands.calibration import picture_options
from dlaconv.diagnostics import Diagnostics
from dlaconv.driver.samples import open_samples

RNG = np.random.default_rng(3)


def transformer(pixels, transpose, channel_swap, raw_scale, mean_value, input_scale):
    """What caffe.io.load_image and Transformer.preprocess make of a picture [H, W, 3] of 0..255.

    Their order: pixels of 0..1, transpose, swap, raw scale, mean, input scale; all in float32.
    """
    fed = (pixels / np.float32(255)).astype(np.float32)
    fed = fed.transpose(transpose)
    fed = fed[list(channel_swap), :, :]
    fed = fed * np.float32(raw_scale)
    fed = fed - np.asarray(mean_value, np.float32)[:, None, None]
    return fed * np.float32(input_scale)


@pytest.mark.parametrize(
    ("channel_swap", "raw_scale", "mean_value", "input_scale", "options"),
    [
        ((2, 1, 0), 255.0, (104, 117, 123), 1.0, {"bgr": True, "mean": "104,117,123"}),
        (
            (2, 1, 0),
            255.0,
            (103.94, 116.78, 123.68),
            0.017,
            {"bgr": True, "mean": "103.94,116.78,123.68", "std": "1/0.017"},
        ),
        ((0, 1, 2), 1.0, (0.5, 0.2, 0), 2.0, {"scale": "1/255", "mean": "0.5,0.2,0", "std": "1/2"}),
        ((0, 1, 2), 128.0, (1, 2, 3), 0.5, {"scale": "128/255", "mean": "1,2,3", "std": "1/0.5"}),
        ((2, 1, 0), 255.0, (0, 0, 0), 1.0, {"bgr": True, "scale": "1"}),
    ],
)  # fmt: skip
def test_a_picture_is_fed_as_the_transformer_feeds_it(
    tmp_path, channel_swap, raw_scale, mean_value, input_scale, options
):
    pixels = RNG.integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    problems = Diagnostics()
    images = picture_options(problems, **options)
    assert not list(problems)
    [sample] = open_samples(tmp_path, {"data": (1, 3, 9, 7)}, images).data
    wanted = transformer(pixels, (2, 0, 1), channel_swap, raw_scale, mean_value, input_scale)
    np.testing.assert_allclose(sample["data"][0], wanted, rtol=1e-5, atol=2e-5 * raw_scale)


def test_resizing_to_both_sizes_leaves_nothing_to_crop(tmp_path):
    half = np.zeros((40, 20, 3), np.uint8)
    half[:20] = 200
    Image.fromarray(half).save(tmp_path / "a.png")
    images = picture_options(Diagnostics(), resize="10x10", bgr=True, mean="0")
    [sample] = open_samples(tmp_path, {"data": (1, 3, 10, 10)}, images).data
    rows = sample["data"][0, 0, :, 5]
    assert rows[:4].min() > 190  # all of the picture is there: white above, black below
    assert rows[6:].max() < 10
