"""Improves a plan by the error of the network's output; keeps only what lowers it.

The cost of a step (`dlaconv.ir.scales.cost`) looks at one map. In residual trunks one base serves
many maps and their errors add up, so the exponents are chosen by what they do to the network's
output: coordinate search over the step classes of the groups that cannot stay exact. One session
serves every trial: the steps of the maps are inputs of its graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.calibration.effort import affordable, multiplications
from dlaconv.ir.execution import Arrays, Executor
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.scales.cost import FAR, Samples, hardware_range
from dlaconv.ir.scales.groups import Group, Grouping
from dlaconv.ir.scales.solver import (
    GroupPlan,
    Plan,
    allowed,
    group_error,
    group_plans,
    solve_nearest,
)

_TRIALS = 96
_ON_DATA, _ON_RANDOM_INPUTS = 2e11, 2e10
"""Multiplications that all trials together may take; random inputs are not worth more."""
_GAIN = 0.99
"""A change is kept if it brings the error below this share of what it was."""
_MARGIN = 10 ** (-0.2 / 10)
"""The nearest powers of two take over where they bring the error below this share."""


def refine(
    model: ir.Model,
    grouping: Grouping,
    plan: Plan,
    groups: Sequence[Group],
    observed: Samples,
    context: Context,
) -> Plan:
    """Tries neighbours of a plan, group by group, on the network's output.

    Args:
        model: the MAPPED model; its own output is the reference.
        grouping: the groups of the model.
        plan: where to start.
        groups: the groups that may change.
        observed: unrounded values of the groups' maps on data.
        context: its inputs are what the network is tried on, as many as are affordable.

    Returns:
        A plan whose output error on these inputs is not above that of ``plan``, and at most 0.2 dB
        above that of the nearest powers of two for these groups.
    """
    assert context.inputs is not None
    samples = list(affordable(model, context.inputs))
    work = len(samples) * max(multiplications(model), 1)
    budget = _ON_RANDOM_INPUTS if context.calibration is None else _ON_DATA
    trials = int(min(_TRIALS, budget // max(work, 1)))
    if trials < 2 or not groups:
        return plan
    search = _Search(plan, _Trial(model, grouping, samples, context), observed, trials)
    for group in groups:
        for other in group_plans(group, context.target, observed):
            search.consider(group, other)
    search.move_exponents(groups)
    nearest = solve_nearest(grouping, context.target)
    search.fall_back_on(plan | {group: nearest[group] for group in groups})
    return search.plan


class _Search:
    """The best plan so far, and how many trials are left.

    A change must not bring a map further than a unit from the source where it was not before.
    """

    def __init__(self, plan: Plan, trial: _Trial, observed: Samples, trials: int) -> None:
        self.plan, self.trials = plan, trials
        self._trial, self._observed = trial, observed
        self._least = trial.error(plan)
        self._far = {group: group_plan.error // FAR for group, group_plan in plan.items()}

    def consider(self, group: Group, changed: GroupPlan) -> bool:
        """Takes another plan for a group if the output's error falls."""
        old = self.plan[group]
        same = (changed.base, changed.exponents) == (old.base, old.exponents)
        if same or self.trials <= 0 or changed.error // FAR > self._far[group]:
            return False
        self.trials -= 1
        plan = self.plan | {group: changed}
        found = self._trial.error(plan)
        if found >= self._least * _GAIN:
            return False
        self.plan, self._least = plan, found
        return True

    def move_exponents(self, groups: Sequence[Group]) -> None:
        """Moves one step class at a time by one exponent, round and round as long as it helps."""
        moves = [(group, item, by) for group in groups for item in group.classes for by in (1, -1)]
        position = failures = 0
        while self.trials > 0 and failures < len(moves):
            group, item, by = moves[position % len(moves)]
            position += 1
            old = self.plan[group]
            exponents = old.exponents | {item: old.exponents[item] + by}
            changed = self._trial.measured(replace(old, exponents=exponents), group, self._observed)
            failures = 0 if changed and self.consider(group, changed) else failures + 1

    def fall_back_on(self, plan: Plan) -> None:
        """Takes another plan if the best is more than 0.2 dB behind it."""
        if self._trial.error(plan) < self._least * _MARGIN:
            self.plan = plan


class _Trial:
    """The source's network with the hardware's map steps as inputs."""

    def __init__(
        self,
        model: ir.Model,
        grouping: Grouping,
        samples: Sequence[Arrays],
        context: Context,
    ) -> None:
        reference = Executor(model)
        self._samples = samples
        self._wanted = [reference.run(feeds) for feeds in samples]
        self._grouping = grouping
        self._target = context.target
        self._executor = Executor(self._parametrised(model))

    def _parametrised(self, model: ir.Model) -> ir.Model:
        copy = model.clone()
        nodes = {node.name: node for node in copy.graph if dialect.is_quantize(node)}
        for group in self._grouping.groups:
            for item in group.classes:
                low, high = hardware_range(item, self._target)
                for variable in item.maps:
                    old = nodes[variable.node.name]
                    x, result = old.inputs[0], old.outputs[0]
                    assert x is not None
                    zero = np.zeros((), np.float32)
                    fresh = dialect.quantize(
                        x, Quantisation(zero + 1, zero, low, high), name=f"trial/{old.name}"
                    )
                    step = ir.val(
                        _step_input(variable.name), dtype=ir.DataType.FLOAT, shape=ir.Shape(())
                    )
                    fresh.replace_input_with(1, step)
                    copy.graph.inputs.append(step)
                    copy.graph.insert_before(old, fresh)
                    zero_point = fresh.inputs[2]
                    assert zero_point is not None
                    copy.graph.register_initializer(zero_point)
                    result.replace_all_uses_with(fresh.outputs[0], replace_graph_outputs=True)
                    copy.graph.remove(old, safe=True)
                    result.name, fresh.outputs[0].name = f"{result.name}/old", result.name
        return copy

    def error(self, plan: Plan) -> float:
        """Noise over signal of the outputs, summed over outputs."""
        steps = {
            _step_input(variable.name): np.array(plan[group].step(item), np.float32)
            for group in self._grouping.groups
            for item in group.classes
            for variable in item.maps
        }
        noise: dict[str, float] = {}
        signal: dict[str, float] = {}
        for feeds, wanted in zip(self._samples, self._wanted, strict=True):
            for name, got in self._executor.run(feeds | steps).items():
                off = (got - wanted[name]).astype(np.float64)
                noise[name] = noise.get(name, 0.0) + float(np.vdot(off, off))
                power = float(np.vdot(wanted[name], wanted[name]))
                signal[name] = signal.get(name, 0.0) + power
        return sum(noise[name] / (signal[name] or 1.0) for name in noise)

    def measured(self, plan: GroupPlan, group: Group, observed: Samples) -> GroupPlan | None:
        """The plan with its error at the maps, None if it is not sensible.

        A map must neither saturate far below its range nor waste more than two bits.
        """
        if not allowed(plan, group, self._target):
            return None
        return replace(plan, error=group_error(plan, group, self._target, observed))


def _step_input(name: str) -> str:
    return f"step of {name}"
