"""Averages over large maps in several steps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes.legal.average_cascade import average_cascade
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.pools import broken

PASS = average_cascade.as_pass()


def network(*size, channels=2):
    net = Net(x=[1, channels, *size])
    return net.model(net.op("GlobalAveragePool", "x"))


def legalised(model, mode="all"):
    noted = context(legalise=mode)
    return run_pass(PASS, model, noted), noted


@settings(max_examples=30, deadline=None)
@given(size=st.tuples(st.integers(2, 40), st.integers(2, 40)))
def test_steps_average_the_same_values(size):
    after, noted = legalised(network(*size))
    assert broken(after) == [] or noted.blocked


@pytest.mark.parametrize(
    ("size", "pools"), [((8, 8), 1), ((14, 14), 1), ((28, 28), 2), ((16, 8), 2)]
)
def test_maps_are_halved_until_they_fit(size, pools):
    after, noted = legalised(network(*size))
    assert ops(after) == ["AveragePool"] * pools + ["GlobalAveragePool"]
    [rewrite] = noted.rewrites
    assert not rewrite.exact


@pytest.mark.parametrize("size", [(9, 9), (10, 26), (64, 2)])
def test_what_cannot_be_halved_to_fit_is_told(size):
    after, noted = legalised(network(*size))
    assert ops(after) == ["GlobalAveragePool"]
    [[reason]] = noted.blocked.values()
    assert "no window that fits" in reason


@pytest.mark.parametrize("size", [(7, 7), (2, 5)])
def test_windows_of_the_hardware_are_left_alone(size):
    after, noted = legalised(network(*size))
    assert ops(after) == ["GlobalAveragePool"]
    assert noted.blocked == {}


def test_it_is_only_told_of_unless_asked_for():
    after, noted = legalised(network(8, 8), "exact")
    assert ops(after) == ["GlobalAveragePool"]
    assert [item.rule for item in noted.diagnostics] == ["DLA313"]
