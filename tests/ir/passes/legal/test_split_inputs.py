"""Convolutions with many input channels, as sums of parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes.legal.split_inputs import split_inputs
from tests.ir.passes.harness import Net, ops, run_pass
from tests.ir.passes.legal.support import constants, convs, narrow


def joined(sizes, *, behind=(), quantised=False, outputs=3, group=1, seed=0):
    """A convolution of joined maps, with operators between."""
    rng = np.random.default_rng(seed)
    net = Net(**{f"x{i}": [1, size, 5, 5] for i, size in enumerate(sizes)})
    names = [f"x{i}" for i in range(len(sizes))]
    y = net.op("Concat", *names, axis=1) if len(names) > 1 else names[0]
    for step in behind:
        y = net.quantize(y, step) if isinstance(step, float) else net.op(step, y)
    shape = (outputs, sum(sizes) // group, 3, 3)
    weights, bias = constants(net, rng, shape, outputs, quantised=quantised)
    y = net.op(
        "Conv", y, weights, bias, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4,
        dilations=[1, 1], group=group,
    )  # fmt: skip
    return net.model(net.op("Relu", y))


def all_of(noted):
    noted.legalise = "all"
    return noted


@given(
    sizes=st.lists(st.integers(1, 16), min_size=2, max_size=5),
    behind=st.sampled_from([(), ("Relu",), (0.25,), ("Relu", 0.5)]),
    quantised=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_sum_of_the_parts_is_the_same_number(sizes, behind, quantised, seed):
    noted = all_of(narrow(16))
    model = joined(sizes, behind=behind, quantised=quantised, seed=seed)
    after = run_pass(split_inputs.as_pass(), model, noted)
    assert all(shape_of(node.inputs[0])[1] <= 16 for node in convs(after))
    assert bool(noted.rewrites) == (sum(sizes) > 16)
    assert ops(after).count("Add") == len(convs(after)) - 1
    for rewrite in noted.rewrites:
        assert not rewrite.exact
        assert rewrite.macs == 0


def test_it_is_approximate_and_only_done_when_asked_for():
    noted = narrow(16)
    after = run_pass(split_inputs.as_pass(), joined([16, 16]), noted)
    assert len(convs(after)) == 1
    [warning] = noted.diagnostics
    assert warning.rule == "DLA313"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (joined([17]), "not joined from maps of at most 16"),
        (joined([17, 3]), "not joined from maps of at most 16"),
        (joined([8, 8, 8], behind=("Sigmoid",)), "not joined"),
        (joined([12, 12], group=3), "its groups"),
    ],
)
def test_what_has_no_parts_is_told(model, reason):
    noted = all_of(narrow(16))
    assert len(convs(run_pass(split_inputs.as_pass(), model, noted))) == 1
    [[told]] = noted.blocked.values()
    assert reason in told
