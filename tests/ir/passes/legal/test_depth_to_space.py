"""DepthToSpace by operators of the hardware."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.depth_to_space import depth_to_space
from tests.ir.passes.harness import Net, context, ops, run_pass

MOVE = ["Reshape", "Transpose", "Reshape"]


@given(
    block=st.integers(1, 4),
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    mode=st.sampled_from(["DCR", "CRD", None]),
    quantised=st.booleans(),
)
def test_values_are_where_they_were(block, channels, size, mode, quantised):
    net = Net(x=[1, channels * block**2, *size])
    x = net.quantize("x") if quantised else "x"
    attributes = {"mode": mode} if mode else {}
    y = net.op("DepthToSpace", x, blocksize=block, **attributes)
    noted = context()
    after = run_pass(depth_to_space.as_pass(), net.model(y), noted, tolerance=0)
    assert ops(after)[-3:] == MOVE
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == 0


def test_the_rounding_of_a_layer_stays_behind_it():
    net = Net(x=[1, 8, 3, 3])
    x = net.op(
        "Conv", "x", np.full((8, 8, 1, 1), 1 / 3, np.float32), kernel_shape=[1, 1],
        strides=[1, 1], pads=[0] * 4, dilations=[1, 1], group=1,
    )  # fmt: skip
    y = net.quantize(net.op("DepthToSpace", x, blocksize=2))
    after = run_pass([depth_to_space.as_pass(), hoist_quantise], net.model(y), tolerance=0)
    assert ops(after) == ["Conv", "QuantizeHalfEven", *MOVE]


@pytest.mark.parametrize("steps", [[0.5, 1.0], [np.full((1, 2, 1, 1), 0.5)]])
def test_roundings_that_cannot_go_before_it_are_told(steps):
    net, noted = Net(x=[1, 8, 3, 3]), context()
    y = net.op("DepthToSpace", "x", blocksize=2)
    model = net.model(*[net.quantize(y, step) for step in steps])
    assert "DepthToSpace" in ops(run_pass(depth_to_space.as_pass(), model, noted))
    assert "its" in noted.blocked[y][0]
