"""One-dimensional convolutions and pools as two-dimensional ones."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute, ints_attribute, shape_of
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.conv1d import conv1d
from dlaconv.ir.passes.one_shape_op import one_shape_op
from dlaconv.ir.passes.windows import Window
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.support import conv_model

ACTIVATIONS = st.sampled_from([None, "Relu", "LeakyRelu", "PRelu"])


@given(
    length=st.integers(7, 12),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    depthwise=st.booleans(),
    quantised=st.booleans(),
    activation=ACTIVATIONS,
    seed=st.integers(0, 9),
)
def test_convolutions_compute_the_same(
    length, kernel, stride, pads, dilation, depthwise, quantised, activation, seed
):
    model = conv_model(
        channels=4, outputs=4, size=(length,), kernel=(kernel,), strides=(stride,), pads=pads,
        dilations=(dilation,), group=4 if depthwise else 1, quantised=quantised,
        activation=activation, seed=seed,
    )  # fmt: skip
    tolerance = 0 if quantised else None
    after = run_pass([conv1d.as_pass(), hoist_quantise], model, tolerance=tolerance)
    behind = [activation] if activation else []
    rounding = ["QuantizeHalfEven"] if quantised else []
    assert [op for op in ops(after) if op != "Dequantize"] == [
        *rounding, "Reshape", "Conv", *behind, *rounding, "Reshape"
    ]  # fmt: skip
    assert shape_of(node_of(after, "Conv").inputs[0]) == (1, 4, length, 1)


@given(
    op=st.sampled_from(["MaxPool", "AveragePool"]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    dilation=st.integers(1, 2),
    length=st.integers(8, 11),
    counted=st.booleans(),
    ceil=st.booleans(),
)
def test_pools_compute_the_same(op, kernel, stride, pads, dilation, length, counted, ceil):
    if max(pads) >= kernel:
        return
    net = Net(x=[1, 3, length])
    dilation = dilation if op == "MaxPool" else 1
    window = Window((length,), (kernel,), (stride,), (dilation,), pads)
    own = {"dilations": [dilation]} if op == "MaxPool" else {"count_include_pad": int(counted)}
    y = net.op(
        op,
        "x",
        kernel_shape=[kernel],
        strides=[stride],
        pads=pads,
        ceil_mode=int(ceil and window.ceil_matters()),
        **own,
    )
    after = run_pass(conv1d.as_pass(), net.model(y))
    assert ops(after) == ["Reshape", op, "Reshape"]
    across = kernel if op == "MaxPool" else 1
    assert ints_attribute(node_of(after, op), "kernel_shape") == (kernel, across)


@pytest.mark.parametrize("quantised", [False, True])
def test_a_max_pool_gets_the_square_window_of_the_hardware(quantised):
    net = Net(x=[1, 3, 9])
    x = net.quantize("x") if quantised else "x"
    y = net.op("MaxPool", x, kernel_shape=[3], strides=[2], pads=[0, 1], dilations=[1])
    pool = node_of(run_pass(conv1d.as_pass(), net.model(y), tolerance=0), "MaxPool")
    assert ints_attribute(pool, "kernel_shape") == (3, 3)
    assert ints_attribute(pool, "strides") == (2, 2)
    assert ints_attribute(pool, "pads") == (0, 0, 1, 2)


@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    pad=st.integers(0, 1),
    more=st.integers(0, 1),
    group=st.sampled_from([1, 2]),
    form=st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "output_shape"]),
)
def test_transposed_convolutions_compute_the_same(kernel, stride, pad, more, group, form):
    if more >= stride or kernel + more <= 2 * pad or kernel < stride:
        return
    net = Net(x=[1, 4, 6])
    weights = np.random.default_rng(0).normal(size=(4, 3, kernel)).astype(np.float32)
    more_or_less = {
        "pads": {"pads": [pad, pad], "output_padding": [more]},
        "output_shape": {"output_shape": [6 * stride]},
    }.get(form, {"auto_pad": form})
    y = net.op("ConvTranspose", "x", weights, strides=[stride], group=group, **more_or_less)
    after = run_pass(conv1d.as_pass(), net.model(y))
    assert ops(after) == ["Reshape", "ConvTranspose", "Reshape"]
    assert attribute(node_of(after, "ConvTranspose"), "group", 1) == group


@pytest.mark.parametrize("quantised", [False, True])
def test_averages_of_all_positions(quantised):
    net = Net(x=[1, 3, 8])
    y = net.op("GlobalAveragePool", net.quantize("x") if quantised else "x")
    model = net.model(net.quantize(y, 0.125) if quantised else y)
    after = run_pass([conv1d.as_pass(), hoist_quantise], model, tolerance=1e-6)
    rounding = ["QuantizeHalfEven"] if quantised else []
    assert ops(after) == [*rounding, "Reshape", "GlobalAveragePool", *rounding, "Reshape"]


def test_strides_are_the_same_along_both_axes():
    model = conv_model(size=(9,), kernel=(3,), strides=(2,))
    conv = node_of(run_pass(conv1d.as_pass(), model), "Conv")
    assert ints_attribute(conv, "strides") == (2, 2)


def test_a_chain_keeps_one_reshape_at_each_end():
    net, rng = Net(x=[1, 3, 10]), np.random.default_rng(0)
    y = "x"
    for inputs, outputs in ((3, 4), (4, 5), (5, 2)):
        weights = rng.normal(size=(outputs, inputs, 3)).astype(np.float32)
        y = net.op(
            "Conv", y, weights, kernel_shape=[3], strides=[1], pads=[1, 1], dilations=[1], group=1
        )
        y = net.op("Relu", y)
    after = run_pass([conv1d.as_pass(), one_shape_op], net.model(y), tolerance=1e-5)
    assert ops(after) == ["Reshape", *["Conv", "Relu"] * 3, "Reshape"]


def test_planar_ones_stay_and_three_dimensional_ones_are_told():
    noted = context()
    assert ops(run_pass(conv1d.as_pass(), conv_model(), noted)) == ["Conv"]
    assert not noted.blocked
    model = conv_model(size=(4, 4, 4), kernel=(3, 3, 3))
    assert ops(run_pass(conv1d.as_pass(), model, noted)) == ["Conv"]
    [[reason]] = noted.blocked.values()
    assert "not of 3 axes" in reason


def test_it_costs_nothing():
    noted = context()
    run_pass(conv1d.as_pass(), conv_model(size=(9,), kernel=(3,), activation="Relu"), noted)
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == 0


def layer(net, **attributes):
    weights = np.ones((2, 3, 3), np.float32)
    return net.op(
        "Conv", "x", weights, kernel_shape=[3], strides=[1], pads=[0, 0], dilations=[1], group=1
    )


def test_a_result_that_is_rounded_in_several_ways_stays():
    net, noted = Net(x=[1, 3, 8]), context()
    y = layer(net)
    after = run_pass(conv1d.as_pass(), net.model(net.quantize(y, 0.5), net.quantize(y, 1.0)), noted)
    assert "Reshape" not in ops(after)
    assert "read in several ways" in noted.blocked[y][0]


def test_a_result_with_one_step_per_channel_stays():
    net, noted = Net(x=[1, 3, 8]), context()
    y = layer(net)
    steps = np.array([[[0.5], [0.25]]])
    run_pass(conv1d.as_pass(), net.model(net.quantize(y, steps)), noted)
    assert "one step per channel" in noted.blocked[y][0]


def test_slopes_that_vary_along_the_map_stay():
    net, noted = Net(x=[1, 3, 8]), context()
    y = layer(net)
    slopes = np.linspace(0, 1, 6).reshape(1, 6).astype(np.float32)
    run_pass(conv1d.as_pass(), net.model(net.op("PRelu", y, slopes)), noted)
    assert "slopes" in noted.blocked[y][0]


def test_positions_of_the_largest_values_cannot_be_kept():
    net, noted = Net(x=[1, 3, 8]), context()
    y = net.op("MaxPool", "x", kernel_shape=[2], strides=[2], pads=[0, 0], dilations=[1], outputs=2)
    other = net.op("Cast", f"{y}_1", to=ir.DataType.FLOAT)
    run_pass(conv1d.as_pass(), net.model(y, other), noted)
    assert "positions" in noted.blocked[y][0]
