"""Factors and offsets between an operator and its quantiser."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.passes.legal.unrounded_affine import unrounded_affine
from tests.ir.passes.harness import Net, context, ops, run_pass


@given(factor=st.integers(-8, 8).filter(bool), offset=st.integers(-8, 8), seed=st.integers(0, 9))
def test_the_layer_computes_the_same_before_it_is_rounded(factor, offset, seed):
    net = Net(x=[1, 4, 5, 5])
    value = net.op("Add", "x", net.quantize("x", 2.0**-6))
    value = net.op("Mul", value, np.full((4, 1, 1), factor / 4, np.float32))
    value = net.op("Add", value, np.float32(offset / 4))
    model = net.model(net.quantize(value, 2.0**-6, 12))
    feeds = {"x": (np.random.default_rng(seed).integers(-99, 99, (1, 4, 5, 5)) / 64)}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    noted = context(legalise="all")
    after = run_pass(unrounded_affine.as_pass(), model, noted, feeds, tolerance=0)
    assert "Mul" not in ops(after)
    assert [rewrite.exact for rewrite in noted.rewrites] == [False]


@pytest.mark.parametrize("stored", [True, False])
def test_stored_maps_and_floating_point_are_left_to_the_exact_rewrite(stored):
    net = Net(x=[1, 4, 5, 5])
    value = net.op("Mul", net.quantize("x") if stored else "x", np.float32(0.3))
    model = net.model(net.quantize(value) if stored else value)
    noted = context(legalise="all")
    assert "Mul" in ops(run_pass(unrounded_affine.as_pass(), model, noted))
    assert not noted.rewrites
