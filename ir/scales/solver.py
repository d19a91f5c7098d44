"""Chooses the step of every map; the maths is in ``docs/scales.md``.

Within a group every real step is base * 2^k. The solver tries as base the fraction of each map's
natural step, and one (plain powers of two), gives each step class its best exponent under that
base, and keeps the base with the least total error. In a group whose maps have one step up to
powers of two (every chain), the error is zero: all integers stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.scales.cost import SAME, Samples, error, hardware_range, natural_step
from dlaconv.ir.scales.groups import Group, Grouping, MapVariable, StepClass
from dlaconv.ir.target import Target

_USED = 0.75
"""Data that use no more than this part of a range leave enough of it for others."""
_COVER = 0.7
"""A loose map's step may be finer than its natural one by this factor (powers of two: 0.707).

The others never saturate where the source does not.
"""


@dataclass(frozen=True)
class GroupPlan:
    """The steps of one group.

    Attributes:
        base: real step over hardware step, in about [0.7, 1.4]; gamma is its inverse.
        exponents: k of the real step base * 2^k of each step class.
        error: summed error of the group's maps.
        shift: the hardware step is 2^(k + shift); not zero only where a tie asks for it.
    """

    base: float
    exponents: dict[StepClass, int]
    error: float
    shift: int = 0

    @property
    def gamma(self) -> float:
        """Hardware value over real value."""
        return 2.0**self.shift / self.base

    def step(self, item: StepClass) -> float:
        """The real step of a step class."""
        return self.base * 2.0 ** self.exponents[item]

    def hardware_exponent(self, item: StepClass) -> int:
        """N of the hardware step 2^n of a step class."""
        return self.exponents[item] + self.shift


Plan = dict[Group, GroupPlan]


def solve(grouping: Grouping, target: Target, samples: Samples) -> Plan:
    """Chooses base and exponents of every group.

    Args:
        grouping: the maps.
        target: the hardware.
        samples: unrounded values of maps on data, for groups that cannot stay exact.
    """
    return {group: solve_group(group, target, samples) for group in grouping.groups}


def solve_signs(grouping: Grouping, target: Target) -> Plan:
    """The natural steps of groups of signs, which every policy keeps."""
    nothing = Samples()
    return {
        group: solve_group(group, target, nothing) for group in grouping.groups if group.natural
    }


def align(plan: Plan, grouping: Grouping) -> Plan:
    """Shifts groups by powers of two until tied step classes have one hardware step.

    A shift changes gamma, not the real steps. Ties form trees with at most one pinned group (see
    `dlaconv.ir.scales.linearise`), so there is always a solution.
    """
    neighbours: dict[Group, list[tuple[Group, int]]] = {}
    for one, other in grouping.ties:
        first, second = grouping.group_of[one], grouping.group_of[other]
        gap = plan[first].exponents[one] - plan[second].exponents[other]
        neighbours.setdefault(first, []).append((second, gap))
        neighbours.setdefault(second, []).append((first, -gap))
    shifts: dict[Group, int] = {}
    for start in sorted(neighbours, key=lambda group: not group.pinned):
        queue = [(start, 0)] if start not in shifts else []
        while queue:
            group, shift = queue.pop()
            shifts[group] = shift
            queue += [(g, shift + gap) for g, gap in neighbours[group] if g not in shifts]
    return plan | {group: replace(plan[group], shift=shift) for group, shift in shifts.items()}


def solve_nearest(grouping: Grouping, target: Target) -> Plan:
    """Snaps each natural step to the nearest power of two (policy ``nearest``)."""
    return _solve_powers(grouping, target, lambda logs: round(sum(logs) / len(logs)))


def solve_covering(grouping: Grouping, target: Target) -> Plan:
    """Raises each natural step to the next power of two (policy ``ceil``)."""
    return _solve_powers(grouping, target, lambda logs: math.ceil(max(logs) - SAME))


def solve_least_error(grouping: Grouping, target: Target, samples: Samples) -> Plan:
    """Gives each step class the power of two with the least error on data (policy ``mse``).

    Tried are the powers of two from the one that covers the natural step down to the nearest one;
    with calibration data, down to a quarter of what the data use.

    Args:
        grouping: the maps.
        target: the hardware.
        samples: unrounded values of all maps.
    """
    plan: Plan = {}
    for group in grouping.groups:
        base, exponents, total = _given_base(group) or 1.0, {}, 0.0
        for item in group.classes:
            limits = hardware_range(item, target)
            powers = _powers(item, limits, samples)
            choices = {
                exponent: sum(
                    error(v, base * 2.0**exponent, limits, samples, strict=False) for v in item.maps
                )
                for exponent in {_within(item, base, n, limits) for n in powers}
            }
            # of steps with one error the coarsest: it saturates last
            exponents[item] = min(choices, key=lambda exponent: (choices[exponent], -exponent))
            total += choices[exponents[item]]
        plan[group] = GroupPlan(base, exponents, total)
    return plan


def _solve_powers(grouping: Grouping, target: Target, choose: Callable[[list[float]], int]) -> Plan:
    """Chooses each step class's exponent from the logarithms of its maps' natural steps."""
    plan: Plan = {}
    for group in grouping.groups:
        base, exponents = _given_base(group) or 1.0, {}
        for item in group.classes:
            limits = hardware_range(item, target)
            natural = [natural_step(variable.source, limits) for variable in item.maps]
            logs = [math.log2(step / base) for step in natural]
            exponents[item] = _within(item, base, choose(logs), limits)
        plan[group] = GroupPlan(base, exponents, math.nan)
    return plan


def solve_group(group: Group, target: Target, samples: Samples) -> GroupPlan:
    """Chooses base and exponents of one group."""
    plans = group_plans(group, target, samples)
    return min(plans, key=lambda plan: (plan.error, abs(math.log2(plan.base))))


def group_plans(group: Group, target: Target, samples: Samples) -> list[GroupPlan]:
    """The best plan of a group under each base worth trying."""
    return [_best_under(base, group, target, samples) for base in _bases(group, target, samples)]


def allowed(plan: GroupPlan, group: Group, target: Target) -> bool:
    """True if no map saturates far below its range, nor wastes more than two bits.

    Where the user says what a map must hold it does, and in a step class with such a map no step
    is coarser than all of it needs.
    """
    for item in group.classes:
        limits = hardware_range(item, target)
        step = plan.step(item)
        if any(variable.held for variable in item.maps) and (
            plan.exponents[item] not in _exponents(plan.base, item, limits, Samples())
        ):
            return False
        for variable in item.maps:
            natural = natural_step(variable.source, limits)
            finest = _finest(variable, natural, limits, Samples())
            if not finest * (1 - SAME) <= step <= 4 * natural:
                return False
    return True


def group_error(plan: GroupPlan, group: Group, target: Target, samples: Samples) -> float:
    """Summed error of a group's maps under a plan."""
    return sum(
        error(variable, plan.step(item), hardware_range(item, target), samples, shared(group))
        for item in group.classes
        for variable in item.maps
    )


