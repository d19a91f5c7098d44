"""SpaceToDepth by operators of the hardware."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.space_to_depth import space_to_depth
from tests.ir.passes.harness import Net, context, ops, run_pass

MOVE = ["Reshape", "Transpose", "Reshape"]


@given(
    block=st.integers(1, 4),
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    quantised=st.booleans(),
)
def test_values_are_where_they_should_be(block, channels, size, quantised):
    net = Net(x=[1, channels, block * size[0], block * size[1]])
    x = net.quantize("x") if quantised else "x"
    noted = context()
    model = net.model(net.op("SpaceToDepth", x, blocksize=block))
    after = run_pass(space_to_depth.as_pass(), model, noted, tolerance=0)
    picks = block <= 2
    assert ("Conv" in ops(after)) == picks
    assert (ops(after)[-3:] == MOVE) == (not picks)
    positions = size[0] * size[1]
    assert noted.rewrites[0].macs == (channels**2 * block**4 * positions if picks else 0)
    if quantised and picks:
        grids = [dialect.quantisation_of(n) for n in after.graph if dialect.is_quantize(n)]
        assert grids[0].same_grid(grids[1])


def test_too_many_channels_for_one_layer_are_moved():
    net = Net(x=[1, 513, 2, 2])
    model = net.model(net.op("SpaceToDepth", "x", blocksize=2))
    assert ops(run_pass(space_to_depth.as_pass(), model)) == MOVE


def test_another_rounding_behind_it_is_the_only_one():
    net = Net(x=[1, 2, 4, 4])
    y = net.op("SpaceToDepth", net.quantize("x", 0.25), blocksize=2)
    after = run_pass(space_to_depth.as_pass(), net.model(net.quantize(y, 0.5)), tolerance=0)
    assert [op for op in ops(after) if op != "Dequantize"] == [
        "QuantizeHalfEven", "Conv", "QuantizeHalfEven"
    ]  # fmt: skip


@pytest.mark.parametrize("block", [2, 4])
def test_steps_per_channel_are_moved(block):
    net = Net(x=[1, 2, 4, 4])
    x = net.quantize("x", np.array([0.5, 0.25]).reshape(1, 2, 1, 1))
    model = net.model(net.op("SpaceToDepth", x, blocksize=block))
    assert ops(run_pass(space_to_depth.as_pass(), model, tolerance=0))[1:] == MOVE


def test_the_rounding_of_what_is_moved_goes_before_it():
    net = Net(x=[1, 2, 4, 4])
    y = net.quantize(net.op("SpaceToDepth", net.op("Relu", "x"), blocksize=4))
    passes = [space_to_depth.as_pass(), hoist_quantise]
    after = run_pass(passes, net.model(y), tolerance=0)
    assert ops(after) == ["Relu", "QuantizeHalfEven", *MOVE]


def test_several_roundings_of_what_would_be_moved_are_told():
    net, noted = Net(x=[1, 2, 4, 4]), context()
    y = net.op("SpaceToDepth", "x", blocksize=4)
    model = net.model(net.quantize(y, 0.5), net.quantize(y, 1.0))
    assert "SpaceToDepth" in ops(run_pass(space_to_depth.as_pass(), model, noted))
    assert "several ways" in noted.blocked[y][0]
