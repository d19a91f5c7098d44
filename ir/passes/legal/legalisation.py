"""What a legalisation is: a rewrite that makes operators fit the hardware, and says at what price.

Most legalisations look at one node at a time. They return a `Plan` of new nodes that compute what
the node computed, `Blocked` with the reason where the node needs it and nothing can be done, or
None where the node is none of its business, and never change the graph themselves. One that must
see how nodes hang together changes the whole graph, and returns what it did at which node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir import provenance
from dlaconv.ir.documentation import Documentation
from dlaconv.ir.graph import drop_unread, is_op, replace_node, unique_name
from dlaconv.ir.macs import total_macs
from dlaconv.ir.pipeline import Context, Pass, Rewrite

SECTIONS = ("Identity", "Conditions", "Cost")
"""The sections of every legalisation's docstring, in order."""
MODES = ("off", "exact", "all")
"""What `Context.legalise` can be."""


@dataclass(frozen=True)
class Plan:
    """Nodes that compute what one node computed.

    Attributes:
        nodes: new nodes in order; the last one's output takes over name and uses of the old one.
        detail: what they are, in words.
        dropped: nodes in front of the old one whose work they do, too.
        behind: the activation behind the old node if they do its work, too, and take its place.
        rounded: True if the result is rounded where the old one was not, which the name stood for.
        gains: those of the new nodes that only hand values on, see `Context.gains`.
        multiples: new maps that hold a map of the source several times: its name and how often, by
            the name of the new one.
    """

    nodes: tuple[ir.Node, ...]
    detail: str
    dropped: tuple[ir.Node, ...] = ()
    behind: ir.Node | None = None
    rounded: bool = False
    gains: tuple[ir.Node, ...] = ()
    multiples: Mapping[str, tuple[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Blocked:
    """The node breaks a limit, and why this rewrite cannot help it, in words."""

    why: str


@dataclass(frozen=True)
class Change:
    """What a rewrite of the whole graph did at one node.

    Attributes:
        detail: what it did, in words.
        macs: multiplications that it added.
    """

    detail: str
    macs: int = 0


Match = Callable[[ir.Node, Context], "Plan | Blocked | None"]
Whole = Callable[[ir.Model, Context], "Iterable[tuple[ir.Node, Change | Blocked]]"]


@dataclass(frozen=True)
class Legalisation:
    """A rewrite that makes operators fit the hardware.

    Attributes:
        name: what the report calls it: the function's name.
        ops: the operators that it looks at.
        rules: ids of the rules that its result keeps.
        exact: True if no integer of a quantised network changes by it. A rewrite that adds a
            rounding is not exact, even if it is in real numbers.
        match: looks at one node; its docstring is the documentation.
        tolerance: largest relative difference of outputs in floating point.
        whole: changes the whole graph, and says at which nodes, instead of ``match``.
    """

    name: str
    ops: tuple[str, ...]
    rules: tuple[str, ...]
    exact: bool
    match: Match | None
    tolerance: float
    whole: Whole | None = None

    @cached_property
    def documentation(self) -> Documentation:
        """The docstring, taken apart."""
        return Documentation.parse((self.whole or self.match).__doc__ or "", SECTIONS)

    def as_pass(self) -> Pass:
        """The pass that applies it to every node, as far as `Context.legalise` allows."""
        return Pass(self.name, self._run, self.tolerance)

    def _run(self, model: ir.Model, context: Context) -> bool:
        if context.legalise == "off":
            return False
        changed = self._run_whole(model, context) or self._run_each(model, context)
        if changed:
            drop_unread(model.graph)
        return changed

    def _run_each(self, model: ir.Model, context: Context) -> bool:
        changed = False
        for node in [node for node in model.graph if node.op_type in self.ops]:
            if self.match is None or node.graph is None or not is_op(node, *self.ops):
                continue
            outcome = self.match(node, context)
            if isinstance(outcome, Blocked):
                _note(context, node, f"{self.name}: {outcome.why}")
            elif outcome is not None and not self.exact and context.legalise != "all":
                _note(context, node, f"{self.name} would be approximate")
                context.diagnostics.add(self._only_approximate(node, model, outcome))
            elif outcome is not None:
                self._apply(node, outcome, context)
                changed = True
        return changed

    def _run_whole(self, model: ir.Model, context: Context) -> bool:
        changed = False
        for node, outcome in self.whole(model, context) if self.whole is not None else ():
            if isinstance(outcome, Blocked):
                _note(context, node, f"{self.name}: {outcome.why}")
                continue
            layer = provenance.location(node).layer
            context.rewrites.append(
                Rewrite(self.name, layer, outcome.detail, self.exact, outcome.macs)
            )
            changed = True
        return changed

    def _apply(self, node: ir.Node, plan: Plan, context: Context) -> None:
        layer = provenance.location(node).layer
        cost = total_macs(plan.nodes) - total_macs((node, *plan.dropped))
        graph = node.graph
        for new in plan.nodes:
            provenance.inherit(new, node)
        replace_node(plan.behind or node, *plan.nodes)
        context.gains.update(gain.name or "" for gain in plan.gains)
        for name, (original, times) in plan.multiples.items():
            context.originals[name] = context.originals.get(original, original)
            context.multiples[name] = times * context.multiples.get(original, 1.0)
        if plan.rounded and isinstance(graph, ir.Graph):
            result = plan.nodes[-1].outputs[0]
            result.name = unique_name(graph, f"{result.name}/rounded")
        context.rewrites.append(Rewrite(self.name, layer, plan.detail, self.exact, cost))

    def _only_approximate(self, node: ir.Node, model: ir.Model, plan: Plan) -> Diagnostic:
        return Diagnostic(
            "DLA313",
            "approximate-rewrite",
            f"{node.op_type} fits the hardware only approximately: {plan.detail}",
            Severity.WARNING,
            provenance.location(node, model),
            help="--legalise all does it, and verification says what it costs",
            notes=(self.documentation.summary,),
        )


def legalisation(
    *ops: str, rules: tuple[str, ...], exact: bool = True, tolerance: float = 1e-5
) -> Callable[[Match], Legalisation]:
    """Makes a legalisation of a `Match`, named after it; see `Legalisation` for the arguments."""

    def wrap(match: Match) -> Legalisation:
        return Legalisation(match.__name__, ops, rules, exact, match, tolerance)

    return wrap


def graph_legalisation(
    *ops: str, rules: tuple[str, ...], tolerance: float = 1e-5
) -> Callable[[Whole], Legalisation]:
    """Makes an exact legalisation of a `Whole`, named after it."""

    def wrap(whole: Whole) -> Legalisation:
        return Legalisation(whole.__name__, ops, rules, True, None, tolerance, whole)

    return wrap


def _note(context: Context, node: ir.Node, reason: str) -> None:
    context.blocked.setdefault(node.outputs[0].name or "", []).append(reason)
