"""Pooling against Caffe's definition, worked out window by window."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.frontends.caffe.files import error, load, numbers, output, run

LAYER = "layer {{ name: 'p' type: 'Pooling' bottom: 'data' top: 'p' pooling_param {{ {} }} }}"


def windows(size, kernel, stride, pad, *, up, padded):
    """Begins of the windows of one axis in the map's own coordinates; None if Caffe has none."""
    room = size + 2 * pad - kernel
    count = (math.ceil(room / stride) if up else room // stride) + 1
    if padded and (count - 1) * stride >= size + pad:
        count -= 1
    begins = [index * stride - pad for index in range(count)]
    return None if begins[-1] >= size else begins


def pooled(x, method, kernel, stride, pad, *, up=True):
    """What Caffe computes, or None where the definition gives a window without elements."""
    axes = [
        windows(x.shape[i + 2], kernel[i], stride[i], pad[i], up=up, padded=any(pad))
        for i in (0, 1)
    ]
    if None in axes:
        return None
    found = np.empty((*x.shape[:2], len(axes[0]), len(axes[1])), np.float32)
    for i, top in enumerate(axes[0]):
        for j, left in enumerate(axes[1]):
            bottom = min(top + kernel[0], x.shape[2] + pad[0])
            right = min(left + kernel[1], x.shape[3] + pad[1])
            seen = x[:, :, max(top, 0) : bottom, max(left, 0) : right]
            if method == "MAX":
                found[:, :, i, j] = seen.max((2, 3))
            else:
                found[:, :, i, j] = seen.sum((2, 3)) / ((bottom - top) * (right - left))
    return found


def written(method, kernel, stride, pad, more=""):
    return (
        f"pool: {method} kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} "
        f"stride_w: {stride[1]} pad_h: {pad[0]} pad_w: {pad[1]} {more}"
    )


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_window_is_that_of_caffe(tmp_path, data):
    kernel = [data.draw(st.integers(1, 5)) for _ in "hw"]
    stride = [data.draw(st.integers(1, 4)) for _ in "hw"]
    pad = [data.draw(st.integers(0, k - 1)) for k in kernel]
    method, up = data.draw(st.sampled_from(["MAX", "AVE"])), data.draw(st.booleans())
    size = []
    for k, s, p in zip(kernel, stride, pad, strict=True):
        least = k - 2 * p - (s - 1 if up else 0)  # one window may be larger than the map
        size.append(data.draw(st.integers(max(least, 1), 12)))
    x = numbers(2, 3, *size) - 3  # padding with zeros would be seen
    wanted = pooled(x, method, kernel, stride, pad, up=up)
    more = "" if up else data.draw(st.sampled_from(["round_mode: FLOOR", "ceil_mode: false"]))
    text = LAYER.format(written(method, kernel, stride, pad, more))
    imported = load(tmp_path, text, shape=x.shape)
    if wanted is None:
        assert error(imported).rule == "DLA135"
    else:
        np.testing.assert_allclose(output(imported, data=x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_nothing_depends_on_how_a_runtime_reads_ceil_mode(tmp_path, method):
    text = LAYER.format(f"pool: {method} kernel_size: 3 stride: 2 pad: 1")
    imported = load(tmp_path, text, shape=(1, 2, 8, 8))
    for node in imported.model.graph:
        assert node.attributes.get_int("ceil_mode", 0) == 0


def test_an_average_without_overhang_is_one_node(tmp_path):
    text = LAYER.format("pool: AVE kernel_size: 3 stride: 2 pad: 1")
    imported = load(tmp_path, text, shape=(1, 2, 9, 9))
    assert [node.op_type for node in imported.model.graph] == ["AveragePool"]


@pytest.mark.parametrize(("pad", "ops"), [(0, ["AveragePool"]), (1, ["Pad", "AveragePool"])])
def test_what_hangs_over_is_padding_that_an_average_does_not_count(tmp_path, pad, ops):
    text = LAYER.format(f"pool: AVE kernel_size: 4 stride: 3 pad: {pad}")
    imported = load(tmp_path, text, shape=(1, 2, 8 - pad, 8 - pad))
    assert [node.op_type for node in imported.model.graph] == ops
    assert imported.model.graph[-1].attributes["count_include_pad"].as_int() == 0


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_a_window_larger_than_the_map_is_cut_off_there(tmp_path, method):
    text = LAYER.format(f"pool: {method} kernel_size: 7 stride: 2 pad_h: 1")
    imported = load(tmp_path, text, shape=(1, 2, 4, 6))
    assert len(imported.model.graph) == 1
    x = numbers(1, 2, 4, 6) - 3
    wanted = pooled(x, method, [7, 7], [2, 2], [1, 0])
    assert wanted.shape == (1, 2, 1, 1)
    np.testing.assert_allclose(output(imported, data=x), wanted, rtol=1e-6)


def test_a_window_larger_than_the_map_by_a_stride_is_refused(tmp_path):
    for more in ("stride: 2", "stride: 3 round_mode: FLOOR"):
        text = LAYER.format(f"pool: AVE kernel_size: 7 {more}")
        assert "larger than 5" in error(load(tmp_path, text, shape=(1, 2, 5, 7))).message


@pytest.mark.parametrize(("method", "reduce"), [("MAX", np.max), ("AVE", np.mean)])
def test_global_pooling_takes_the_whole_map(tmp_path, method, reduce):
    x = numbers(2, 3, 5, 4)
    text = LAYER.format(f"pool: {method} global_pooling: true")
    found = output(load(tmp_path, text, shape=x.shape), data=x)
    np.testing.assert_allclose(found, reduce(x, axis=(2, 3), keepdims=True), rtol=1e-5)


def test_the_second_top_says_where_in_the_map_the_maximum_is(tmp_path):
    x = numbers(2, 3, 5, 5)
    text = LAYER.format("kernel_size: 2 stride: 2 pad: 1").replace("top: 'p'", "top: 'p' top: 'm'")
    found = run(load(tmp_path, text, shape=x.shape), data=x)
    assert found["m"].dtype == np.float32
    flat = x.reshape(2, 3, -1)
    picked = np.take_along_axis(flat, found["m"].reshape(2, 3, -1).astype(int), 2)
    np.testing.assert_array_equal(picked.reshape(found["p"].shape), found["p"])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("pool: STOCHASTIC kernel_size: 2", "stochastic"),
        ("stride: 2", "kernel_size is missing"),
        ("kernel_size: 0", "zero"),
        ("kernel_size: 2 stride: 0", "zero"),
        ("kernel_size: 2 pad: 2", "smaller"),
        ("kernel_size: 9", "larger"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", "both"),
        ("kernel_h: 2", "other axis"),
        ("kernel_size: 2 round_mode: FLOOR ceil_mode: true", "contradict"),
        ("global_pooling: true kernel_size: 2", "kernel size"),
        ("global_pooling: true pad: 1", "padding"),
        ("kernel_size: 1 stride: 3", "behind the map"),
    ],
)
def test_what_caffe_refuses_is_refused(tmp_path, parameters, words):
    found = error(load(tmp_path, LAYER.format(parameters), shape=(1, 2, 6, 6)))
    assert words in found.message
    assert (found.location.layer, found.location.op) == ("p", "Pooling")
