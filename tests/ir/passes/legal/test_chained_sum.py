"""Sums of many maps as sums of two."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes.legal.chained_sum import chained_sum
from tests.ir.passes.harness import Net, context, ops, run_pass


@settings(max_examples=20)
@given(count=st.integers(2, 5), shape=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_sum_of_maps_on_grids_of_their_own_is_a_chain(count, shape):
    net = Net(**{f"x{index}": shape for index in range(count)})
    stored = [net.quantize(f"x{index}", 2.0**-index) for index in range(count)]
    noted = context(legalise="all")
    after = run_pass(chained_sum.as_pass(), net.model(net.op("Sum", *stored)), noted, tolerance=0)
    assert ops(after).count("Add") == count - 1
    assert [rewrite.exact for rewrite in noted.rewrites] == [False]


@pytest.mark.parametrize("mode", ["exact", "all"])
def test_it_is_used_when_asked_for(mode):
    net = Net(x=[1, 3], y=[1, 3], z=[1, 3])
    noted = context(legalise=mode)
    after = run_pass(chained_sum.as_pass(), net.model(net.op("Sum", *"xyz")), noted)
    assert ("Sum" in ops(after)) == (mode == "exact")
    assert [item.rule for item in noted.diagnostics] == (["DLA313"] if mode == "exact" else [])


@pytest.mark.parametrize("other", [np.ones((1, 3)), "z"])
def test_constants_and_broadcasting_are_told(other):
    net, noted = Net(x=[1, 3], y=[1, 3], z=[1, 1]), context(legalise="all")
    model = net.model(net.op("Sum", "x", "y", other))
    assert ops(run_pass(chained_sum.as_pass(), model, noted)) == ["Sum"]
    assert "one shape" in next(iter(noted.blocked.values()))[0]
