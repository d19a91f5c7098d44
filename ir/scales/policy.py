"""The policies of scale assignment, each as one object; the maths is in ``docs/scales.md``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dlaconv.ir.calibration.effort import affordable
from dlaconv.ir.calibration.ranges import methods
from dlaconv.ir.calibration.samples import observed_values
from dlaconv.ir.pipeline import Context
from dlaconv.ir.scales.cost import Samples
from dlaconv.ir.scales.coverage import cover
from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.groups import Group, Grouping
from dlaconv.ir.scales.refine import refine
from dlaconv.ir.scales.snap import snap_to_cover, snap_to_least_error, snap_to_nearest
from dlaconv.ir.scales.solver import (
    Plan,
    needs_samples,
    shared,
    solve,
    solve_covering,
    solve_least_error,
    solve_nearest,
)
from dlaconv.ir.scales.trial import Trial
from dlaconv.ir.scales.weights import LinearScaling, ScaledWeights, keep_integers
from dlaconv.ir.target import Target

_UNSEEN = 10 ** (0.3 / 10)
"""What a range that clips must gain over one that does not: data that were not seen clip more."""

WeightScaling = Callable[
    [np.ndarray, np.ndarray | None, np.ndarray | None, LinearScaling, Target, WeightGrid],
    ScaledWeights,
]
"""Puts a layer on the grids; the parameters are those of `keep_integers`."""


@dataclass(frozen=True)
class Policy:
    """How steps are chosen.

    Attributes:
        name: what ``--scale-policy`` calls it.
        plan: chooses the steps of the maps of a MAPPED model.
        weights: chooses the steps of a layer's weights, and their integers.
        keeps_integers: True if everything is done for the source's integers: sums become
            convolutions, and biases make up for directed roundings. The others say what a
            converter without ratios gives: gamma is one on every map.
    """

    name: str
    plan: Callable[[ir.Model, Grouping, Context], Plan]
    weights: WeightScaling
    keeps_integers: bool = False


def policy_of(context: Context) -> Policy:
    """The policy that a context asks for."""
    return POLICIES[context.policy]


def _absorb(model: ir.Model, grouping: Grouping, context: Context) -> Plan:
    trial = Trial(model, grouping, context)
    choice = methods(context.ranges) if context.covers else ()
    if len(choice) > 1 and trial.left > len(choice):
        found = {}
        for method in choice:
            cover(grouping, context, method)
            solved = _solved(model, grouping, context)
            error = trial.error(solved.plan) * (1.0 if method == "minmax" else _UNSEEN)
            found[method] = error, solved
        best = min(found, key=lambda method: found[method][0])
        cover(grouping, context, best)
        _, solved = found[best]
    else:
        solved = _solved(model, grouping, context)
    return refine(trial, grouping, solved.plan, solved.contested, solved.observed, context)


class _Solved(NamedTuple):
    """The plan by the errors of maps, the groups that cannot stay exact, and what was seen."""

    plan: Plan
    contested: list[Group]
    observed: Samples


def _solved(model: ir.Model, grouping: Grouping, context: Context) -> _Solved:
    needy = needs_samples(grouping, context.target, calibrated=context.calibration is not None)
    observed = _observed(model, needy, context) if needy else Samples()
    plan = solve(grouping, context.target, observed)
    return _Solved(plan, [group for group in needy if shared(group)], observed)


def _nearest(model: ir.Model, grouping: Grouping, context: Context) -> Plan:
    return solve_nearest(grouping, context.target)


def _ceil(model: ir.Model, grouping: Grouping, context: Context) -> Plan:
    return solve_covering(grouping, context.target)


def _mse(model: ir.Model, grouping: Grouping, context: Context) -> Plan:
    observed = _observed(model, grouping.groups, context)
    return solve_least_error(grouping, context.target, observed)


def _observed(model: ir.Model, groups: list[Group], context: Context) -> Samples:
    names = [variable.unrounded for group in groups for variable in group.maps]
    assert context.inputs is not None
    data = context.inputs if context.calibration else affordable(model, context.inputs)
    known = {name: context.observed[name] for name in names if name in context.observed}
    rest = observed_values(model, data, [name for name in names if name not in known])
    return Samples(known | rest)


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("absorb", _absorb, keep_integers, keeps_integers=True),
        Policy("nearest", _nearest, snap_to_nearest),
        Policy("ceil", _ceil, snap_to_cover),
        Policy("mse", _mse, snap_to_least_error),
    )
}
"""Every policy by name; the default comes first."""