def shared(group: Group) -> bool:
    """True if several step classes share the group's base, so that one's gain is another's loss."""
    return len(group.classes) > 1


def needs_samples(grouping: Grouping, target: Target, *, calibrated: bool) -> list[Group]:
    """The groups whose choice depends on data.

    Those are groups in which some map cannot have its natural step, and maps of another number of
    bits: low-bit ones may keep their integers (saturating later than the source) or the source's
    clipping range, unsigned ones have the step that calibration data ask for. A lone 8-bit map has
    no choice without calibration data.
    """
    nothing = Samples()
    needy = []
    for group in grouping.groups:
        plan = solve_group(group, target, nothing)
        for item in group.classes:
            limits = hardware_range(item, target)
            step = plan.step(item)
            if any(
                (not variable.kept and _low_bit(_top(variable.source, limits), limits))
                or _wide(_top(variable.source, limits), limits)
                or (
                    (calibrated or shared(group))
                    and abs(step / natural_step(variable.source, limits) - 1) > SAME
                )
                or (calibrated and _halved(variable.source, limits))
                for variable in item.maps
            ):
                needy.append(group)
                break
    return needy


def _top(source: Quantisation, limits: tuple[int, int]) -> int:
    """The largest integer of a format; that of one without positive integers, turned round.

    A range of ours on a map that is never negative has the integers of the hardware.
    """
    if source.qmin < 0 and not limits[0]:
        return limits[1]
    return source.qmax or -source.qmin or 1


def _low_bit(qmax: int, limits: tuple[int, int]) -> bool:
    return 2 * qmax < limits[1]


def _wide(qmax: int, limits: tuple[int, int]) -> bool:
    """More than one bit too many: such formats (uint16, say) seldom use their whole range."""
    return qmax > 2 * limits[1] + 1


def _halved(source: Quantisation, limits: tuple[int, int]) -> bool:
    """True for formats of one bit too many, whose natural step is not the source's."""
    return natural_step(source, limits) > source.scalar_step * (1 + SAME)


def _bases(group: Group, target: Target, samples: Samples) -> Iterable[float]:
    if group.pinned or all(variable.kept for variable in group.maps):
        return [1.0]
    if given := _given_base(group) or _held_base(group, target):
        return [given]
    wanted = [1.0]
    for item in group.classes:
        limits = hardware_range(item, target)
        for variable in item.maps:
            wanted.append(_fraction(natural_step(variable.source, limits)))
            if _low_bit(_top(variable.source, limits), limits) and variable.unrounded in samples:
                clip = _top(variable.source, limits) * variable.source.scalar_step
                wanted.append(_fraction(clip / limits[1]))
            if (used := _used(variable, limits, samples)) is not None:
                wanted.append(_fraction(used))
    unique: list[float] = []
    for base in wanted:
        if all(abs(base / other - 1) > SAME for other in unique):
            unique.append(base)
    return unique


