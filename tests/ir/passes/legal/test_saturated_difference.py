"""Differences of maps whose smallest integer has no negative."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.execution import run
from dlaconv.ir.passes.legal.saturated_difference import saturated_difference
from tests.ir.passes.harness import Net, context, run_pass
from tests.ir.passes.legal.support import operators


def difference(shape=(1, 4, 5, 5)):
    net = Net(a=list(shape), b=list(shape))
    return net.model(net.op("Sub", net.quantize("a"), net.quantize("b", 0.5), out="y"))


@settings(max_examples=20)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 9))
def test_all_but_the_smallest_integer_are_negated(shape, seed):
    noted = context(legalise="all")
    model = difference((1, *shape))
    after = run_pass(saturated_difference.as_pass(), model, noted, seed=seed, tolerance=0)
    assert operators(after)[-1] == "Add"
    assert [rewrite.exact for rewrite in noted.rewrites] == [False]


def test_the_smallest_integer_becomes_the_largest():
    feeds = {"a": np.zeros((1, 4, 5, 5), np.float32), "b": np.full((1, 4, 5, 5), -99, np.float32)}
    noted = context(legalise="all")
    after = run_pass(saturated_difference.as_pass(), difference(), noted)
    assert (run(difference(), feeds, ["y"])["y"] == 64).all()
    assert (run(after, feeds, ["y"])["y"] == 63.5).all()


@pytest.mark.parametrize("mode", ["exact", "all"])
def test_it_is_used_when_asked_for(mode):
    noted = context(legalise=mode)
    after = run_pass(saturated_difference.as_pass(), difference(), noted)
    assert ("Sub" in operators(after)) == (mode == "exact")
    assert [item.rule for item in noted.diagnostics] == (["DLA313"] if mode == "exact" else [])


def test_constants_and_broadcasting_are_left_alone():
    net = Net(a=[1, 4, 5, 5], b=[1, 4, 1, 1])
    model = net.model(net.op("Sub", "a", np.float32(1)), net.op("Sub", "a", "b"))
    after = run_pass(saturated_difference.as_pass(), model, context(legalise="all"))
    assert operators(after) == ["Sub", "Sub"]
