"""Improves a plan by the error of the network's output; keeps only what lowers it.

The cost of a step (`dlaconv.ir.scales.cost`) looks at one map. In residual trunks one base serves
many maps and their errors add up, so the exponents are chosen by what they do to the network's
output (`dlaconv.ir.scales.trial`): coordinate search over the step classes of the groups that
cannot stay exact, and, where more is asked for, over the steps of maps that the source leaves in
floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dlaconv.ir.pipeline import Context
from dlaconv.ir.scales.cost import FAR, Samples
from dlaconv.ir.scales.groups import Group, Grouping, StepClass
from dlaconv.ir.scales.solver import (
    GroupPlan,
    Plan,
    allowed,
    group_error,
    group_plans,
    plan_at,
    shared,
    solve_nearest,
)
from dlaconv.ir.scales.trial import Trial
from dlaconv.ir.target import Target

_FINER = 2.0**-0.25
"""By how much the search moves the step of a map that is alone."""
_GAIN = 0.99
"""A change is kept if it brings the error below this share of what it was."""
_MARGIN = 10 ** (-0.2 / 10)
"""The nearest powers of two take over where they bring the error below this share."""


def refine(
    trial: Trial,
    grouping: Grouping,
    plan: Plan,
    groups: Sequence[Group],
    observed: Samples,
    context: Context,
) -> Plan:
    """Tries neighbours of a plan, group by group, on the network's output.

    Args:
        trial: tells the output's error.
        grouping: the groups of the model.
        plan: where to start.
        groups: the groups that may change.
        observed: unrounded values of the groups' maps on data.
        context: the target, and how long to search.

    Returns:
        A plan whose output error on these inputs is not above that of ``plan``, and at most 0.2 dB
        above that of the nearest powers of two for these groups.
    """
    alone = [g for g in plan if g not in groups and _movable(g)] if context.optimise > 1 else []
    if trial.left < 2 or not (groups or alone):
        return plan
    search = _Search(plan, trial, observed, context.target)
    for group in groups:
        for other in group_plans(group, context.target, observed):
            search.consider(group, other)
    search.move([*groups, *alone])
    nearest = solve_nearest(grouping, context.target)
    search.fall_back_on(plan | {group: nearest[group] for group in groups})
    return search.plan


def _movable(group: Group) -> bool:
    """True for a map by itself, inside the network, whose step the source does not say."""
    return (
        not shared(group)
        and not group.pinned
        and not group.natural
        and all(
            variable.derived
            and variable.loose
            and not variable.node.outputs[0].is_graph_output()  # see coverage
            for variable in group.maps
        )
    )


class _Search:
    """The best plan so far.

    A change must not bring a map further than a unit from the source where it was not before.
    """

    def __init__(self, plan: Plan, trial: Trial, observed: Samples, target: Target) -> None:
        self.plan = plan
        self._trial, self._observed, self._target = trial, observed, target
        self._least = trial.error(plan)
        self._far = {group: group_plan.error // FAR for group, group_plan in plan.items()}

    def consider(self, group: Group, changed: GroupPlan) -> bool:
        """Takes another plan for a group if the output's error falls."""
        old = self.plan[group]
        same = (changed.base, changed.exponents) == (old.base, old.exponents)
        if same or self._trial.left <= 0 or changed.error // FAR > self._far[group]:
            return False
        plan = self.plan | {group: changed}
        found = self._trial.error(plan)
        if found >= self._least * _GAIN:
            return False
        self.plan, self._least = plan, found
        return True

    def move(self, groups: Sequence[Group]) -> None:
        """Moves one step class at a time up or down, round and round as long as it helps."""
        moves = [(group, item, by) for group in groups for item in group.classes for by in (1, -1)]
        position = failures = 0
        while self._trial.left > 0 and failures < len(moves):
            group, item, by = moves[position % len(moves)]
            position += 1
            changed = self._moved(group, item, by)
            failures = 0 if changed and self.consider(group, changed) else failures + 1

    def _moved(self, group: Group, item: StepClass, by: int) -> GroupPlan | None:
        """The plan of a group with another step; None if it is not sensible.

        A map must neither saturate far below its range nor waste more than two bits.
        """
        old = self.plan[group]
        if _movable(group):
            return plan_at(item, old.step(item) * _FINER**by, old.error)
        changed = replace(old, exponents=old.exponents | {item: old.exponents[item] + by})
        if not allowed(changed, group, self._target):
            return None
        return replace(changed, error=group_error(changed, group, self._target, self._observed))

    def fall_back_on(self, plan: Plan) -> None:
        """Takes another plan if the best is more than 0.2 dB behind it."""
        if self._trial.error(plan) < self._least * _MARGIN:
            self.plan = plan
