"""Whatever the solver tries, maps hold what the user says, and have the steps that are given."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.scales.groups import Group, Grouping, MapVariable, StepClass
from dlaconv.ir.scales.solver import (
    allowed,
    group_plans,
    solve,
    solve_covering,
    solve_least_error,
    solve_nearest,
)
from dlaconv.ir.target import Target

TARGET = Target.load()
REACH = 127


def variable(step, *, held=False, exact=False):
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, 4])
    source = Quantisation.of(np.float32(step), 8)
    node = dialect.quantize(x, source, name="q")
    return MapVariable(node, source, True, loose=not held, held=held, exact=exact)


STEPS = st.floats(1e-6, 1e6)
CLASSES = st.lists(st.tuples(STEPS, st.booleans()), min_size=1, max_size=3)
GROUPS = st.lists(CLASSES, min_size=1, max_size=4)


def grouped(classes, *, pinned=False):
    items = [StepClass([variable(step, held=held) for step, held in maps]) for maps in classes]
    group = Group(items, pinned)
    return group, Grouping([group], {}, dict.fromkeys(items, group), [])


def plans(group, grouping):
    yield solve(grouping, TARGET, {})[group]
    yield from group_plans(group, TARGET, {})
    for method in (solve_nearest, solve_covering):
        yield method(grouping, TARGET)[group]
    yield solve_least_error(grouping, TARGET, {})[group]


@given(GROUPS, st.booleans())
def test_no_plan_is_finer_than_what_a_map_must_hold(classes, pinned):
    group, grouping = grouped(classes, pinned=pinned)
    for plan in plans(group, grouping):
        for item in group.classes:
            step = plan.step(item)
            needed = [v.source.scalar_step for v in item.maps if v.held]
            assert all(step >= least * (1 - 1e-5) for least in needed)
            if needed:  # nor coarser than twice what any map of the class asks for
                assert step < 2 * max(v.source.scalar_step for v in item.maps) * (1 + 1e-5)


@given(STEPS, st.integers(-3, 3))
def test_a_search_may_not_move_a_map_that_must_hold_something(step, by):
    group, grouping = grouped([[(step, True)], [(step * 1.3, False)]])
    plan = solve(grouping, TARGET, {})[group]
    item = group.classes[0]
    moved = type(plan)(plan.base, plan.exponents | {item: plan.exponents[item] + by}, 0.0)
    assert allowed(moved, group, TARGET) is (by == 0)


@given(STEPS, GROUPS)
def test_a_step_that_is_given_is_met_by_every_plan(step, classes):
    group, grouping = grouped(classes)
    group.classes[0].maps[:] = [variable(step, held=True, exact=True)]
    for plan in plans(group, grouping):
        assert plan.step(group.classes[0]) == pytest.approx(step, rel=1e-5)
