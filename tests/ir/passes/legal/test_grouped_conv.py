"""Grouped convolutions as dense ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.grouped_conv import grouped_conv
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.support import integers_of_conv


def network(groups, inputs, outputs, kernel=3, size=5, *, quantised=False, seed=0):
    rng = np.random.default_rng(seed)
    net = Net(x=[1, groups * inputs, size, size])
    shape = (groups * outputs, inputs, kernel, kernel)
    weights = (
        net.dequantize(
            net.const(rng.integers(-127, 128, shape), dtype=np.int8),
            rng.uniform(0.01, 0.1, (shape[0], 1, 1, 1)),
        )
        if quantised
        else rng.normal(size=shape).astype(np.float32)
    )
    bias = rng.normal(size=shape[0]).astype(np.float32)
    y = net.op(
        "Conv", net.quantize("x"), weights, bias,
        kernel_shape=[kernel, kernel], strides=[1, 1], pads=[1, 0, 1, 0], dilations=[1, 1],
        group=groups,
    )  # fmt: skip
    return net.model(net.quantize(y))


@given(
    groups=st.integers(2, 5),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    quantised=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_dense_convolution_computes_the_same(groups, inputs, outputs, quantised, seed):
    model = network(groups, inputs, outputs, quantised=quantised, seed=seed)
    after = run_pass(grouped_conv.as_pass(), model)
    depthwise = inputs == outputs == 1
    assert attribute(node_of(after, "Conv"), "group", 1) == (groups if depthwise else 1)


def test_integers_and_steps_of_quantised_weights_stay():
    model = network(3, 2, 4, quantised=True)
    before, steps = integers_of_conv(model)
    after, kept = integers_of_conv(run_pass(grouped_conv.as_pass(), model))
    assert after.dtype == np.int8
    assert after.sum() == before.sum()
    assert np.array_equal(kept, steps)


def test_the_report_counts_the_multiplications_that_are_added():
    model, noted = network(3, 2, 4), context()
    run_pass(grouped_conv.as_pass(), model, noted)
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == 2 * (12 * 2 * 9) * (5 * 3)
    assert "3 groups of 2 channels" in rewrite.detail


def test_computed_weights_are_told_and_left_alone():
    net = Net(x=[1, 4, 5, 5], w=[4, 2, 3, 3])
    y = net.op(
        "Conv", "x", "w", kernel_shape=[3, 3], strides=[1, 1], pads=[0] * 4, dilations=[1, 1],
        group=2,
    )  # fmt: skip
    noted = context()
    after = run_pass(grouped_conv.as_pass(), net.model(y), noted)
    assert ops(after) == ["Conv"]
    assert "no constants" in noted.blocked[y][0]


def test_a_dense_layer_beyond_the_hardware_is_not_built():
    channels = 4096  # dense weights would take 128 MB
    net = Net(x=[1, channels, 4, 4])
    y = net.op(
        "Conv", "x", np.ones((2 * channels, 1, 1, 1), np.float32), kernel_shape=[1, 1],
        strides=[1, 1], pads=[0] * 4, dilations=[1, 1], group=channels,
    )  # fmt: skip
    noted = context()
    after = run_pass(grouped_conv.as_pass(), net.model(y), noted)
    assert ops(after) == ["Conv"]
    assert "4096 channels in and 8192 out exceeds 2048" in noted.blocked[y][0]


@pytest.mark.parametrize("mode", ["off", "exact"])
def test_nothing_is_rewritten_without_legalisation(mode):
    after = run_pass(grouped_conv.as_pass(), network(2, 2, 2), context(legalise=mode))
    assert attribute(node_of(after, "Conv"), "group", 1) == (2 if mode == "off" else 1)
    assert [node for node in after.graph if dialect.is_quantize(node)]
