"""The explanations as Markdown: ``docs/diagnostics.md``.

``python -m dlaconv.explanations.page > docs/diagnostics.md`` writes it anew; a test compares the
two.
"""

from __future__ import annotations

import sys

from dlaconv.explanations import EXPLANATIONS, FAMILIES

_HEAD = """\
# Diagnostics

What dlaconv says besides [the rules of the hardware](rules.md), by the id in brackets behind its
severity. This page is generated; `dlaconv rule ID` prints one of them. The ids of plugins start
with other letters.
"""


def diagnostics_markdown() -> str:
    """The whole of ``docs/diagnostics.md``."""
    parts = [_HEAD, "| id | name | severity |", "|---|---|---|"]
    parts += [
        f"| [{item.id}](#{item.id.lower()}-{item.name}) | {item.name} | {item.severity} |"
        for item in EXPLANATIONS
    ]
    for title, family in FAMILIES.items():
        parts.append(f"\n## {title}")
        for item in family:
            parts.append(f"\n### {item.id} {item.name}\n\n{item.summary}\n")
            parts.append(f"*Severity:* {item.severity}.")
            parts.append(f"\n**Why it matters.** {item.why}")
            parts.append(f"\n**What to do.** {item.remedy}")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(diagnostics_markdown())
