"""Averages over whole maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.global_average import global_average
from dlaconv.ir.rounding import Rounding
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.pools import assert_same_outputs, broken, source, wide_feeds

PASS = global_average.as_pass()
POWERS = [(8, 8), (16, 16), (16, 4), (32, 32), (1, 8)]


def network(shape, kind="signed", op_type="GlobalAveragePool", rounding=Rounding.HALF_EVEN, **how):
    net = Net(x=list(shape))
    y = net.op(op_type, source(net, kind), **how)
    return net.model(y if kind == "float" else net.quantize(y, 2.0**-12, 24, rounding=rounding))


def legalised(model, noted=None, tolerance=1e-5):
    return run_pass(PASS, model, noted, wide_feeds(model), tolerance=tolerance)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    channels=st.sampled_from([1, 3, 16]),
    kind=st.sampled_from(["signed", "float"]),
)
def test_the_convolution_computes_the_same(size, channels, kind):
    noted = context()
    near = 1e-5 if kind == "float" else 1e-3  # float noise may decide a rounding
    after = legalised(network((1, channels, *size), kind), noted, near)
    if not noted.blocked:
        assert broken(after) == []
    elif kind == "float":
        assert channels == 16
        assert max(size) > 7


@pytest.mark.parametrize("size", POWERS)
@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.FLOOR])
def test_no_integer_changes(size, rounding):
    model = network((1, 16, *size), rounding=rounding)
    after = legalised(model)
    assert_same_outputs(model, after, wide_feeds(model))
    assert broken(after) == []
    assert [n for n in ops(after) if n.startswith("Quantize")] == [
        n for n in ops(model) if n.startswith("Quantize")
    ]


@pytest.mark.parametrize(
    ("size", "channels", "parts"), [(8, 64, 4), (14, 240, 4), (28, 64, 16), (12, 32, 4)]
)
def test_parts_are_few_and_the_cost_is_told(size, channels, parts):
    noted = context()
    after = legalised(network((1, channels, size, size), "float"), noted)
    assert ops(after) == ["Reshape", "Dequantize", "Conv"]
    conv = node_of(after, "Conv")
    assert conv.inputs[0].shape[1] == channels * parts
    assert conv.name in noted.gains
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == channels * channels * size * size


def test_a_size_without_divisors_gets_zeros():
    noted = context()
    after = legalised(network((1, 64, 13, 13), "float"), noted)
    assert ops(after) == ["Dequantize", "Conv", "Reshape", "Dequantize", "Conv"]
    [rewrite] = noted.rewrites
    assert "4 parts" in rewrite.detail


def test_one_row_is_not_cut():
    after = legalised(network((1, 16, 1, 7), "float"))
    assert ops(after) == ["Dequantize", "Conv"]


def test_one_position_is_its_own_average():
    assert ops(legalised(network((1, 16, 1, 1), "float"))) == ["Reshape"]


@pytest.mark.parametrize("size", [2, 7])
def test_averages_of_the_hardware_are_left_alone(size):
    assert ops(legalised(network((1, 16, size, size), "float"))) == ["GlobalAveragePool"]


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "pads", "count"),
    [
        (7, 7, 7, [0] * 4, 0),
        (5, 5, 5, [0] * 4, 1),
        (4, 6, 1, [1] * 4, 0),
        (3, 4, 4, [0, 0, 1, 1], 0),
    ],
)
def test_a_window_over_the_whole_map_is_a_global_one(size, kernel, strides, pads, count):
    model = network(
        (1, 16, size, size), "float", "AveragePool",
        kernel_shape=[kernel] * 2, strides=[strides] * 2, pads=pads, count_include_pad=count,
    )  # fmt: skip
    assert ops(legalised(model)) == ["GlobalAveragePool"]


def test_a_large_window_over_the_whole_map_is_cut_too():
    model = network(
        (1, 16, 8, 8), "float", "AveragePool",
        kernel_shape=[8, 8], strides=[8, 8], pads=[0] * 4, count_include_pad=1,
    )  # fmt: skip
    assert ops(legalised(model)) == ["Reshape", "Dequantize", "Conv"]


def test_a_window_that_divides_by_its_padding_is_left_to_others():
    model = network(
        (1, 16, 5, 5), "float", "AveragePool",
        kernel_shape=[7, 7], strides=[1, 1], pads=[1] * 4, count_include_pad=1,
    )  # fmt: skip
    assert ops(legalised(model)) == ["AveragePool"]


def test_too_many_channels_are_refused():
    noted = context()
    assert ops(legalised(network((1, 1024, 14, 14), "float"), noted)) == ["GlobalAveragePool"]
    [[reason]] = noted.blocked.values()
    assert "1024x14x14" in reason


def test_the_grid_of_weights_must_hold_the_inverse_of_quantised_averages():
    noted = context()
    legalised(network((1, 2, 17, 17)), noted)
    [[reason]] = noted.blocked.values()
    assert "1/289" in reason
    noted = context()
    legalised(network((1, 2, 17, 17), "float"), noted)
    assert noted.blocked == {}


def test_weights_are_ones_where_a_result_meets_its_channel():
    net = Net(x=[1, 4, 8, 8])
    after = legalised(net.model(net.op("GlobalAveragePool", "x")))
    holder = node_of(after, "Conv").inputs[1].producer()
    integers = holder.inputs[0].const_value.numpy()
    assert integers.shape == (4, 16, 4, 4)
    assert np.array_equal(integers.sum((1, 2, 3)), [64] * 4)
    assert attribute(node_of(after, "Conv"), "group", 1) == 1


@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 300), kind=st.sampled_from(["signed", "float"]))
def test_lines_are_averaged_as_maps(length, kind):
    noted = context()
    model = network((1, 4, length), kind)
    after = legalised(model, noted, 1e-5 if kind == "float" else 1e-3)
    assert noted.blocked or "GlobalAveragePool" not in ops(after)
    assert broken(after) == [] or noted.blocked
