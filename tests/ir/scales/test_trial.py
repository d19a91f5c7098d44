import numpy as np
import pytest

from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.scales import trial
from dlaconv.ir.scales.cost import Samples
from dlaconv.ir.scales.coverage import cover
from dlaconv.ir.scales.groups import group_maps
from dlaconv.ir.scales.linearise import constraints_of
from dlaconv.ir.scales.policy import policy_of
from dlaconv.ir.scales.solver import solve
from dlaconv.ir.scales.trial import OutputError, Trial
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net


def mapped(**settings):
    """A float network with its maps derived from data, and what is known of them."""
    net = Net(2)
    value = net.relu(net.conv(net.x))
    net.output(net.conv(value))
    data = Stacked({"x": net.data})
    context = Context(Target.load(), calibration=data, io="absorb", **settings)
    context.inputs = data
    Pipeline([(Stage.MAPPED, MAPS)]).run(net.model, context)
    return net.model, group_maps(net.model, constraints_of(context)), context


def test_the_reference_of_a_float_network_is_not_rounded():
    model, grouping, context = mapped(ranges="minmax")
    plan = solve(grouping, context.target, Samples(context.observed))
    error = Trial(model, grouping, context).error(plan)
    assert 0 < error < 1e-2  # against its own 8-bit maps it would be zero


def test_coarser_maps_make_a_larger_error():
    model, grouping, context = mapped(ranges="auto")
    found = Trial(model, grouping, context)
    errors = []
    for method in ("minmax", "percentile"):
        cover(grouping, context, method)
        errors.append(found.error(solve(grouping, context.target, Samples(context.observed))))
    for known in context.covers.values():
        known["minmax"] *= 8
    cover(grouping, context, "minmax")
    plan = solve(grouping, context.target, Samples(context.observed))
    assert found.error(plan) > 10 * max(errors)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_level_says_how_often_is_tried(level):
    model, grouping, context = mapped(optimise=level)
    left = Trial(model, grouping, context).left
    assert left == {0: 0, 1: 96, 2: 960}[level]


@pytest.mark.parametrize(("level", "tried"), [(1, False), (2, True)])
def test_float_networks_too_large_for_many_trials_get_none_in_seconds(level, tried, monkeypatch):
    monkeypatch.setattr(trial, "multiplications", lambda _: 4_000_000_000)
    model, grouping, context = mapped(optimise=level)
    assert bool(Trial(model, grouping, context).left) is tried


def test_covering_changes_no_map_that_the_source_quantises():
    net = Net(2)
    net.output(net.quantise(net.conv(net.quantise(net.x))))
    context = Context(Target.load(), calibration=Stacked({"x": net.data}))
    Pipeline([(Stage.MAPPED, MAPS)]).run(net.model, context)
    grouping = group_maps(net.model, constraints_of(context))
    assert not cover(grouping, context, "mse")
    assert all(np.isfinite(v.source.scalar_step) for g in grouping.groups for v in g.maps)


@pytest.mark.parametrize("level", [1, 2])
def test_no_trial_decides_on_the_range_of_a_graph_output(level):
    """Clipping that the samples do not show would look like a gain."""
    model, grouping, context = mapped(optimise=level)
    (output,) = model.graph.outputs
    unrounded = output.producer().inputs[0].name
    for method in context.covers[unrounded]:
        if method != "mse":
            context.covers[unrounded][method] /= 1.3
    plan = policy_of(context).plan(model, grouping, context)
    item = grouping.class_of[output]
    step = plan[grouping.group_of[item]].step(item)
    assert step == pytest.approx(context.covers[unrounded]["mse"] / 127)


def error_of(wanted, network):
    wanted = np.array(wanted, np.float32)
    return OutputError([{"y": value} for value in wanted]).of({"y": network(x)} for x in wanted)


def test_answers_next_to_nothing_do_not_decide():
    wanted = [1.0, -1.0, 1.0, 1e-6]
    assert error_of(wanted, lambda x: x + np.float32(0.1)) == pytest.approx(0.01, rel=1e-3)
    assert error_of(wanted, lambda x: x * np.float32(1.2)) == pytest.approx(0.03, rel=1e-3)


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_answers_of_zero_count_in_the_units_of_the_others(size):
    off = np.float32(0.1 * size)
    assert error_of([size, 0.0], lambda x: x + off) == pytest.approx(0.01, rel=1e-3)


def test_large_answers_do_not_decide_either():
    assert error_of([1.0, 1.0, 100.0], lambda x: x * np.float32(1.1)) == (
        pytest.approx(0.01, rel=1e-3)
    )


def test_without_any_answer_errors_still_compare():
    assert error_of([0.0, 0.0], lambda x: x + 1) > error_of([0.0, 0.0], lambda x: x) == 0
