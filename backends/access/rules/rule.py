"""What a rule is: an id, a clause of the guide, its documentation, and a check."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import ClassVar

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Malformed, Unknown
from dlaconv.diagnostics import Diagnostic, Location, Severity
from dlaconv.ir.documentation import Documentation

SECTIONS = ("What it does", "Why it matters on the hardware", "What to do")
"""The sections of every rule's documentation, in order."""


class Rule(ABC):
    """One limit of the hardware, checked on a file.

    The docstring of a subclass is its documentation: a sentence that names the offence, then the
    paragraphs of `SECTIONS`, each after its heading and a colon. ``dlaconv rule ID`` prints it; its
    reason becomes the note of every finding and its remedy the help.

    Attributes:
        id: stable id, such as ``IO-3``; never used again for something else.
        name: kebab-case name of the offence: "allow <name>" must read as a permission.
        clause: what the guide says, in short; "silent" with our reading where it says nothing.
        severity: of a finding, unless the check relaxes it.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    clause: ClassVar[str]
    severity: ClassVar[Severity] = Severity.ERROR

    @abstractmethod
    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields one finding per offence; takes time linear in the size of the model."""

    @cached_property
    def documentation(self) -> Documentation:
        """The docstring, taken apart."""
        return Documentation.parse(type(self).__doc__ or "", SECTIONS)

    def finding(
        self,
        location: Location,
        message: str,
        *,
        help: str = "",  # noqa: A002 - the field's name in Diagnostic
        severity: Severity | None = None,
        notes: Iterable[str] = (),
    ) -> Diagnostic:
        """A finding of this rule; the remedy and the reason come from the documentation.

        Args:
            location: the place.
            message: what is wrong, with the numbers.
            help: a remedy for this very case instead of the documented one.
            severity: instead of the rule's own.
            notes: facts that led to the finding; they precede the reason.
        """
        _, why, remedy = self.documentation.sections.values()
        return Diagnostic(
            rule=self.id,
            name=self.name,
            message=message,
            severity=severity or self.severity,
            location=location,
            help=help or remedy,
            notes=(*notes, why),
        )


class NodeRule(Rule):
    """A rule that looks at one node at a time.

    Attributes:
        ops: the operators that it looks at, unless `subjects` is overridden.
    """

    ops: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields the offences of one node.

        Raises:
            Malformed: if an attribute is no usable; becomes a finding.
            Unknown: if a shape that decides is not known; becomes a note.
        """

    def subjects(self, model: AccessModel) -> Iterable[ir.Node]:
        """The nodes to look at."""
        return model.nodes_of(*self.ops)

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Looks at every subject; what cannot be decided is said once, with a count."""
        undecided: list[tuple[ir.Node, str]] = []
        for node in self.subjects(model):
            try:
                yield from self.check_node(model, node)
            except Malformed as reason:
                yield self.at(model, node, f"cannot be checked: {reason}")
            except Unknown as reason:
                undecided.append((node, str(reason)))
        if undecided:
            node, why = undecided[0]
            yield self.finding(
                model.location(node),
                f"not decided for {len(undecided)} node(s), this one first: {why}",
                severity=Severity.NOTE,
                help="mend what GR-2 reports, then check again",
            )

    def at(
        self,
        model: AccessModel,
        node: ir.Node,
        message: str,
        *,
        help: str = "",  # noqa: A002 - the field's name in Diagnostic
        severity: Severity | None = None,
        notes: Iterable[str] = (),
    ) -> Diagnostic:
        """A finding at a node; names the node in the file where the source calls it otherwise."""
        location = model.location(node)
        if node.name and node.name != location.layer:
            notes = (*notes, f"node {node.name!r} in the file")
        return self.finding(location, message, help=help, severity=severity, notes=notes)
