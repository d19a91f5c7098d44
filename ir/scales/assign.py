"""The pass from MAPPED to SCALED."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir import provenance
from dlaconv.ir.calibration.samples import random_inputs
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.scales.apply import apply_plan
from dlaconv.ir.scales.clipped_inputs import warn_of_clipped_inputs
from dlaconv.ir.scales.given import refuse_impossible_steps
from dlaconv.ir.scales.groups import Grouping, group_maps
from dlaconv.ir.scales.linearise import constraints_of
from dlaconv.ir.scales.policy import policy_of
from dlaconv.ir.scales.solver import Plan, align, solve_signs
from dlaconv.ir.scales.tuning import Attempt, tune


@ir_pass(tolerance=None)
def assign_scales(model: ir.Model, context: Context) -> None:
    """Gives every map a power-of-two step, weights a grid step and biases 16-bit integers.

    Groups that can stay exact are decided by the source's steps alone. For the others the errors
    are measured on the calibration data, without any on the inputs that are given, or else on
    seeded random ones. Of layers that the source leaves in floating point, more is tried, see
    `dlaconv.ir.scales.tuning`.
    """
    context.inputs = (
        context.calibration
        or context.inputs
        or random_inputs(model, context.samples, context.seed, context.rereads)
    )
    tune(model, context, _scale)


def _scale(model: ir.Model, context: Context) -> Attempt:
    grouping = group_maps(model, constraints_of(context))
    refuse_impossible_steps(grouping, context)
    plan = policy_of(context).plan(model, grouping, context) | solve_signs(grouping, context.target)
    plan = align(plan, grouping)
    _warn_of_ratios(model, grouping, plan, context)
    warn_of_clipped_inputs(model, grouping, plan, context)
    ends = [(value, value) for value in model.graph.outputs] + [
        (value, use.node.outputs[0]) for value in model.graph.inputs for use in value.uses()
    ]
    gammas = {
        value.name or "": plan[grouping.group_of[grouping.class_of[stored]]].gamma
        for value, stored in ends
        if stored in grouping.class_of  # the host takes the signs of the others
    }
    apply_plan(model, grouping, plan, context)
    return Attempt(model, context, gammas)


def _warn_of_ratios(model: ir.Model, grouping: Grouping, plan: Plan, context: Context) -> None:
    """Says what the host must know where a graph input or output is not in real units."""
    inputs = [use.node.outputs[0] for value in model.graph.inputs for use in value.uses()]
    ends = [(value, "feed round(x / {:.9g})") for value in inputs if value in grouping.class_of]
    ends += [(value, "multiply its integers by {:.9g}") for value in model.graph.outputs]
    for value, advice in ends:
        item = grouping.class_of[value]
        group_plan = plan[grouping.group_of[item]]
        if group_plan.gamma == 1.0:
            continue
        context.diagnostics.warning(
            "DLA210",
            "hidden-ratio",
            f"map {value.name!r} holds {group_plan.gamma:.6g} times the real value; its scale in "
            "the file is not its real step",
            location=provenance.location(value.producer(), model),
            help=f"{advice.format(group_plan.step(item))}, or convert with --io pin",
        )
