"""What of a network the hardware can run: its rules, asked before there are scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dlaconv.diagnostics import Severity

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.diagnostics import Diagnostic
    from dlaconv.ir.target import Target

_PADDED_LATER = ("IO-3",)
"""Rules that padding sees to, once a network is cut."""


def violations(model: ir.Model, target: Target) -> list[tuple[str, Diagnostic]]:
    """What a network breaks of the rules that need no scales.

    Args:
        model: a CANONICAL or LEGAL model; it is not changed.
        target: the limits.

    Returns:
        Each error with the name of the first output of its node, or of the graph input concerned.
    """
    from dlaconv.backends.access.model import AccessModel
    from dlaconv.backends.access.rules.table import STRUCTURAL

    view = AccessModel(_without_quantisation(model), target, "guide")
    return [
        (item.location.layer, item)
        for rule in STRUCTURAL
        for item in rule.check(view)
        if item.severity is Severity.ERROR
    ]


def for_the_host(
    model: ir.Model, target: Target, blocked: Mapping[str, list[str]], *, padded: bool = False
) -> dict[str, str]:
    """The nodes that the hardware cannot run, by name of their first output, with the reason.

    Args:
        model: a LEGAL model.
        target: the limits.
        blocked: why rewrites did not help, see `dlaconv.ir.pipeline.Context`.
        padded: the channels of its maps have been padded as far as they can be.
    """
    from dlaconv.ir.passes.maps.known_operators import problem_of

    made = {node.outputs[0].name or "": node for node in model.graph}
    found: dict[str, str] = {}
    for name, node in made.items():
        if problem := problem_of(node):
            found[name] = problem[2]
    for name, item in violations(model, target):
        if item.rule in _PADDED_LATER and not padded:
            continue
        reason = f"{item.rule}: {item.message}"
        if item.rule in _PADDED_LATER and (spoilers := list(_spoilers(made[name]))):
            runners = spoilers
            reason += ", and it mixes them, so that padding stops before it"
        else:
            runners = [name] if name in made else list(_readers_of_input(name, model))
        for runner in runners:
            found.setdefault(runner, reason)
    return {name: "; ".join([why, *blocked.get(name, [])]) for name, why in found.items()}


def _spoilers(node: ir.Node) -> Iterator[str]:
    """The nodes that keep a map from being padded: without them it would end its part.

    They are found behind operators that treat every channel alike; convolutions and fully connected
    layers have weights that can be zero.
    """
    from dlaconv.ir import dialect
    from dlaconv.ir.graph import consumers, is_op
    from dlaconv.ir.layers import ACTIVATIONS

    alike = (*ACTIVATIONS, "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Concat")
    seen: set[ir.Node] = set()
    queue = [node]
    while queue:
        for reader in consumers(queue.pop().outputs[0]):
            if reader in seen:
                continue
            seen.add(reader)
            if is_op(reader, *alike) or dialect.is_quantize(reader):
                queue.append(reader)
            elif not is_op(reader, "Conv", "Gemm"):
                yield reader.outputs[0].name or ""


def _readers_of_input(name: str, model: ir.Model) -> Iterator[str]:
    """The nodes that read a graph input which does not fit, behind quantisers: the host's."""
    from dlaconv.ir import dialect
    from dlaconv.ir.graph import consumers

    values = [value for value in model.graph.inputs if value.name == name]
    while values:
        for node in consumers(values.pop()):
            if dialect.is_quantize(node):
                values.append(node.outputs[0])
            else:
                yield node.outputs[0].name or ""


def _without_quantisation(model: ir.Model) -> ir.Model:
    """A copy in floating point, whose nodes are called after their first output."""
    import onnx_ir as ir

    from dlaconv.ir import dialect, provenance
    from dlaconv.ir.graph import bypass, replace_node
    from dlaconv.ir.lowering import lowered
    from dlaconv.ir.saturation import saturating_clip

    copy = model.clone()
    for node in list(copy.graph):
        if (saturation := saturating_clip(node)) is not None:
            if saturation.rectified:
                replace_node(node, ir.node("Relu", node.inputs[:1], name=node.name))
            else:
                bypass(node)
            continue
        x = node.inputs[0] if node.inputs else None
        stored = dialect.is_quantize(node) or dialect.is_bipolar(node)
        if stored and x is not None and x.const_value is None:
            node.outputs[0].replace_all_uses_with(x, replace_graph_outputs=True)
            copy.graph.remove(node, safe=True)
    copy = lowered(copy)
    for node in copy.graph:
        provenance.mark(node, node.outputs[0].name or "", node.op_type)
    return copy
