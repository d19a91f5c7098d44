"""Grids per element on their way to the one grid of a map."""

import numpy as np
import pytest
from harness import Net, context, node_of, ops

from dlaconv.ir import dialect, provenance
from dlaconv.ir.element_grids import ElementGrids
from dlaconv.ir.execution import run
from dlaconv.ir.passes.one_grid import one_grid
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.stages import Stage, broken_invariants

F = np.float32
SHAPE = (1, 2, 2, 2)


def per_element(*numbers):
    return np.array(numbers, F).reshape(SHAPE)


def model_with(step, low, high, wraps=False):
    net = Net(x=list(SHAPE))
    grids = ElementGrids(*(np.asarray(a, F) for a in (step, low, high)), Rounding.FLOOR, wraps)
    node = dialect.fixed_point(net.value("x"), grids, name="q")
    return net.model(net.op("Relu", net._add(node, "map"), out="y"))


def applied(*arguments, **more):
    model = model_with(*arguments, **more)
    what = context()
    one_grid(model, what)
    assert not list(broken_invariants(model, Stage.IMPORTED))
    return model, what


def rules(what):
    return [item.rule for item in what.diagnostics]


def message(what):
    [only] = what.diagnostics
    return only.message


STEPS = per_element(0.25, 0.25, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25)
SAME = np.full(SHAPE, 0.25, F)


def test_steps_that_differ_become_the_finest_and_that_is_a_loss():
    model, what = applied(STEPS, -8 * STEPS, 7 * STEPS)
    node = node_of(model, "QuantizeFloor")
    found = dialect.quantisation_of(node)
    assert (found.qmin, found.qmax, found.scalar_step) == (-16, 15, 0.25)
    assert node.outputs[0].name == "map"
    assert rules(what) == ["DLA181"]
    assert "steps of 0.25 to 0.5" in message(what)
    assert "largest values of 1.75 to 3.5" in message(what)
    assert "all have steps of 0.25, 5 bits" in message(what)
    assert provenance.loss(node) in message(what)


def test_what_more_bits_than_a_map_has_loses_is_said():
    step = np.full(SHAPE, 2.0**-6, F)
    high = per_element(*[4 - 2.0**-6] * 4, *[2 - 2.0**-6] * 4)
    _, what = applied(step, 0 * step, high)
    assert "9 bits with a sign of which maps have 8" in message(what)


@pytest.mark.parametrize("wraps", [False, True])
def test_ends_that_differ_are_a_loss_unless_values_wrap(wraps):
    high = per_element(*[1.75] * 4, *[0.75] * 4)
    model, what = applied(SAME, 0 * SAME, high, wraps=wraps)
    assert rules(what) == (["DLA182"] if wraps else ["DLA181"])
    assert bool(provenance.loss(node_of(model, "QuantizeFloor"))) is not wraps
    if wraps:
        assert "the narrowest of its elements wrap beyond 0.75" in message(what)
    else:
        assert "steps of 0.25 to" not in message(what)


def test_what_wraps_everywhere_alike_saturates():
    model, what = applied(F(0.5), F(-4), F(3.5), wraps=True)
    assert rules(what) == ["DLA182"]
    assert "beyond -4 to 3.5 saturates" in message(what)
    assert ops(model) == ["QuantizeFloor", "Relu"]
    assert not provenance.loss(model.graph[0])


def test_elements_that_are_zero_stay_zero_and_nothing_is_lost():
    live = per_element(1, 0, 1, 1, 1, 1, 0, 1)
    model, what = applied(SAME, -live, 0.75 * live)
    assert ops(model) == ["QuantizeFloor", "Mul", "QuantizeFloor", "Relu"]
    first, _, last, _ = model.graph
    assert dialect.quantisation_of(first).same_grid(dialect.quantisation_of(last))
    assert last.outputs[0].name == "map"
    assert rules(what) == []
    x = np.random.default_rng(1).normal(size=SHAPE).astype(F)
    before = model_with(SAME, -live, 0.75 * live)
    np.testing.assert_array_equal(run(model, {"x": x})["y"], run(before, {"x": x})["y"])


def test_whole_channels_that_are_zero_are_factors_of_channels():
    live = np.broadcast_to(np.array([1, 0], F).reshape(1, 2, 1, 1), SHAPE)
    model, _ = applied(SAME, -live, 0.75 * live)
    [_, factor] = node_of(model, "Mul").inputs
    assert dialect.array_of(factor).shape == (1, 2, 1, 1)


def test_a_map_of_zeros_is_one():
    model, what = applied(SAME, 0 * SAME, 0 * SAME)
    assert (ops(model), rules(what)) == (["Mul", "Relu"], [])
    assert not run(model, {"x": np.ones(SHAPE, F)})["y"].any()


def test_no_grid_per_element_is_left_at_canonical():
    words = "elements of a map have one grid"
    model = model_with(STEPS, -STEPS, STEPS)
    assert words in str(list(broken_invariants(model, Stage.CANONICAL)))
    one_grid(model, context())
    assert words not in str(list(broken_invariants(model, Stage.CANONICAL)))
