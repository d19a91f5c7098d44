"""Clips in front of quantisers."""

import numpy as np
import pytest
from harness import Net, node_of, ops, run_pass
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.passes.narrow_quantise import narrow_quantise
from dlaconv.ir.rounding import Rounding

F = np.float32


@given(
    step=st.sampled_from([0.25, 0.1, 6 / 255, 0.0471]),
    bits=st.integers(2, 9),
    signed=st.booleans(),
    zero=st.sampled_from([0.0, 3.0, -1.0]),
    low=st.sampled_from([None, 0.0, -1.0, -0.3]),
    high=st.sampled_from([None, 1.0, 5.99, 6.0, 0.4]),
    rounding=st.sampled_from(list(Rounding)),
)
def test_the_integers_are_the_same(step, bits, signed, zero, low, high, rounding):
    net = Net(x=[1, 2, 16, 16])
    ends = [None if end is None else F(end) for end in (low, high)]
    y = net.quantize(
        net.op("Clip", "x", *ends), step, bits, signed=signed, zero_point=zero, rounding=rounding
    )
    x = np.linspace(-9, 9, 512, dtype=F).reshape(1, 2, 16, 16)
    x[0, 0, 0] = np.arange(16) * F(step) / 2  # ties
    after = run_pass(narrow_quantise, net.model(y), feeds={"x": x})
    assert ops(after)[-1].startswith("Quantize")


def test_the_range_ends_where_the_clip_does():
    net = Net(x=[1, 2, 4, 4])
    y = net.quantize(net.op("Clip", "x", F(0), F(6)), 0.05, 8)
    after = run_pass(narrow_quantise, net.model(y))
    assert ops(after) == ["QuantizeHalfEven"]
    found = dialect.quantisation_of(node_of(after, "QuantizeHalfEven"))
    assert (found.qmin, found.qmax) == (0, 120)


def test_every_reader_gets_its_own_range():
    net = Net(x=[1, 2, 4, 4])
    clip = net.op("Clip", "x", F(-1), F(1))
    after = run_pass(narrow_quantise, net.model(net.quantize(clip, 0.1), net.quantize(clip, 0.5)))
    found = [dialect.quantisation_of(node) for node in after.graph]
    assert [(item.qmin, item.qmax) for item in found] == [(-10, 10), (-2, 2)]


@pytest.mark.parametrize("kind", ["other reader", "output", "per channel", "nothing left"])
def test_clips_that_others_need_stay(kind):
    net = Net(x=[1, 2, 4, 4])
    clip = net.op("Clip", "x", F(0), F(6))
    if kind == "per channel":
        y = net.quantize(clip, np.array([0.1, 0.2], F).reshape(1, 2, 1, 1))
    else:
        y = net.quantize(clip, 40.0 if kind == "nothing left" else 0.1)
    outputs = {"other reader": [y, net.op("Tanh", clip)], "output": [y, clip]}.get(kind, [y])
    assert "Clip" in ops(run_pass(narrow_quantise, net.model(*outputs)))


def test_a_computed_end_stays():
    net = Net(x=[1, 2, 4, 4], top=[])
    y = net.quantize(net.op("Clip", "x", F(0), "top"), 0.1)
    model = net.model(y)
    feeds = {"x": np.ones((1, 2, 4, 4), F), "top": np.array(2, F)}
    assert ops(run_pass(narrow_quantise, model, feeds=feeds))[0] == "Clip"
