"""Maps joined along another axis than that of the channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.concat_axis import concat_axis
from dlaconv.ir.passes.moved_activated import moved_activated
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass


def shapes(rank, axis, extents, seed):
    common = [1, *np.random.default_rng(seed).integers(1, 5, rank - 1).tolist()]
    return [[*common[:axis], extent, *common[axis + 1 :]] for extent in extents]


@settings(max_examples=30)
@given(
    rank=st.integers(2, 5),
    data=st.data(),
    extents=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_the_maps_are_joined_along_the_channels(rank, data, extents, seed):
    axis = data.draw(st.integers(0 if rank == 2 else 1, rank - 1))
    parts = shapes(rank, axis, extents, seed)
    net = Net(**{f"x{index}": shape for index, shape in enumerate(parts)})
    names = [net.quantize(name) if seed % 2 else name for name in list(net.values)[: len(parts)]]
    written = axis - rank if seed % 3 else axis
    noted = context()
    model = net.model(net.op("Concat", *names, axis=written))
    after = run_pass(concat_axis.as_pass(), model, noted, tolerance=0)
    changed = node_of(after, "Concat")
    assert attribute(changed, "axis", 0) in ({1, 1 - rank} if axis == 1 else {1})
    assert [rewrite.macs for rewrite in noted.rewrites] == ([] if axis == 1 else [0])


def test_what_follows_finds_back_to_the_layers():
    net, rng = Net(x=[1, 3, 4, 4]), np.random.default_rng(0)
    window = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "group": 1}
    parts = [net.op("Conv", "x", rng.normal(size=(4, 3, 1, 1)), **window) for _ in range(2)]
    value = net.op("Relu", net.op("Concat", *parts, axis=3))
    passes = [concat_axis.as_pass(), moved_activated, hoist_quantise]
    after = run_pass(passes, net.model(net.quantize(value)), tolerance=0)
    for conv in (node for node in after.graph if node.op_type == "Conv"):
        [relu] = [use.node for use in conv.outputs[0].uses()]
        assert relu.op_type == "Relu"
        assert [use.node.op_type for use in relu.outputs[0].uses()] == ["QuantizeHalfEven"]


@pytest.mark.parametrize(
    ("shape", "axis", "why"),
    [([1, 2, 3, 4], 0, "no axis of samples"), ([2, 2, 3, 4], 2, "hold 2 samples")],
)
def test_samples_are_told(shape, axis, why):
    net, noted = Net(x=shape, y=shape), context()
    model = net.model(net.op("Concat", "x", "y", axis=axis))
    assert ops(run_pass(concat_axis.as_pass(), model, noted)) == ["Concat"]
    assert why in next(iter(noted.blocked.values()))[0]


def test_constants_are_told():
    net, noted = Net(x=[1, 2, 3]), context()
    model = net.model(net.op("Concat", "x", np.ones((1, 2, 3)), axis=2))
    assert ops(run_pass(concat_axis.as_pass(), model, noted)) == ["Concat"]
    assert "a constant" in next(iter(noted.blocked.values()))[0]


def test_a_step_per_channel_is_told():
    net, noted = Net(x=[1, 2, 3], y=[1, 2, 3]), context()
    value = net.op("Concat", "x", "y", axis=2)
    model = net.model(net.quantize(value, np.float32([[0.5], [0.25]])))
    assert "Reshape" not in ops(run_pass(concat_axis.as_pass(), model, noted))
    assert "one step per channel" in next(iter(noted.blocked.values()))[0]
