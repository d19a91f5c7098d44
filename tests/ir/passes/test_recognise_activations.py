"""Activations that are spelled out."""

import itertools

import numpy as np
import pytest
from harness import Net, node_of, ops, run_pass
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir.graph import consumers, producer
from dlaconv.ir.passes.recognise_activations import Ramp, ramp_of, recognise_activations

F = np.float32


def relu6(net, x, how):
    low, high = F(0), F(6)
    if how == "Clip":
        return net.op("Clip", x, low, high)
    if how == "Min of Relu":
        return net.op("Min", net.op("Relu", x), high)
    if how == "Max of Min":
        return net.op("Max", low, net.op("Min", high, x))
    return net.op("Clip", net.op("Relu", x), None, high)


CLIPS = ["Clip", "Min of Relu", "Max of Min", "Clip of Relu"]


def shifted(net, x, how):
    if how == "x + 3":
        return net.op("Add", x, F(3))
    return net.op("Sub", x, F(-3)) if how == "x - -3" else net.op("Add", F(3), x)


def product(net, x, gate, order):
    sixth = F(1 / 6)
    return {
        "(x g)/6": lambda: net.op("Div", net.op("Mul", x, gate), F(6)),
        "(g x)*(1/6)": lambda: net.op("Mul", net.op("Mul", gate, x), sixth),
        "x (g/6)": lambda: net.op("Mul", x, net.op("Div", gate, F(6))),
        "x (g*(1/6))": lambda: net.op("Mul", x, net.op("Mul", sixth, gate)),
        "(x*(1/6)) g": lambda: net.op("Mul", net.op("Mul", x, sixth), gate),
        "g (x/6)": lambda: net.op("Mul", gate, net.op("Div", x, F(6))),
        "2 (x g)/12": lambda: net.op("Div", net.op("Mul", F(2), net.op("Mul", x, gate)), F(12)),
    }[order]()


ORDERS = [
    "(x g)/6", "(g x)*(1/6)", "x (g/6)", "x (g*(1/6))", "(x*(1/6)) g", "g (x/6)", "2 (x g)/12",
]  # fmt: skip


def recognised(net, *outputs, seed=0):
    feeds = {"x": np.random.default_rng(seed).normal(size=(1, 2, 4, 4)).astype(F) * 5}
    return run_pass(recognise_activations, net.model(*outputs), feeds=feeds)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("shift", ["x + 3", "x - -3", "3 + x"])
def test_hard_swish_in_every_spelling(order, clip, shift):
    net = Net(x=[1, 2, 4, 4])
    y = product(net, "x", relu6(net, shifted(net, "x", shift), clip), order)
    assert ops(recognised(net, y)) == ["HardSwish"]


@pytest.mark.parametrize("flipped", [False, True])
def test_hard_swish_of_a_hard_sigmoid(flipped):
    net = Net(x=[1, 2, 4, 4])
    gate = net.op("HardSigmoid", "x", alpha=1 / 6, beta=0.5)
    y = net.op("Mul", *((gate, "x") if flipped else ("x", gate)))
    assert ops(recognised(net, y)) == ["HardSwish"]


def test_hard_swish_of_a_clipped_line():
    net = Net(x=[1, 2, 4, 4])
    line = net.op("Add", net.op("Mul", "x", F(1 / 6)), F(0.5))
    y = net.op("Mul", net.op("Clip", line, F(0), F(1)), "x")
    assert ops(recognised(net, y)) == ["HardSwish"]


@pytest.mark.parametrize("before", ["Relu", "Mul", "Add"])
def test_what_is_activated_may_look_like_a_part_of_it(before):
    net = Net(x=[1, 2, 4, 4])
    x = net.op(before, "x", *([] if before == "Relu" else [F(2)]))
    gate = relu6(net, shifted(net, x, "x + 3"), "Clip")
    assert ops(recognised(net, product(net, x, gate, "x (g/6)"))) == [before, "HardSwish"]


