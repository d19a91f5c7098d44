"""What dlaconv tells a user about a network: severity, rule, place, reason, remedy."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names in a message, the first few of them: ``a, b and 3 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Severity(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a finding is: the file (and line, where the format has lines) and the layer.

    Attributes:
        file: path of the source file as the user gave it.
        line: 1-based line in that file, 0 when unknown.
        layer: the layer's name in the source.
        op: the layer's type in the source.
    """

    file: str = ""
    line: int = 0
    layer: str = ""
    op: str = ""

    def __str__(self) -> str:
        parts = []
        if self.file:
            parts.append(f"{self.file}:{self.line}" if self.line else self.file)
        if self.layer:
            parts.append(f'layer "{self.layer}"')
        if self.op:
            parts.append(f"({self.op})")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    Attributes:
        rule: stable id, such as ``IO-3`` (hardware rules) or ``DLA101`` (everything else).
        name: the finding in words, such as ``zero-point``.
        message: what is wrong, with the numbers.
        help: what to do about it; empty when nothing can be done.
        notes: why it matters on the hardware, or what led to it.
    """

    rule: str
    name: str
    message: str
    severity: Severity = Severity.ERROR
    location: Location = field(default_factory=Location)
    help: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.severity}[{self.rule}] {self.name}: {self.message}"]
        if place := str(self.location):
            lines.append(f"  --> {place}")
        lines += [f"  note: {note}" for note in self.notes]
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The diagnostic as JSON values; see ``schemas/diagnostics.schema.json``."""
        return {
            "rule": self.rule,
            "name": self.name,
            "severity": str(self.severity),
            "message": self.message,
            "file": self.location.file,
            "line": self.location.line,
            "layer": self.location.layer,
            "op": self.location.op,
            "help": self.help,
            "notes": list(self.notes),
        }


class Diagnostics:
    """An ordered collection of findings; passes and rules add to it, nothing stops at the first."""

    def __init__(self, items: Iterable[Diagnostic] = ()) -> None:
        self._items: dict[Diagnostic, None] = dict.fromkeys(items)

    def add(self, diagnostic: Diagnostic) -> None:
        """Adds one finding, unless the very same one is there already."""
        self._items.setdefault(diagnostic)

    def error(self, rule: str, name: str, message: str, **more: Any) -> None:
        """Adds an error; ``more`` takes the other fields of `Diagnostic`."""
        self.add(Diagnostic(rule, name, message, Severity.ERROR, **more))

    def warning(self, rule: str, name: str, message: str, **more: Any) -> None:
        """Adds a warning; ``more`` takes the other fields of `Diagnostic`."""
        self.add(Diagnostic(rule, name, message, Severity.WARNING, **more))

    def note(self, rule: str, name: str, message: str, **more: Any) -> None:
        """Adds a note; ``more`` takes the other fields of `Diagnostic`."""
        self.add(Diagnostic(rule, name, message, Severity.NOTE, **more))

    def extend(self, items: Iterable[Diagnostic]) -> None:
        """Adds several findings."""
        for item in items:
            self.add(item)

    @property
    def errors(self) -> list[Diagnostic]:
        """The findings of severity error."""
        return [item for item in self._items if item.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[Diagnostic]:
        """The findings of severity warning."""
        return [item for item in self._items if item.severity is Severity.WARNING]

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __str__(self) -> str:
        return "\n".join(str(item) for item in self._items)
