"""Every result of Split is a Slice."""

import numpy as np
import pytest
from harness import Net, context, node_of, ops, run_pass
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.passes.split_slices import split_slices
from dlaconv.ir.stages import Stage


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    axis=st.integers(-3, 2),
    used=st.sets(st.integers(0, 3), min_size=1),
)
def test_the_slices_hold_the_same_values(sizes, axis, used):
    shape = [2, 3, 4]
    shape[axis] = sum(sizes)
    net = Net(x=shape)
    first = net.op(
        "Split", "x", np.array(sizes, np.int64), axis=axis, outputs=len(sizes), out="part"
    )
    names = [first] + [f"{first}_{index}" for index in range(1, len(sizes))]
    read = [net.op("Relu", names[index]) for index in sorted(used) if index < len(sizes)]
    after = run_pass(split_slices, net.model(*(read or [names[0]])))
    assert ops(after) == ["Slice"] * max(len(read), 1) + ["Relu"] * len(read)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_that_are_only_counted(parts):
    net = Net(x=[1, 7, 2, 2])
    first = net.op("Split", "x", axis=1, num_outputs=parts, outputs=parts)
    after = run_pass(split_slices, net.model(first, f"{first}_{parts - 1}"))
    assert ops(after) == ["Slice", "Slice"]


def test_parts_that_nothing_knows_the_size_of_stay():
    net = Net(x=[1, 4])
    first = net.op("Split", "x", axis=1, num_outputs=2, outputs=2)
    model = net.model(net.op("Relu", first))
    split = node_of(model, "Split")
    split.outputs[0].shape = None
    split_slices(model, context())
    assert ops(model) == ["Split", "Relu"]


def test_roundings_on_the_grid_of_what_is_split_go():
    net = Net(x=[1, 4, 3, 3])
    first = net.op("Split", net.quantize("x"), axis=1, num_outputs=2, outputs=2)
    model = net.model(net.quantize(first), net.quantize(f"{first}_1"))
    after = run_pass(CANONICAL, model, stage=Stage.CANONICAL, tolerance=0)
    assert ops(after) == ["QuantizeHalfEven", "Slice", "Slice"]
