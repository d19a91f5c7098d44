"""Which parts of a network run where, and what flows between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlaconv.diagnostics import Diagnostic
from dlaconv.driver.legality import for_the_host
from dlaconv.driver.turning import turned
from dlaconv.errors import ConversionError
from dlaconv.ir import provenance

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.partition import Part
    from dlaconv.ir.pipeline import Context

_SEAM_BYTES = 1 << 29
"""Memory for the values between parts; more than that is computed each time they are read."""
_ROUNDS = 16
"""How often parts are cut again because a limit shows only when a part is cut out."""


@dataclass
class CutNetwork:
    """A LEGAL network, cut into parts.

    Attributes:
        whole: the network before the cut, None if it was not cut.
        parts: in the order in which they run.
        host: each node that runs on the host: layer, operator and the reason.
        source_macs: multiplications of the network before any rewrite.
        host_macs: those of them that the host does.
    """

    whole: ir.Model | None
    parts: list[Part]
    host: list[dict[str, str]] = field(default_factory=list)
    source_macs: int = 0
    host_macs: int = 0

    @property
    def accelerator(self) -> list[Part]:
        """The parts that the accelerator runs."""
        from dlaconv.ir.partition import ACCELERATOR

        return [part for part in self.parts if part.side == ACCELERATOR]

    def seams(self, part: Part) -> list[str]:
        """The inputs of a part that other parts make."""
        if self.whole is None:
            return []
        given = {value.name for value in self.whole.graph.inputs}
        return [v.name or "" for v in part.model.graph.inputs if v.name not in given]

    def results(self, part: Part) -> list[str]:
        """The outputs of a part that the network returns, at most after what ends a network."""
        if self.whole is None:
            return [value.name or "" for value in part.model.graph.outputs]
        from dlaconv.ir.graph import is_op
        from dlaconv.ir.partition import ENDINGS, REARRANGING

        final = set(self.whole.graph.outputs)
        for node in reversed(self.whole.graph):
            if is_op(node, *ENDINGS, *REARRANGING) and final.intersection(node.outputs):
                final.update(value for value in node.inputs[:1] if value is not None)
        names = {value.name for value in final}
        return [v.name or "" for v in part.model.graph.outputs if v.name in names]


def cut_network(
    model: ir.Model,
    context: Context,
    partition: bool | None,
    source_macs: int,
    *,
    violating: bool = False,
) -> CutNetwork:
    """Cuts a LEGAL network into parts for the accelerator and the host.

    Args:
        model: the network; it is used up.
        context: target, and why rewrites did not help.
        partition: True gives the host whatever the hardware cannot run, None what ends a network
            (see `dlaconv.ir.partition.ENDINGS`) and what it cannot run of what rearranges graph
            inputs and outputs, False nothing.
        source_macs: multiplications of the network before any rewrite.
        violating: limits may be broken, so nothing goes to the host for them unasked.

    Raises:
        ConversionError: if nothing would be left for the accelerator.
    """
    from dlaconv.ir.macs import total_macs
    from dlaconv.ir.partition import ACCELERATOR, Part, cut, endings

    host = {} if partition is False else endings(model)
    able = set() if violating and not partition else _movable(model, partition)
    if able:
        host = _within(able, for_the_host(model, context.target, context.blocked)) | host
    for _ in range(_ROUNDS):
        parts, reasons = cut(model.clone(), host, context.gains)
        more = _within(able, _more(parts, context)) if able else {}
        if not more.keys() - reasons.keys():
            break
        host = reasons | more
    else:
        parts, reasons = cut(model.clone(), host, context.gains)
    if not host:
        return CutNetwork(None, [Part(ACCELERATOR, model, 0)], source_macs=source_macs)
    if not any(part.side == ACCELERATOR for part in parts):
        raise ConversionError([*context.diagnostics, _nothing_left(model, reasons)])
    reasons |= turned(model, reasons, context.target)
    nodes = [node for node in model.graph if node.outputs[0].name in reasons]
    rewritten = total_macs(model.graph)  # rewrites add multiplications on both sides
    share = total_macs(nodes) / rewritten if rewritten else 0.0
    return CutNetwork(
        model,
        parts,
        [_row(node, reasons[node.outputs[0].name or ""]) for node in nodes],
        source_macs,
        round(source_macs * share),
    )


def _movable(model: ir.Model, partition: bool | None) -> set[str]:
    """The nodes that the host may run where the hardware cannot, by their first output."""
    from dlaconv.ir.partition import borders

    if partition is None:
        return borders(model)
    return {node.outputs[0].name or "" for node in model.graph} if partition else set()


def _within(able: set[str], reasons: Mapping[str, str]) -> dict[str, str]:
    return {name: why for name, why in reasons.items() if name in able}


class Feeds:
    """What the parts of a network are fed with when the network is fed with some inputs."""

    def __init__(self, network: CutNetwork, inputs: Dataset) -> None:
        """See `of`.

        Args:
            network: the network.
            inputs: samples of its graph inputs.
        """
        self._network, self._inputs = network, inputs

    def of(self, part: Part) -> Dataset:
        """Samples for an accelerator part; values between parts are computed when they are read."""
        from dlaconv.ir.calibration.dataset import Computed, Kept

        whole, seams = self._network.whole, self._network.seams(part)
        if whole is None or not seams:
            return self._inputs
        return Kept(Computed(whole, seams, self._inputs), _SEAM_BYTES)


def _more(parts: Sequence[Part], context: Context) -> dict[str, str]:
    """Nodes that break a limit only in their part, once its channels are padded."""
    from dlaconv.ir.partition import ACCELERATOR
    from dlaconv.ir.passes.legal import PADDING
    from dlaconv.ir.pipeline import Context as Fresh

    found: dict[str, str] = {}
    for part in parts:
        if part.side != ACCELERATOR:
            continue
        padded, tried = part.model.clone(), Fresh(context.target, legalise=context.legalise)
        known = {node.outputs[0].name or "" for node in padded.graph}
        for step in PADDING:
            step(padded, tried)
        problems = for_the_host(padded, context.target, tried.blocked, padded=True)
        made = {node.outputs[0].name or "": node for node in padded.graph}
        for name, why in problems.items():
            found.setdefault(name if name in known else _cause(made.get(name), known), why)
    found.pop("", None)
    return found


def _cause(node: ir.Node | None, known: Collection[str]) -> str:
    """The nearest node of the network before one that padding has made, else behind it."""
    from dlaconv.ir.graph import producer, sole_consumer

    def before(node: ir.Node) -> ir.Node | None:
        return producer(node.inputs[0])

    def behind(node: ir.Node) -> ir.Node | None:
        return sole_consumer(node.outputs[0])

    for step in (before, behind):
        found = node
        while found is not None and found.outputs[0].name not in known:
            found = step(found)
        if found is not None:
            return found.outputs[0].name or ""
    return ""


def _row(node: ir.Node, reason: str) -> dict[str, str]:
    return {
        "layer": provenance.location(node).layer,
        "op": f"{node.domain}::{node.op_type}" if node.domain else node.op_type,
        "reason": reason,
    }


def _nothing_left(model: ir.Model, reasons: Mapping[str, str]) -> Diagnostic:
    named = [node for node in model.graph if node.outputs[0].name in reasons]
    return Diagnostic(
        "DLA320",
        "nothing-left",
        f"the host would have to run all {len(named)} nodes of the network",
        location=provenance.location(None, model),
        help="change the layers that are named, or look at `dlaconv ops`",
        notes=tuple(
            f"{node.op_type} in layer {provenance.location(node, model).layer!r}: "
            f"{reasons[node.outputs[0].name or '']}"
            for node in named
        ),
    )
