"""Layers that change the size of maps, against what Caffe computes, worked out with NumPy."""

import numpy as np
import pytest

from tests.frontends.caffe.files import close, computed, error, layer, load, numbers, output

X = numbers(2, 6, 5, 4)


def interpolated(x, height, width):
    """Bilinear, with corners on corners."""
    rows = np.linspace(0, x.shape[2] - 1, height) if height > 1 else np.zeros(1)
    columns = np.linspace(0, x.shape[3] - 1, width) if width > 1 else np.zeros(1)
    for axis, places in ((2, rows), (3, columns)):
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, x.shape[axis] - 1)
        share = (places - low).reshape([-1 if i == axis else 1 for i in range(4)])
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


@pytest.mark.parametrize(
    ("parameters", "size", "seen"),
    [
        ("height: 9 width: 3", (9, 3), X),
        ("zoom_factor: 2", (9, 7), X),
        ("zoom_factor: 2 height: 4 width: 4", (9, 7), X),
        ("zoom_factor: 2 shrink_factor: 2", (5, 3), X),
        ("zoom_factor: 2 shrink_factor: 2 height: 4 width: 8", (4, 8), X),
        ("shrink_factor: 2", (3, 2), X),
        ("zoom_factor: 2 pad_beg: -1 pad_end: -1", (5, 3), X[:, :, 1:-1, 1:-1]),
        ("height: 1 width: 1", (1, 1), X),
    ],
)
def test_interp_keeps_the_corners(tmp_path, parameters, size, seen):
    found = computed(tmp_path, X, "Interp", f"interp_param {{ {parameters} }}")
    close(found, interpolated(seen, *size))


def test_interp_takes_the_size_of_a_second_bottom(tmp_path):
    text = layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops=("p",))
    text = text.replace("'y'", "'p'", 1) + layer("Interp", "", ("p", "data"))
    x = numbers(1, 2, 8, 8)
    small = x.reshape(1, 2, 4, 2, 4, 2).max((3, 5))
    close(output(load(tmp_path, text, shape=x.shape), data=x), interpolated(small, 8, 8))
    wrong = text.replace("'Interp'", "'BilinearInterp'")
    assert error(load(tmp_path, wrong, shape=x.shape)).rule == "DLA135"


def test_pixel_shuffle_puts_neighbouring_channels_side_by_side(tmp_path):
    x = numbers(1, 8, 2, 3)
    found = computed(tmp_path, x, "PixelShuffle", "pixelshuffle_param { upscale_factor: 2 }")
    for c, i, j in np.ndindex(2, 2, 2):
        close(found[:, c, i::2, j::2], x[:, 4 * c + 2 * i + j])


def linear(x, axis, places):
    """Values of a map between its elements along an axis."""
    low = np.clip(np.floor(places).astype(int), 0, x.shape[axis] - 2)
    share = (places - low).reshape(-1, *(1,) * (x.ndim - axis - 1))
    return np.take(x, low, axis) * (1 - share) + np.take(x, low + 1, axis) * share


@pytest.mark.parametrize(
    ("parameters", "height", "width"),
    [
        ("dst_h: 9", np.linspace(0, 4, 9), np.arange(4)),
        ("scale_factor: 2.5", np.linspace(0, 4, 12), np.linspace(0, 3, 10)),
        (
            "dst_h: 10 dst_w: 2 align_corners: false",
            ((np.arange(10) + 0.5) / 2 - 0.5).clip(0, 4),
            (np.arange(2) + 0.5) * 2 - 0.5,
        ),
    ],
)
def test_bilinear_interpolate_has_corners_or_centres(tmp_path, parameters, height, width):
    text = f"bilinear_interpolate_param {{ {parameters} }}"
    found = computed(tmp_path, X, "BilinearInterpolate", text)
    close(found, linear(linear(X, 2, height), 3, width))


def test_max_unpool_puts_values_back_where_they_were(tmp_path):
    pool = layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops=("p", "mask"))
    text = pool.replace("'y'", "'p'", 1) + layer(
        "MaxUnPool", "max_unpool_param { dst_h: 5 dst_w: 4 }", ("p", "mask")
    )
    found = output(load(tmp_path, text, shape=X.shape), data=X)
    wanted = np.zeros_like(X)
    for n, c, i, j in np.ndindex(2, 6, 3, 2):
        window = X[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        row, column = np.unravel_index(window.argmax(), window.shape)
        wanted[n, c, 2 * i + row, 2 * j + column] = window.max()
    close(found, wanted)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_spp_pools_into_ever_more_windows(tmp_path, method):
    x = numbers(2, 3, 8, 10)
    found = computed(tmp_path, x, "SPP", f"spp_param {{ pyramid_height: 3 pool: {method} }}")
    parts = []
    for level in range(3):
        kernel = [-(-size // 2**level) for size in x.shape[2:]]
        pad = [(k * 2**level - size + 1) // 2 for k, size in zip(kernel, x.shape[2:], strict=True)]
        level_found = np.zeros((2, 3, 2**level, 2**level))
        for i, j in np.ndindex(2**level, 2**level):
            rows, columns = (
                (place * k - p, min(place * k - p + k, size + p))
                for place, k, p, size in zip((i, j), kernel, pad, x.shape[2:], strict=True)
            )
            window = x[:, :, max(rows[0], 0) : rows[1], max(columns[0], 0) : columns[1]]
            counted = (rows[1] - rows[0]) * (columns[1] - columns[0])
            level_found[:, :, i, j] = (
                window.max((2, 3)) if method == "MAX" else window.sum((2, 3)) / counted
            )
        parts.append(level_found.reshape(2, -1))
    close(found, np.concatenate(parts, 1))


def test_a_pyramid_of_one_level_is_a_pool(tmp_path):
    found = computed(tmp_path, X, "SPP", "spp_param { pyramid_height: 1 }")
    close(found, X.max((2, 3), keepdims=True))
