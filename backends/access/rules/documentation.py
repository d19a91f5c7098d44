"""The documentation of rules and operators, generated from the rules and the target."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from dlaconv.backends.access.model import PIECEWISE, PIPELINED, RESHAPING
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.backends.access.rules.table import RULES
from dlaconv.backends.access.rules.wording import one_of, span
from dlaconv.ir.target import KernelLimits, Target

FAMILIES = {
    "GR": "The file as a whole",
    "IO": "Inputs, feature maps and weights",
    "CV": "Convolution",
    "DW": "Depth-wise convolution",
    "AC": "Activations",
    "PL": "Pooling",
    "FC": "Fully connected layers",
    "EL": "Element-wise operators",
    "CT": "Concatenation",
    "BN": "Batch normalisation",
    "MM": "Matrix multiplication",
    "RS": "Sums",
    "TR": "Transpose and Reshape",
    "SC": "Scales and stored numbers",
    "AT": "Private attributes",
}
"""Titles by the letters of an id."""

_PREAMBLE = """\
# Rules

What `dlaconv check` looks for in a file for the ACCESS DLA. This page is generated from the rules
themselves; `dlaconv rule ID` prints one of them. "Clause" is what the public guide (v1.2.0) says;
where it is silent, our reading is given. All limits come from the target file, so `--target FILE`
changes the numbers that are checked.

SC-11 of the guide is about calibration data that the input's scale clips. No file holds them, so it
is no rule; conversions report such inputs as [DLA211](diagnostics.md#dla211-clipped-input).
"""


def find_rule(rule_id: str, extra: Sequence[Rule] = ()) -> Rule | None:
    """The rule with an id, in any letter case; None if there is none."""
    return next((rule for rule in (*RULES, *extra) if rule.id.lower() == rule_id.lower()), None)


def rule_text(rule_id: str, extra: Sequence[Rule] = ()) -> str:
    """The documentation of a rule as plain text.

    Raises:
        KeyError: if there is no such rule.
    """
    if (rule := find_rule(rule_id, extra)) is None:
        raise KeyError(rule_id)
    lines = [f"{rule.id} {rule.name} ({rule.severity})", "", rule.documentation.summary]
    lines += ["", f"Clause: {rule.clause}"]
    for heading, text in rule.documentation.sections.items():
        lines += ["", f"{heading}: {text}"]
    return "\n".join(lines)


def rule_list(extra: Sequence[Rule] = ()) -> list[dict[str, str]]:
    """Every rule as JSON values: id, name, severity, clause and the parts of its documentation."""
    return [_as_json(rule) for rule in (*RULES, *extra)]


def rules_markdown() -> str:
    """The whole of ``docs/rules.md``."""
    parts = [_PREAMBLE, "| id | name | severity |", "|---|---|---|"]
    parts += [
        f"| [{rule.id}](#{_anchor(rule)}) | {rule.name} | {rule.severity} |" for rule in RULES
    ]
    for letters, title in FAMILIES.items():
        parts.append(f"\n## {title}")
        for rule in RULES:
            if rule.id.split("-")[0] != letters:
                continue
            parts.append(f"\n### {rule.id} {rule.name}\n\n{rule.documentation.summary}\n")
            parts.append(f"*Severity:* {rule.severity}. *Clause:* {rule.clause}")
            parts += [
                f"\n**{heading}.** {text}" for heading, text in rule.documentation.sections.items()
            ]
    return "\n".join(parts) + "\n"


def ops_table(target: Target) -> list[dict[str, Any]]:
    """What the hardware allows, one row per operator of a target in its order.

    Convolution has two rows. Keys: ``op``, ``limits`` (kernels, strides, pads, maps, channels in
    words), ``attributes`` (list of the private attributes that it carries), ``scales`` (whether
    input and output scale may differ).
    """
    rows: list[dict[str, Any]] = []
    for op, attributes in target.ops.items():
        scales = "same" if op in target.same_scale_ops else "may differ"
        names = {op: _limits(op, target)}
        if op == "Conv":
            names["Conv (depth-wise)"] = _window(target.depthwise)
        if op == "BatchNormalization":
            scales = "folded"
        rows += [
            {"op": name, "limits": limits, "attributes": list(attributes), "scales": scales}
            for name, limits in names.items()
        ]
    return rows


def _limits(op: str, target: Target) -> str:
    average = target.average_pool
    words = {
        "Conv": _window(target.conv),
        "MaxPool": _window(
            target.max_pool,
            kernel=one_of([f"{size}x{size}" for size in target.max_pool_kernels]),
            pads=f"bottom and right {span(target.max_pool.padding)}, top and left 0",
        ),
        "AveragePool": _window(
            average, pads=f"top and left {span(average.padding)}, bottom and right 0"
        ),
        "GlobalAveragePool": f"map {span(average.kernel)} on each side",
        "Gemm": f"channels in and out {span(target.fc_channels)}; alpha = beta = 1, transB = 1",
        "MatMul": "two maps, no constant",
        "Add": "two maps of one shape, no constant",
        "Div": "two maps, no constant; the divisor may have one channel",
        "ReduceSum": "keepdims = 1, not over the batch",
        "Concat": f"on channels, parts in multiples of {target.channel_multiple}",
        "BatchNormalization": "directly after Conv, Gemm or MatMul",
        "HardSwish": f"piecewise linear; needs opset {target.opset_hardswish}",
    }
    words |= dict.fromkeys(PIPELINED, "directly after the operator that it acts on")
    words = dict.fromkeys(PIECEWISE, "piecewise linear") | words
    words |= dict.fromkeys(RESHAPING, "the batch stays first")
    return words.get(op, "")


def _window(limits: KernelLimits, kernel: str = "", pads: str = "") -> str:
    kernel = kernel or f"{span(limits.kernel)} on each side"
    pads = pads or span(limits.padding)
    return (
        f"kernel {kernel}; stride {one_of(limits.strides)}; pads {pads}; "
        f"map {span(limits.map_size)} on each side; channels {span(limits.channels)}"
    )


def _as_json(rule: Rule) -> dict[str, str]:
    what, why, remedy = rule.documentation.sections.values()
    return {
        "id": rule.id,
        "name": rule.name,
        "severity": str(rule.severity),
        "clause": rule.clause,
        "summary": rule.documentation.summary,
        "what": what,
        "why": why,
        "remedy": remedy,
    }


def _anchor(rule: Rule) -> str:
    return f"{rule.id} {rule.name}".lower().replace(" ", "-")


if __name__ == "__main__":
    sys.stdout.write(rules_markdown())
