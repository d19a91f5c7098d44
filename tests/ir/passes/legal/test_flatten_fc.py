"""Fully connected layers behind a flattened map, as convolutions of the whole map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.flatten_fc import flatten_fc
from dlaconv.ir.passes.moved_activated import moved_activated
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.fully_connected import fc_model, small_target
from tests.ir.passes.legal.support import integers_of_conv


@settings(max_examples=30)
@given(
    samples=st.integers(1, 2),
    channels=st.integers(1, 5),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    outputs=st.integers(1, 5),
    quantised=st.booleans(),
    bias=st.booleans(),
)
def test_the_convolution_computes_the_same(
    samples, channels, height, width, outputs, quantised, bias
):
    shape = [samples, channels, height, width]
    model = fc_model(shape, outputs, quantised=quantised, bias=bias)
    limit = max(channels, outputs)
    tolerance = 0 if quantised else None
    after = run_pass(flatten_fc.as_pass(), model, small_target(limit), tolerance=tolerance)
    wide = channels * height * width > limit
    assert ("Conv" in ops(after)) == wide
    assert ("Gemm" in ops(after)) != wide


def test_integers_and_steps_stay():
    model = fc_model([1, 4, 3, 3], 6, quantised=True)
    integers, steps = integers_of_conv(run_pass(flatten_fc.as_pass(), model, small_target(16)))
    gemm = next(node for node in model.graph if node.op_type == "Gemm")
    holder = gemm.inputs[1].producer()
    assert np.array_equal(integers.reshape(6, -1), dialect.array_of(holder.inputs[0]))
    assert np.array_equal(steps.reshape(-1), dialect.step_of(holder).reshape(-1))


def test_activation_and_rounding_find_back_to_the_layer():
    model = fc_model([1, 4, 3, 3], 6, quantised=True, relu=True)
    passes = [flatten_fc.as_pass(), moved_activated, hoist_quantise]
    after = run_pass(passes, model, small_target(16), tolerance=0)
    assert ops(after)[-4:] == ["Conv", "Relu", "QuantizeHalfEven", "Reshape"]


@pytest.mark.parametrize(("channels", "wide"), [(41, False), (42, True)])
def test_the_limit_is_that_of_the_target(channels, wide):
    model = fc_model([1, channels, 7, 7], 3)
    assert ("Conv" in ops(run_pass(flatten_fc.as_pass(), model))) == wide


@pytest.mark.parametrize("shape", [[1, 2, 8, 7], [1, 2, 1, 8], [1, 17, 2, 2], [1, 4, 6]])
def test_other_maps_are_left_to_another_layout(shape):
    model = fc_model(shape, 3)
    assert ops(run_pass(flatten_fc.as_pass(), model, small_target(16))) == ["Reshape", "Gemm"]


def test_more_outputs_than_a_convolution_has_are_told():
    model, noted = fc_model([1, 4, 3, 3], 17), small_target(16)
    assert "Gemm" in ops(run_pass(flatten_fc.as_pass(), model, noted))
    assert "17 outputs are more than the 16" in next(iter(noted.blocked.values()))[0]


def test_a_result_with_a_step_per_channel_cannot_move():
    net = Net(x=[1, 4, 3, 3])
    rng = np.random.default_rng(0)
    value = net.op("Reshape", "x", np.array([1, 36]))
    value = net.op("Gemm", value, rng.normal(size=(2, 36)), transB=1)
    model, noted = net.model(net.quantize(value, np.float32([[0.5, 0.25]]))), small_target(16)
    assert "Gemm" in ops(run_pass(flatten_fc.as_pass(), model, noted))
    assert "one step per channel" in next(iter(noted.blocked.values()))[0]


def test_it_costs_nothing():
    noted = small_target(16)
    run_pass(flatten_fc.as_pass(), fc_model([1, 4, 3, 3], 6), noted)
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]
    assert context().target != noted.target


@pytest.mark.parametrize(("channels", "wide"), [(16, False), (17, True), (20, True)])
def test_channels_that_will_be_padded_count(channels, wide):
    net = Net(x=[1, channels, 7, 7])
    value = net.op("Reshape", net.op("Relu", "x"), np.array([1, channels * 49]))
    model = net.model(net.op("Gemm", value, np.ones((2, channels * 49)), transB=1))
    after = run_pass(flatten_fc.as_pass(), model, small_target(1000))
    assert ("Conv" in ops(after)) == wide
