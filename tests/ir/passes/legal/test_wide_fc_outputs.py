"""Fully connected layers with many outputs, in parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.wide_fc_inputs import wide_fc_inputs
from dlaconv.ir.passes.legal.wide_fc_outputs import wide_fc_outputs
from dlaconv.ir.passes.moved_activated import moved_activated
from tests.ir.passes.harness import Net, node_of, ops, run_pass
from tests.ir.passes.legal.fully_connected import fc_model, small_target


def sizes(model):
    return [shape_of(node.outputs[0])[1] for node in model.graph if node.op_type == "Gemm"]


@settings(max_examples=30)
@given(
    outputs=st.integers(1, 100),
    most=st.integers(5, 40),
    quantised=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_parts_compute_the_same(outputs, most, quantised, bias, seed):
    model = fc_model([1, 5], outputs, quantised=quantised, flatten=False, bias=bias, seed=seed)
    noted = small_target(most)
    tolerance = 0 if quantised else None
    after = run_pass(wide_fc_outputs.as_pass(), model, noted, tolerance=tolerance)
    assert max(sizes(after)) <= most
    assert sum(sizes(after)) == outputs
    assert [rewrite.macs for rewrite in noted.rewrites] == ([0] if outputs > most else [])


@pytest.mark.parametrize(
    ("outputs", "parts"),
    [(2048, [2048]), (2064, [1040, 1024]), (4096, [2048] * 2), (4097, [1376, 1376, 1345])],
)
def test_parts_are_whole_groups_of_channels(outputs, parts):
    model = fc_model([1, 5], outputs, flatten=False)
    assert sizes(run_pass(wide_fc_outputs.as_pass(), model)) == parts


def test_integers_and_steps_are_split():
    model = fc_model([1, 5], 40, quantised=True, flatten=False)
    after = run_pass(wide_fc_outputs.as_pass(), model, small_target(16), tolerance=0)
    holders = [
        [node.inputs[1].producer() for node in m.graph if node.op_type == "Gemm"]
        for m in (model, after)
    ]
    for read in (lambda h: dialect.array_of(h.inputs[0]), lambda h: dialect.step_of(h)):
        before, parts = ([read(holder) for holder in group] for group in holders)
        assert np.array_equal(np.concatenate(parts), before[0])


def test_activation_and_rounding_find_back_to_the_parts():
    model = fc_model([1, 5], 20, quantised=True, relu=True, flatten=False)
    passes = [wide_fc_outputs.as_pass(), moved_activated, hoist_quantise]
    after = run_pass(passes, model, small_target(16), tolerance=0)
    assert ops(after)[-3:] == ["QuantizeHalfEven", "QuantizeHalfEven", "Concat"]


def test_an_activation_behind_the_rounding_finds_back_to_the_parts():
    """As in networks for CHaiDNN, whose layers are rounded before their ReLU."""
    net, rng = Net(x=[1, 4]), np.random.default_rng(0)
    value = net.op("Gemm", "x", rng.normal(size=(24, 4)), transB=1)
    model = net.model(net.op("Relu", net.quantize(value)))
    passes = [wide_fc_outputs.as_pass(), moved_activated, hoist_quantise, moved_activated]
    after = run_pass(passes, model, small_target(16), tolerance=0)
    assert ops(after)[-3:] == ["Relu", "Relu", "Concat"]


def test_the_next_layer_reads_the_parts_as_rows():
    net, rng = Net(x=[1, 4]), np.random.default_rng(0)
    value = net.op("Gemm", "x", rng.normal(size=(24, 4)), transB=1)
    value = net.op("Gemm", net.op("Relu", value), rng.normal(size=(3, 24)), transB=1)
    passes = [wide_fc_outputs.as_pass(), wide_fc_inputs.as_pass(), moved_activated]
    after = run_pass(passes, net.model(value), small_target(16))
    assert shape_of(node_of(after, "Conv").inputs[0]) == (1, 12, 2, 1)
    assert ops(after)[-4:] == ["Concat", "Reshape", "Conv", "Reshape"]


def test_a_step_per_channel_is_told():
    net = Net(x=[1, 4])
    value = net.op("Gemm", "x", np.ones((20, 4)), transB=1)
    model = net.model(net.quantize(value, np.linspace(0.1, 1, 20, dtype=np.float32)[None]))
    noted = small_target(16)
    assert sizes(run_pass(wide_fc_outputs.as_pass(), model, noted)) == [20]
    assert "one step per channel" in next(iter(noted.blocked.values()))[0]
