"""Every limit of the target is tested on both sides: moved by one, it changes what a case finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache

import onnx_ir as ir
import pytest

from dlaconv.backends.access.model import AccessModel
from dlaconv.diagnostics import Severity
from dlaconv.ir.target import KernelLimits, Target
from tests.backends.access.rules.rule_cases import CASES
from tests.backends.access.rules.test_rules import BY_ID, TARGET

BEYOND_ANY_FILE = {
    # a lower limit of one or zero: nothing is smaller, or ONNX itself forbids it
    "input_channels[0]-1", "input_size[0]-1", "map_size[0]-1", "map_size[0]+1",
    "conv.kernel[0]-1", "conv.padding[0]-1", "conv.map_size[0]-1", "conv.channels[0]-1",
    "conv.map_size[0]+1", "conv.channels[0]+1",
    "depthwise.kernel[0]-1", "depthwise.padding[0]-1", "depthwise.padding[0]+1",
    "depthwise.channels[0]-1", "depthwise.channels[0]+1",
    "max_pool.padding[0]-1", "max_pool.padding[0]+1", "average_pool.padding[0]-1",
    "fc_channels[0]-1", "scale_divisor[0]-1", "scale_divisor[0]+1",
    # 15 and 2049 are no multiples of 16; 2^n/256 is 2^(n-8)
    "map_channels[0]-1", "map_channels[1]+1", "scale_divisor[1]+1",
    # 0 means that there is none; cases of IO-5 have targets of their own
    "weight_buffer-1", "weight_buffer+1",
    # IO-4, CV-3 and PL-1 say the same: pools have no limits of their own in the guide
    "max_pool.kernel[0]-1", "max_pool.kernel[0]+1", "max_pool.kernel[1]-1", "max_pool.kernel[1]+1",
    "max_pool.map_size[0]-1", "max_pool.map_size[0]+1", "max_pool.map_size[1]-1",
    "max_pool.map_size[1]+1", "max_pool.channels[0]-1", "max_pool.channels[0]+1",
    "max_pool.channels[1]-1", "max_pool.channels[1]+1",
    "average_pool.map_size[0]-1", "average_pool.map_size[0]+1", "average_pool.map_size[1]-1",
    "average_pool.map_size[1]+1", "average_pool.channels[0]-1", "average_pool.channels[0]+1",
    "average_pool.channels[1]-1", "average_pool.channels[1]+1",
}  # fmt: skip


def moved(limits: object, name: str) -> Iterator[tuple[str, dict]]:
    """Each limit of a target (or of one of its windows), moved by one in either direction."""
    value = getattr(limits, name)
    if isinstance(value, int) and not isinstance(value, bool):
        for by in (-1, 1):
            yield f"{name}{by:+}", {name: value + by}
    elif isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        for place in range(len(value)):
            for by in (-1, 1):
                changed = [*value]
                changed[place] += by
                yield f"{name}[{place}]{by:+}", {name: tuple(changed)}


def variants() -> Iterator[tuple[str, Target]]:
    for field in fields(Target):
        value = getattr(TARGET, field.name)
        if isinstance(value, KernelLimits):
            for inner in fields(KernelLimits):
                for name, change in moved(value, inner.name):
                    changed = replace(value, **change)
                    yield f"{field.name}.{name}", replace(TARGET, **{field.name: changed})
        else:
            for name, change in moved(TARGET, field.name):
                yield name, replace(TARGET, **change)


VARIANTS = dict(variants())


@cache
def files() -> list[tuple[str, ir.Model, list[Severity]]]:
    """The files of all cases for the built-in target: rule, file, severities of its findings."""
    found: list[tuple[str, ir.Model, list[Severity]]] = []
    for case in CASES:
        if case.target == TARGET:
            found += [(case.rule, case.good(), []), (case.rule, case.bad(), [case.severity])]
    return found


def decided_by(target: Target) -> str:
    """The rule of a case that another target changes, empty if there is none."""
    for rule, model, expected in files():
        found = [item.severity for item in BY_ID[rule].check(AccessModel(model, target))]
        if found != expected:
            return rule
    return ""


def test_limits_are_found():
    assert len(VARIANTS) > 90
    assert set(VARIANTS) > BEYOND_ANY_FILE
    assert VARIANTS["conv.kernel[1]+1"].conv.kernel == (1, 8)
    assert decided_by(TARGET) == ""


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in BEYOND_ANY_FILE])
def test_a_limit_that_is_moved_by_one_changes_what_a_case_finds(name):
    assert decided_by(VARIANTS[name])