def plan_at(item: StepClass, step: float, error: float) -> GroupPlan:
    """The plan of a group of one free step class with any real step."""
    base = _fraction(step)
    return GroupPlan(base, {item: round(math.log2(step / base))}, error)


def _fraction(step: float) -> float:
    """The step divided by its nearest power of two."""
    return step / 2.0 ** round(math.log2(step))


def _best_under(base: float, group: Group, target: Target, samples: Samples) -> GroupPlan:
    exponents: dict[StepClass, int] = {}
    total = 0.0
    strict = shared(group)
    for item in group.classes:
        limits = hardware_range(item, target)
        choices = {}
        for exponent in _exponents(base, item, limits, samples):
            step = base * 2.0**exponent
            choices[exponent] = sum(error(v, step, limits, samples, strict) for v in item.maps)
        exponents[item] = min(choices, key=lambda exponent: (choices[exponent], exponent))
        total += choices[exponents[item]]
    return GroupPlan(base, exponents, total)


def _exponents(
    base: float, item: StepClass, limits: tuple[int, int], samples: Samples
) -> list[int]:
    """Exponents worth trying: from the finest step that any map could use to the natural one."""
    natural = [natural_step(variable.source, limits) for variable in item.maps]
    finest = min(
        _finest(variable, step, limits, samples)
        for step, variable in zip(natural, item.maps, strict=True)
    )
    lowest = math.ceil(math.log2(finest / base) - SAME)
    highest = math.ceil(math.log2(max(natural) / base) - SAME)
    exponents = range(lowest, max(lowest, highest) + 1)
    return sorted({_within(item, base, exponent, limits) for exponent in exponents})


def _given_base(group: Group) -> float | None:
    """The base that a step which the user gives leaves to a group."""
    given = [variable.source.scalar_step for variable in group.maps if variable.exact]
    return _fraction(given[0]) if given and not group.pinned else None


def _held_base(group: Group, target: Target) -> float | None:
    """The base with which a map that shares it with none holds just what the user says."""
    if shared(group):
        return None
    limits = hardware_range(group.classes[0], target)
    step, held = max((natural_step(v.source, limits), v.held) for v in group.maps)
    return _fraction(step) if held else None


def _within(item: StepClass, base: float, exponent: int, limits: tuple[int, int]) -> int:
    """The exponent, or the next one with which all maps hold what the user says they must."""
    for variable in item.maps:
        if variable.exact:
            return round(math.log2(variable.source.scalar_step / base))
        if variable.held:
            needed = natural_step(variable.source, limits)
            exponent = max(exponent, math.ceil(math.log2(needed / base) - SAME))
    return exponent


def _powers(item: StepClass, limits: tuple[int, int], samples: Samples) -> list[int]:
    """Exponents worth trying for the least error on data."""
    highest = _exponents(1.0, item, limits, samples)[-1]
    finest = []
    for variable in item.maps:
        natural = natural_step(variable.source, limits)
        finest.append(min(_COVER * natural, _finest(variable, natural, limits, samples)))
        values = samples.get(variable.unrounded)
        if variable.loose and values is not None and values.size:
            finest.append(float(np.abs(values).max()) / limits[1] / 4 or natural)
    lowest = math.ceil(math.log2(min(finest)) - SAME)
    return list(range(lowest, highest + 1))


def _finest(
    variable: MapVariable, natural: float, limits: tuple[int, int], samples: Samples
) -> float:
    source = variable.source
    top = _top(source, limits)
    if variable.kept and not _halved(source, limits):
        return natural
    if _low_bit(top, limits):
        return min(natural * _COVER, top * source.scalar_step / limits[1])
    used = _used(variable, limits, samples)
    if used is not None:
        return min(natural * _COVER, used)
    return natural * _COVER if variable.loose else natural


def _used(variable: MapVariable, limits: tuple[int, int], samples: Samples) -> float | None:
    """The step that data need of a format of more bits than the hardware has, at least its own.

    None for other formats. Of one bit more (unsigned 8 bits) the data have to be the user's, and
    as other data may use more, the step is no finer than for other maps unless they use little.
    """
    source, values = variable.source, samples.get(variable.unrounded)
    if values is None or not values.size or not _halved(source, limits):
        return None
    used, own = float(np.abs(values).max()) / limits[1], source.scalar_step
    if _wide(_top(source, limits), limits):
        return max(used, own)
    if not variable.loose:
        return None
    natural = natural_step(source, limits)
    return own if used <= _USED * own else min(max(used, _COVER * natural, own), natural)
