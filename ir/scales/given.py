"""Which steps that the user gives cannot be."""

from __future__ import annotations

import math

from dlaconv.ir.pipeline import Context
from dlaconv.ir.scales.cost import SAME, hardware_range, natural_step
from dlaconv.ir.scales.groups import Group, Grouping, MapVariable

_FREE = "ask for a threshold, which is rounded up to a step that can be"


def refuse_impossible_steps(grouping: Grouping, context: Context) -> None:
    """Adds a diagnostic for each step of the user that another one or the hardware rules out.

    Args:
        grouping: the maps.
        context: knows what the user gives; receives the diagnostics.
    """
    for group in grouping.groups:
        refused: set[MapVariable] = set()
        for item in group.classes:
            exact = [variable for variable in item.maps if variable.exact]
            limits = hardware_range(item, context.target)
            for variable in item.maps:
                if variable.held and exact and not _agree(variable, exact[0], limits):
                    _refuse(variable, exact[0], "one step for both", context)
                    refused.add(variable)
        exact = [v for v in group.maps if v.exact and v not in refused]
        for variable in exact:
            if (why := _pinned(group, context)) and not _power(variable.source.scalar_step):
                _add(variable, f"it is no power of two, as {why}", _FREE, context)
            elif not _power(_ratio(variable, exact[0])):
                words = "steps that are powers of two apart"
                _refuse(variable, exact[0], words, context)


def _pinned(group: Group, context: Context) -> str:
    """Why steps of a group must be powers of two; empty if they need not."""
    if context.policy != "absorb":
        return f"all steps are with --scale-policy {context.policy}"
    pinned = (
        "all steps are at graph inputs and outputs (but for --io absorb) and around Tanh, Sigmoid, "
        "HardSwish, Div and MatMul"
    )
    return pinned if group.pinned else ""


def _agree(variable: MapVariable, exact: MapVariable, limits: tuple[int, int]) -> bool:
    step = exact.source.scalar_step
    if variable.exact:
        return abs(_ratio(variable, exact) - 1) < SAME
    return natural_step(variable.source, limits) < step * (1 + SAME)


def _ratio(variable: MapVariable, other: MapVariable) -> float:
    return variable.source.scalar_step / other.source.scalar_step


def _power(value: float) -> bool:
    exponent = math.log2(value)
    return abs(exponent - round(exponent)) < SAME


def _refuse(variable: MapVariable, other: MapVariable, words: str, context: Context) -> None:
    asked = context.overrides.asked[other.name]
    reason = (
        f"it is tied to {_name(other, context)!r}, for which line {asked.line} has {asked.text}: "
        f"the hardware wants {words}"
    )
    _add(variable, reason, "change one of them", context)


def _add(variable: MapVariable, reason: str, help_: str, context: Context) -> None:
    asked = context.overrides.asked[variable.name]
    problem = context.overrides.problem(asked, _name(variable, context), reason, help_)
    context.diagnostics.add(problem)


def _name(variable: MapVariable, context: Context) -> str:
    """What the source calls a map."""
    value = variable.node.inputs[0]
    if value is not None and value.is_graph_input():
        return value.name or ""
    return context.originals.get(variable.name, variable.name)
