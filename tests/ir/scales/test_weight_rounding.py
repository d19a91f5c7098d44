"""Weights are rounded such that what they do to the results is least."""

import numpy as np
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.calibration.moments import covariances
from dlaconv.ir.graph import is_op
from dlaconv.ir.overrides import Asked
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.scales import SCALED
from dlaconv.ir.scales.trial import without_derived
from dlaconv.ir.scales.weight_rounding import can_be_rounded, round_by_results, rounded
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net

LIMITS = (-128, 127)


def alike(count, share=0.9, seed=0):
    """A covariance of values that have a share in common."""
    sizes = np.random.default_rng(seed).uniform(0.5, 2, count)
    return np.outer(sizes, sizes) * (share + (1 - share) * np.eye(count))


def power(errors, covariance):
    return np.einsum("ok,kl,ol->", errors, covariance, errors)


@pytest.mark.parametrize("count", [9, 64, 150])
def test_errors_cancel_where_values_vary_together(count):
    rows = np.random.default_rng(1).uniform(-100, 100, (8, count))
    covariance = alike(count)
    found = rounded(rows, covariance, LIMITS)
    nearest = np.rint(rows)
    assert power(found - rows, covariance) < power(nearest - rows, covariance) / 4
    assert np.abs(found - rows).max() < 3


@pytest.mark.parametrize("count", [9, 70])
def test_each_weight_makes_up_for_those_before_it_as_if_the_others_stayed_real(count):
    random = np.random.default_rng(7)
    rows = random.uniform(-140, 140, (4, count))
    mixed = random.normal(size=(2 * count, count)) @ random.normal(size=(count, count))
    covariance = mixed.T @ mixed / count + np.eye(count)
    errors = rounded(rows, covariance, LIMITS) - rows
    order = np.argsort(-np.diag(covariance))
    for place, k in enumerate(order):
        fixed, free = order[:place], order[place:]
        inner = covariance[np.ix_(free, free)]  # the power is least with these errors of the rest
        least = -np.linalg.solve(inner, covariance[np.ix_(free, fixed)] @ errors[:, fixed].T)
        wanted = np.clip(np.rint(rows[:, k] + least[0]), *LIMITS)
        assert np.array_equal(wanted, rows[:, k] + errors[:, k])


def test_values_that_have_nothing_to_do_with_each_other_are_rounded_to_nearest():
    rows = np.random.default_rng(2).uniform(-100, 100, (8, 20))
    covariance = np.diag(np.random.default_rng(3).uniform(1, 2, 20))
    assert (rounded(rows, covariance, LIMITS) == np.rint(rows)).all()


def test_integers_stay_in_range_and_zeros_zero():
    rows = np.random.default_rng(4).uniform(-140, 140, (8, 40))
    rows[:, 7] = 0
    rows[3] = 0
    found = rounded(rows, alike(40), LIMITS)
    assert found.dtype == np.int8
    assert not found[:, 7].any()
    assert not found[3].any()


def scaled(build, **settings):
    """A float network at MAPPED and SCALED without any search, and what its layers read."""
    net = Net(5)
    common = net.random.normal(size=(32, 1, 1, 1))
    net.data = (common + 0.3 * net.random.normal(size=(32, 16, 8, 8))).astype(np.float32)
    net.output(build(net))
    data = Stacked({"x": net.data})
    context = Context(
        Target.load(), calibration=data, optimise=0, ranges="minmax", io="absorb", **settings
    )
    Pipeline([(Stage.MAPPED, MAPS)]).run(net.model, context)
    mapped = net.model.clone()
    Pipeline([(Stage.SCALED, SCALED)]).run(net.model, context)
    source = without_derived(mapped, context)
    layers = [node for node in source.graph if is_op(node, "Conv")]
    means = {node.name: np.zeros(16) for node in layers}
    return net.model, mapped, context, list(covariances(source, data, layers, means))


def lost(model, mapped, context, seen):
    """The power of what rounding the weights adds to the result of the only layer."""
    ((name, covariance),) = seen
    (layer,) = (node for node in model.graph if node.name == name)
    (before,) = (node for node in mapped.graph if node.name == name)
    holder = layer.inputs[1].producer()
    gammas = [context.gammas[v.name] for v in (layer.inputs[0], model.graph.outputs[0])]
    integers = dialect.array_of(holder.inputs[0]).reshape(16, -1)
    real = integers * dialect.step_of(holder).reshape(-1, 1) * gammas[0] / gammas[1]
    wanted = dialect.array_of(before.inputs[1]).reshape(16, -1)
    groups, size = covariance.shape[:2]
    errors = (real - wanted).reshape(groups, -1, size)
    return sum(power(errors[group], covariance[group]) for group in range(groups))


@pytest.mark.parametrize("group", [1, 16])
def test_results_of_a_layer_come_nearer_to_the_sources(group):
    model, mapped, context, seen = scaled(lambda net: net.float_conv(net.x, group=group))
    before = lost(model, mapped, context, seen)
    assert round_by_results(model, mapped, context, seen) == 1
    assert lost(model, mapped, context, seen) < before / 2
    names = [node.name for node in model.graph]
    assert len(names) == len(set(names))


def test_only_real_weights_that_nobody_else_rounds_are_rounded():
    _, mapped, context, _ = scaled(lambda net: net.float_conv(net.x))
    (layer,) = (node for node in mapped.graph if is_op(node, "Conv"))
    assert can_be_rounded(layer, context)
    context.overrides.asked[f"{layer.name}/weights"] = Asked("q.yaml", 1, "bits: 4")
    assert not can_be_rounded(layer, context)
    net = Net(1)
    net.output(net.quantise(net.conv(net.quantise(net.x))))
    (quantised,) = (node for node in net.graph if is_op(node, "Conv"))
    assert not can_be_rounded(quantised, Context(Target.load()))
