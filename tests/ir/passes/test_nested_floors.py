"""A rounding down in front of a coarser rounding."""

import numpy as np
import pytest
from harness import Net, node_of, ops, run_pass

from dlaconv.ir import dialect, provenance
from dlaconv.ir.passes.nested_floors import nested_floors
from dlaconv.ir.rounding import Rounding

F = np.float32
FLOOR, UP = Rounding.FLOOR, Rounding.HALF_UP
X = {"x": (np.arange(512, dtype=F).reshape(1, 2, 16, 16) - 256) / 32}


def nested(first, second, between=(), **more):
    """Steps, bits and modes of both; what the pass makes of them, checked on ties and beyond."""
    net = Net(x=[1, 2, 16, 16])
    value = net.quantize("x", first[0], first[1], rounding=first[2], **more)
    for op_type in between:
        attributes = {"kernel_shape": [2, 2], "strides": [2, 2]} if op_type == "MaxPool" else {}
        value = net.op(op_type, value, **attributes)
    y = net.quantize(value, second[0], second[1], rounding=second[2], signed=len(second) < 4)
    return run_pass(nested_floors, net.model(y), feeds=X)


@pytest.mark.parametrize("between", [(), ("Relu",), ("MaxPool",), ("Relu", "MaxPool")])
@pytest.mark.parametrize(
    ("step", "mode"), [(0.125, FLOOR), (0.25, FLOOR), (0.25, UP), (1.0, UP), (2.0, FLOOR)]
)
def test_a_rounding_that_does_not_see_it_stays_alone(step, mode, between):
    after = nested((0.125, 8, FLOOR), (step, 4, mode), between)
    assert ops(after) == [*between, f"Quantize{'Floor' if mode is FLOOR else 'HalfUp'}"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0.125, 8, FLOOR), (0.125, 8, UP)),
        ((0.125, 8, FLOOR), (0.5, 8, Rounding.HALF_EVEN)),
        ((0.125, 8, UP), (0.5, 8, UP)),
        ((0.5, 8, FLOOR), (0.25, 8, FLOOR)),
        ((0.3, 8, FLOOR), (0.6, 8, FLOOR)),
    ],
)
def test_a_rounding_that_sees_it_keeps_it(first, second):
    assert len(ops(nested(first, second))) == 2


def test_a_narrower_first_range_is_kept():
    after = nested((0.125, 5, FLOOR), (0.25, 8, UP))
    found = dialect.quantisation_of(node_of(after, "QuantizeHalfUp"))
    assert (found.qmin, found.qmax) == (-8, 8)


def test_a_wider_first_range_is_not_seen():
    after = nested((0.125, 8, FLOOR), (0.25, 4, FLOOR, "unsigned"), ["Relu"])
    found = dialect.quantisation_of(node_of(after, "QuantizeFloor"))
    assert (found.qmin, found.qmax) == (0, 15)


def test_zero_points_keep_it():
    assert len(ops(nested((0.125, 8, FLOOR), (0.25, 8, FLOOR), zero_point=3))) == 2


@pytest.mark.parametrize("kind", ["output", "read", "step per channel", "moves and more"])
def test_what_others_read_stays(kind):
    net = Net(x=[1, 2, 16, 16])
    step = np.array([0.125, 0.25], F).reshape(1, 2, 1, 1) if kind == "step per channel" else 0.125
    value = net.quantize("x", step, rounding=FLOOR)
    outputs = [value] if kind == "output" else []
    if kind == "read":
        outputs = [net.op("Sigmoid", value)]
    if kind == "moves and more":
        value = net.op("LeakyRelu", value)
    y = net.quantize(value, 0.5, rounding=FLOOR)
    after = run_pass(nested_floors, net.model(y, *outputs))
    assert ops(after).count("QuantizeFloor") == 2


def test_what_the_first_one_has_lost_is_still_said():
    net = Net(x=[1, 2, 16, 16])
    y = net.quantize(net.quantize("x", 0.125, rounding=FLOOR), 0.5, rounding=FLOOR)
    model = net.model(y)
    provenance.mark_loss(model.graph[0], "one grid")
    after = run_pass(nested_floors, model)
    [node] = after.graph
    assert (provenance.loss(node), node.outputs[0].name) == ("one grid", y)
