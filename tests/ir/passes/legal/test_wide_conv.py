"""Convolutions with many output channels, in parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, producer, shape_of
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.wide_conv import wide_conv
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.support import conv_model, convs, narrow


@given(
    outputs=st.integers(30, 80),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    quantised=st.booleans(),
    activation=st.sampled_from([None, "Relu", "LeakyRelu", "PRelu"]),
    seed=st.integers(0, 9),
)
def test_the_parts_compute_the_same(outputs, stride, dilation, quantised, activation, seed):
    model = conv_model(
        outputs=outputs, strides=(stride, stride), dilations=(dilation, 1), pads=(1, 0, 1, 2),
        quantised=quantised, activation=activation, seed=seed,
    )  # fmt: skip
    passes = [wide_conv.as_pass(), hoist_quantise]
    after = run_pass(passes, model, narrow(32), tolerance=0 if quantised else None)
    parts = [shape_of(node.outputs[0])[1] for node in convs(after)]
    assert sum(parts) == outputs
    assert max(parts) <= 32
    assert all(part % 16 == 0 for part in parts[:-1])
    assert len(parts) == -(-outputs // 32)


@pytest.mark.parametrize(("outputs", "parts"), [(2048, [2048]), (2049, [1040, 1009])])
def test_the_limit_is_that_of_the_hardware(outputs, parts):
    noted = context()
    model = conv_model(channels=1, outputs=outputs, size=(1, 1), kernel=(1, 1))
    after = run_pass(wide_conv.as_pass(), model, noted)
    assert [shape_of(node.outputs[0])[1] for node in convs(after)] == parts
    assert [rewrite.macs for rewrite in noted.rewrites] == [0] * (len(parts) - 1)


def test_integers_steps_activation_and_rounding_go_along():
    model = conv_model(outputs=40, quantised=True, activation="Relu")
    [before] = convs(model)
    weights = producer(before.inputs[1])
    after = run_pass([wide_conv.as_pass(), hoist_quantise], model, narrow(32), tolerance=0)
    layers = [op for op in ops(after) if op != "Dequantize"]
    rounding = "QuantizeHalfEven"
    assert sorted(layers) == sorted([rounding, *["Conv", "Relu", rounding] * 2, "Concat"])
    holders = [producer(node.inputs[1]) for node in convs(after)]
    arrays = [dialect.array_of(holder.inputs[0]) for holder in holders]
    assert np.array_equal(np.concatenate(arrays), dialect.array_of(weights.inputs[0]))
    steps = [
        np.broadcast_to(dialect.step_of(h), (len(a), 1, 1, 1))
        for h, a in zip(holders, arrays, strict=True)
    ]
    assert np.array_equal(np.concatenate(steps), dialect.step_of(weights))


def test_depthwise_ones_and_results_with_several_roundings_are_told():
    noted = narrow(32)
    model = conv_model(channels=33, outputs=33, group=33)
    after = run_pass(wide_conv.as_pass(), model, noted)
    assert attribute(convs(after)[0], "group", 1) == 33
    assert "parts of a map" in next(iter(noted.blocked.values()))[0]
    net, noted = Net(x=[1, 1, 2, 2]), narrow(32)
    y = net.op(
        "Conv", "x", np.ones((33, 1, 1, 1), np.float32), kernel_shape=[1, 1], strides=[1, 1],
        pads=[0] * 4, dilations=[1, 1], group=1,
    )  # fmt: skip
    run_pass(wide_conv.as_pass(), net.model(net.quantize(y, 0.5), net.quantize(y, 1.0)), noted)
    assert "several ways" in noted.blocked[y][0]
