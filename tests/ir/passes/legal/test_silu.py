"""SiLU by HardSwish."""

import numpy as np
import pytest

from dlaconv.ir.execution import run
from dlaconv.ir.passes.legal.silu import silu
from tests.ir.passes.harness import Net, context, ops, run_pass


def network(flipped=False, same=True):
    net = Net(x=[1, 2, 4, 4])
    gate = net.op("Sigmoid", "x" if same else net.op("Tanh", "x"))
    return net.model(net.op("Mul", *((gate, "x") if flipped else ("x", gate))))


@pytest.mark.parametrize("flipped", [False, True])
def test_it_is_replaced_when_asked_for(flipped):
    model, noted = network(flipped), context(legalise="all")
    x = {"x": np.linspace(-8, 8, 32, dtype=np.float32).reshape(1, 2, 4, 4)}
    after = run_pass(silu.as_pass(), model, noted, feeds=x)
    assert ops(after) == ["HardSwish"]
    assert [item.exact for item in noted.rewrites] == [False]
    [name] = [value.name for value in model.graph.outputs]
    off = np.abs(run(model, x, [name])[name] - run(after, x, [name])[name]).max()
    assert 0.1 < off < 0.143


def test_it_is_told_otherwise():
    noted = context()
    after = run_pass(silu.as_pass(), network(), noted)
    assert ops(after) == ["Sigmoid", "Mul"]
    assert [item.rule for item in noted.diagnostics] == ["DLA313"]


def test_other_gates_are_none():
    noted = context(legalise="all")
    assert ops(run_pass(silu.as_pass(), network(same=False), noted)) == ["Tanh", "Sigmoid", "Mul"]
    assert noted.rewrites == []
