"""Sums that keep their axes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.reduce_sum_form import reduce_sum_form
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass

PASS = reduce_sum_form.as_pass()


def network(shape, axes, keepdims=0):
    net = Net(x=list(shape))
    return net.model(net.op("ReduceSum", "x", np.array(axes), keepdims=keepdims))


@settings(max_examples=30, deadline=None)
@given(
    axes=st.lists(st.integers(-4, 3), min_size=1, max_size=3, unique_by=lambda axis: axis % 4),
    keepdims=st.integers(0, 1),
)
def test_the_sum_is_the_same(axes, keepdims):
    model = network((1, 3, 5, 4), axes, keepdims)
    after = run_pass(PASS, model, tolerance=1e-6)
    sums = [node for node in after.graph if node.op_type == "ReduceSum"]
    for node in sums:
        assert attribute(node, "keepdims", 1) == 1
        assert all(axis % 4 for axis in np.asarray(node.inputs[1].const_value.numpy()))
    assert bool(sums) == any(axis % 4 for axis in axes)


def test_a_sum_that_keeps_its_axes_stays():
    noted = context()
    run_pass(PASS, network((1, 3, 5, 4), [2, 3], 1), noted)
    assert noted.rewrites == []


def test_dropped_axes_are_dropped_by_a_reshape():
    noted = context()
    after = run_pass(PASS, network((1, 3, 5, 4), [2, 3]), noted)
    assert ops(after) == ["ReduceSum", "Reshape"]
    assert tuple(node_of(after, "ReduceSum").outputs[0].shape) == (1, 3, 1, 1)
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]


def test_a_sum_over_nothing_stays():
    net = Net(x=[1, 3, 5, 4])
    y = net.op("ReduceSum", "x", noop_with_empty_axes=1)
    assert ops(run_pass(PASS, net.model(y))) == ["ReduceSum"]


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_batch_of_several_samples_is_told(keepdims):
    noted = context()
    assert ops(run_pass(PASS, network((2, 3, 4, 4), [0, 1], keepdims), noted)) == ["ReduceSum"]
    [[reason]] = noted.blocked.values()
    assert "2 samples" in reason
