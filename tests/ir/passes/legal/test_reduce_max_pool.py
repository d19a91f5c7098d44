"""Maxima over whole axes."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes.legal import REWRITES
from dlaconv.ir.passes.legal.reduce_max_pool import reduce_max_pool
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.pools import SOURCES, broken, source, wide_feeds

PASS = reduce_max_pool.as_pass()
AXES = [list(axes) for count in (1, 2, 3) for axes in combinations((1, 2, 3), count)]


def network(shape, axes, kind="float", keepdims=1):
    net = Net(x=list(shape))
    return net.model(net.op("ReduceMax", source(net, kind), np.array(axes), keepdims=keepdims))


def legalised(model, noted=None):
    return run_pass(PASS, model, noted, wide_feeds(model), tolerance=0)


@settings(max_examples=40, deadline=None)
@given(
    axes=st.sampled_from([*AXES, [0, 2, 3], [-1]]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12)),
    keepdims=st.integers(0, 1),
    kind=st.sampled_from(SOURCES),
)
def test_pools_compute_the_same(axes, shape, keepdims, kind):
    model = network((1, *shape), axes, kind, keepdims)
    assert "ReduceMax" not in ops(legalised(model))
    after = run_pass(REWRITES, model, None, wide_feeds(model), tolerance=0)
    assert broken(after) == []


def test_channels_are_pooled_as_columns():
    after = legalised(network((1, 5, 4, 4), [1]))
    assert ops(after) == ["Transpose", "MaxPool", "Transpose"]


@pytest.mark.parametrize(("shape", "axes"), [((1, 4, 6), [2]), ((2, 4, 5, 5), [0])])
def test_other_maxima_are_told_and_left_alone(shape, axes):
    noted = context()
    assert ops(legalised(network(shape, axes), noted)) == ["ReduceMax"]
    assert len(noted.blocked) == 1
