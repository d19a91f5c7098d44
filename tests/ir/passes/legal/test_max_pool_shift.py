"""Padded max pools of maps in floating point that may be negative."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes.legal import REWRITES
from dlaconv.ir.passes.legal.max_pool_shift import max_pool_shift
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.pools import broken, wide_feeds

PASS = max_pool_shift.as_pass()


def network(before="HardSwish", kernel=5, pad=2, size=7, stride=1):
    net = Net(x=[1, 4, size, size])
    y = net.op(before, "x") if before else "x"
    return net.model(
        net.op(
            "MaxPool", y, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
            dilations=[1, 1],
        )
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.sampled_from([3, 5, 9]),
    size=st.integers(5, 10),
    stride=st.integers(1, 2),
    seed=st.integers(0, 9),
)
def test_it_pools_the_same_and_suits_the_other_rewrites(kernel, size, stride, seed):
    model = network(kernel=kernel, pad=kernel // 2, size=size, stride=stride)
    feeds = {"x": np.random.default_rng(seed).normal(-2, 2, (1, 4, size, size)).astype(np.float32)}
    noted = context(legalise="all")
    after = run_pass([PASS, *REWRITES], model, noted, feeds, tolerance=1e-5)
    assert broken(after) == []
    assert not noted.rewrites[0].exact


def test_it_costs_two_multiplications_a_value():
    noted = context(legalise="all")
    after = run_pass(PASS, network(), noted, tolerance=1e-5)
    assert [op for op in ops(after) if op != "Dequantize"] == [
        "HardSwish", "Conv", "Relu", "MaxPool", "Conv",
    ]  # fmt: skip
    [rewrite] = noted.rewrites
    assert rewrite.macs == 2 * 4 * 49


def test_it_is_only_told_of_unless_asked_for():
    noted = context()
    assert ops(run_pass(PASS, network(), noted)) == ["HardSwish", "MaxPool"]
    assert [item.rule for item in noted.diagnostics] == ["DLA313"]


@pytest.mark.parametrize(("before", "pad"), [("Relu", 2), (None, 2), ("HardSwish", 0)])
def test_other_pools_are_left_alone(before, pad):
    noted = context(legalise="all")
    model = network(before, pad=pad)
    assert "Conv" not in ops(run_pass(PASS, model, noted))


def test_quantised_maps_have_an_exact_way():
    net = Net(x=[1, 4, 7, 7])
    y = net.op("MaxPool", net.quantize("x"), kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4,
               dilations=[1, 1])  # fmt: skip
    model = net.model(y)
    assert "Conv" not in ops(run_pass(PASS, model, context(legalise="all"), wide_feeds(model)))
