"""Max pools with large windows as several small ones."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import ints_attribute
from dlaconv.ir.passes.legal.max_pool_cascade import max_pool_cascade
from dlaconv.ir.passes.legal.max_pool_padding import max_pool_padding
from dlaconv.ir.passes.legal.pool_cascades import Axis, shortest_cascade
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.pools import SOURCES, broken, pool, source, wide_feeds

PASS = max_pool_cascade.as_pass()


def legalised(model, noted=None, seed=0):
    return run_pass(PASS, model, noted, wide_feeds(model, seed), tolerance=0)


def windows(model):
    return [
        (ints_attribute(node, "kernel_shape"), ints_attribute(node, "strides"))
        for node in model.graph
        if node.op_type == "MaxPool"
    ]


def square(kernel, stride, size, kind="relu", pad=0, channels=2):
    return pool(
        "MaxPool", (1, channels, size, size), kind,
        kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
    )  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(data=st.data(), kind=st.sampled_from(SOURCES), seed=st.integers(0, 99))
def test_the_cascade_computes_the_same(data, kind, seed):
    size = data.draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    kernel = [data.draw(st.integers(1, min(n + 2, 9))) for n in size]
    strides = [data.draw(st.integers(1, 6)) for _ in size]
    pads = [data.draw(st.integers(0, max(0, min(k - 1, 4)))) for k in kernel * 2]
    if kind == "float":
        pads[:2] = 0, 0
    assume(all(n + a + b >= k for n, k, a, b in zip(size, kernel, pads[:2], pads[2:], strict=True)))
    model = pool("MaxPool", (1, 3, *size), kind, kernel_shape=kernel, strides=strides, pads=pads)
    noted = context()
    after = run_pass(
        [PASS, max_pool_padding.as_pass()], model, noted, wide_feeds(model, seed), tolerance=0
    )
    assert noted.blocked == {}
    assert broken(after) == []


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kind=st.sampled_from(SOURCES),
    seed=st.integers(0, 9),
)
def test_a_global_pool_covers_the_whole_map(size, kind, seed):
    net = Net(x=[1, 3, *size])
    after = legalised(net.model(net.op("GlobalMaxPool", source(net, kind))), seed=seed)
    assert "GlobalMaxPool" not in ops(after)
    assert "Conv" not in ops(after)
    assert broken(after) == []


@pytest.mark.parametrize("length", [1, 2, 7, 60])
def test_a_global_pool_of_a_line_becomes_one_of_a_map(length):
    net = Net(x=[1, 3, length])
    after = legalised(net.model(net.op("GlobalMaxPool", "x")))
    assert broken(after) == []
    assert all(len(kernel) == 2 for kernel, _ in windows(after))


@pytest.mark.parametrize(
    ("kernel", "stride", "expected"),
    [
        (4, 4, [((2, 2), (2, 2))] * 2),
        (5, 1, [((3, 3), (1, 1))] * 2),
        (4, 2, [((2, 2), (1, 1)), ((2, 2), (2, 2))]),
        (6, 2, [((2, 2), (2, 2)), ((3, 3), (1, 1))]),
        (7, 4, [((3, 3), (2, 2)), ((3, 3), (2, 2))]),
        (8, 8, [((2, 2), (2, 2))] * 3),
        (13, 1, [((3, 3), (1, 1))] * 6),
    ],
)
def test_cascades_are_short(kernel, stride, expected):
    found = windows(legalised(square(kernel, stride, 24)))
    assert len(found) == len(expected)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (2, 2), (3, 1), (3, 2)])
def test_what_the_hardware_has_is_left_alone(kernel, stride):
    noted = context()
    after = legalised(square(kernel, stride, 12, pad=1), noted)
    assert windows(after) == [((kernel, kernel), (stride, stride))]
    assert noted.rewrites == []


def test_a_stride_of_three_keeps_sixteen_channels_everywhere():
    after = legalised(square(3, 3, 14, channels=16))
    channels = {
        value.shape[1]
        for node in after.graph
        for value in node.outputs
        if value.shape is not None and len(value.shape) == 4 and node.op_type != "Dequantize"
    }
    assert channels == {16}


def test_spatial_pyramids_pad_once_for_each_three_rows():
    model = square(13, 1, 13, "signed", pad=6, channels=16)
    noted = context()
    after = legalised(model, noted)
    assert ops(after).count("Concat") == 2
    assert broken(after) == []
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs > 0


def test_pools_of_pools_cost_nothing():
    noted = context()
    legalised(square(4, 4, 12), noted)
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]


def test_one_element_is_its_own_maximum():
    net = Net(x=[1, 4, 1, 1])
    after = legalised(net.model(net.op("GlobalMaxPool", "x")))
    assert ops(after) == ["Reshape"]


def test_rows_that_would_be_too_many_channels_are_refused():
    noted = context()
    model = pool("MaxPool", (1, 64, 64, 4), "relu", kernel_shape=[1, 2], strides=[1, 2])
    assert ops(legalised(model, noted)) == ["Relu", "MaxPool"]
    [[reason]] = noted.blocked.values()
    assert "4096x1x4" in reason


def test_a_float_map_that_may_be_negative_cannot_be_padded():
    noted = context()
    legalised(square(5, 1, 9, "float", pad=2), noted)
    [[reason]] = noted.blocked.values()
    assert "may be negative" in reason


def test_padding_around_a_window_over_everything_is_not_needed():
    after = legalised(square(5, 1, 3, "float", pad=1))
    assert ops(after) == ["MaxPool"]
    assert broken(after) == []


def test_a_map_beyond_the_hardware_is_not_even_searched():
    noted = context()
    model = pool("MaxPool", (1, 1, 1, 4000), "relu", kernel_shape=[1, 3000], strides=[1, 1])
    legalised(model, noted)
    [[reason]] = noted.blocked.values()
    assert "1x4000" in reason


def test_positions_of_maxima_are_nothing_for_the_hardware():
    net = Net(x=[1, 1, 6, 6])
    y = net.op("MaxPool", "x", outputs=2, kernel_shape=[4, 4], strides=[4, 4], pads=[0] * 4)
    net.values[f"{y}_1"].dtype = ir.DataType.INT64
    noted = context()
    run_pass(PASS, net.model(y, f"{y}_1"), noted)
    assert "positions" in noted.blocked[y][0]


def test_hardware_without_even_windows_has_no_even_cascades():
    assert shortest_cascade((Axis(4),), (3,), (1, 2)) is None
    assert shortest_cascade((Axis(5),), (3,), (1, 2)) is not None


def test_a_window_of_one_element_is_no_step():
    assert shortest_cascade((Axis(2),), (1,), (1,)) is None


@pytest.mark.parametrize(("ceil_mode", "dilation"), [(1, 1), (0, 2)])
def test_other_forms_are_left_to_others(ceil_mode, dilation):
    model = pool(
        "MaxPool", (1, 1, 12, 12), "relu", kernel_shape=[4, 4], strides=[3, 3],
        ceil_mode=ceil_mode, dilations=[dilation] * 2,
    )  # fmt: skip
    assert windows(legalised(model)) == [((4, 4), (3, 3))]


def test_wide_values_do_not_confuse_the_border():
    model = square(5, 1, 9, "signed", pad=2)
    feeds = {"x": np.full((1, 2, 9, 9), -1e4, np.float32)}
    run_pass(PASS, model, feeds=feeds, tolerance=0)
