"""What can be said about a diagnostic that is no rule of the hardware."""

from __future__ import annotations

from dataclasses import dataclass

from dlaconv.diagnostics import Severity


@dataclass(frozen=True)
class Explanation:
    """An id that starts with ``DLA``, explained.

    Attributes:
        id: stable id, such as ``DLA301``; never used again for something else.
        name: the finding in words, in kebab case; every use of the id has this name.
        summary: one sentence that says what was found.
        why: why it matters.
        remedy: what to do.
        severity: the worst that it is reported with.
    """

    id: str
    name: str
    summary: str
    why: str
    remedy: str
    severity: Severity = Severity.ERROR

    def as_json(self) -> dict[str, str]:
        """The explanation as JSON values, with the keys that a rule of the hardware has."""
        return {
            "id": self.id,
            "name": self.name,
            "severity": str(self.severity),
            "clause": "",
            "summary": self.summary,
            "what": self.summary,
            "why": self.why,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        """The explanation as plain text."""
        return (
            f"{self.id} {self.name} ({self.severity})\n\n{self.summary}\n\n"
            f"Why it matters: {self.why}\n\nWhat to do: {self.remedy}"
        )