@pytest.mark.parametrize(
    ("offset", "low", "high", "factor"),
    [(2, 0, 6, 6), (3, 0, 5, 6), (3, 1, 6, 6), (3, 0, 6, 5), (3, 0, 6, -6), (0, 0, 6, 6)],
)
def test_near_relatives_stay_what_they_are(offset, low, high, factor):
    net = Net(x=[1, 2, 4, 4])
    gate = net.op("Clip", net.op("Add", "x", F(offset)), F(low), F(high))
    y = net.op("Div", net.op("Mul", "x", gate), F(factor))
    assert ops(recognised(net, y)) == ["Add", "Clip", "Mul", "Div"]


def test_a_gate_of_another_value_is_none():
    net = Net(x=[1, 2, 4, 4])
    other = net.op("Tanh", "x")
    gate = net.op("HardSigmoid", other, alpha=1 / 6, beta=0.5)
    assert "HardSwish" not in ops(recognised(net, net.op("Mul", "x", gate)))


def test_factors_per_channel_are_no_number():
    net = Net(x=[1, 2, 4, 4])
    gate = net.op("Clip", net.op("Add", "x", np.full((2, 1, 1), 3.0)), F(0), F(6))
    y = net.op("Div", net.op("Mul", "x", gate), F(6))
    assert "HardSwish" not in ops(recognised(net, y))


def test_others_who_read_the_gate_keep_it():
    net = Net(x=[1, 2, 4, 4])
    gate = net.op("HardSigmoid", "x", alpha=1 / 6, beta=0.5)
    after = recognised(net, net.op("Mul", "x", gate), gate)
    assert sorted(ops(after)) == ["HardSigmoid", "HardSwish"]


def test_names_and_shapes_stay():
    net = Net(x=[1, 2, 4, 4])
    y = net.op("Mul", "x", net.op("HardSigmoid", "x", alpha=1 / 6, beta=0.5), out="activated")
    after = recognised(net, y)
    node = node_of(after, "HardSwish")
    assert node.outputs[0].name == "activated"
    assert tuple(node.outputs[0].shape) == (1, 2, 4, 4)
    assert consumers(after.graph.inputs[0]) == [node]


@given(
    st.lists(
        st.tuples(st.sampled_from(["Min", "Max", "Clip", "Relu"]),
                  st.integers(-4, 4), st.integers(-4, 4)),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
def test_clips_of_clips_are_one_clip(steps):
    net = Net(x=[1, 2, 4, 4])
    value = net.op("Tanh", "x")
    for op, one, other in steps:
        extra = {
            "Min": [F(one)], "Max": [F(one)], "Relu": [], "Clip": [F(one), F(other)],
        }[op]  # fmt: skip
        value = net.op(op, value, *extra)
    after = recognised(net, net.op("Mul", value, F(1)))
    found = [op for op in ops(after) if op not in {"Tanh", "Mul"}]
    ramp = ramp_of(producer(after.graph.outputs[0]).inputs[0])
    if ramp.low < ramp.high:
        assert found in (["Clip"], ["Relu"])


@pytest.mark.parametrize(("low", "high"), [*itertools.product([None, -1.0, 0.0], [None, 6.0])])
def test_a_clip_with_open_ends(low, high):
    net = Net(x=[1, 2, 4, 4])
    ends = [None if end is None else F(end) for end in (low, high)]
    after = recognised(net, net.op("Clip", "x", *ends))
    assert ops(after) == ["Relu" if (low, high) == (0.0, None) else "Clip"]


def test_a_ramp_says_its_constants():
    ramp = Ramp(None).shifted(3).clipped(0, 6).scaled(0.5)
    assert (ramp.slope, ramp.offset, ramp.low, ramp.high) == (0.5, 1.5, 0.0, 3.0)
    assert ramp.is_near(0.5, 1.5, 0, 3)
    assert not ramp.is_near(0.5, 1.5, 0, 3.1)
