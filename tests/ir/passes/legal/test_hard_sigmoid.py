"""HardSigmoid as a factor, an offset and a clip."""

import numpy as np
import pytest

from dlaconv.ir.passes.legal.hard_sigmoid import hard_sigmoid
from tests.ir.passes.harness import Net, ops, run_pass


@pytest.mark.parametrize("constants", [{}, {"alpha": 1 / 6, "beta": 0.5}, {"alpha": -1.0}])
def test_it_computes_the_same(constants):
    net = Net(x=[1, 2, 4, 4])
    model = net.model(net.op("HardSigmoid", "x", **constants))
    feeds = {"x": np.linspace(-6, 6, 32, dtype=np.float32).reshape(1, 2, 4, 4)}
    after = run_pass(hard_sigmoid.as_pass(), model, feeds=feeds, tolerance=1e-6)
    assert ops(after) == ["Mul", "Add", "Clip"]
