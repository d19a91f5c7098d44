"""The page of all legalisations: ``python -m dlaconv.ir.passes.legal.page``."""

from __future__ import annotations

from dlaconv.ir.passes.legal import LEGALISATIONS
from dlaconv.ir.passes.legal.legalisation import SECTIONS, Legalisation

_HEAD = """# Legalisation

Generated from the docstrings in `ir/passes/legal/`; see CONTRIBUTING.md. Real networks seldom fit
the hardware's limits as they are. Before scales are chosen, each rewrite below is tried on every
operator, in this order, and is used where it makes an operator fit.

`--legalise exact` (the default) uses the rewrites marked exact: on a quantised network no integer
changes by them. `--legalise all` uses the approximate ones, too; without it a warning (DLA313)
names the operators that only these would make fit. `--legalise off` uses none. Every use is listed
under `rewrites` in the report, with the multiplications that it adds.
"""


def page() -> str:
    """The page in Markdown."""
    rows = ["| rewrite | operators | keeps | integers |", "|---|---|---|---|"]
    rows += [
        f"| [{item.name}](#{item.name}) | {', '.join(item.ops)} | {', '.join(item.rules)} "
        f"| {_mark(item)} |"
        for item in LEGALISATIONS
    ]
    return "\n".join([_HEAD, *rows, "", *map(_section, LEGALISATIONS)])


def _section(item: Legalisation) -> str:
    documentation = item.documentation
    lines = [f"## {item.name}", "", documentation.summary, ""]
    lines += [f"- **{heading}.** {documentation.sections[heading]}" for heading in SECTIONS]
    lines.append(f"- **Integers.** {_mark(item).capitalize()}.")
    return "\n".join([*lines, ""])


def _mark(item: Legalisation) -> str:
    return "exact" if item.exact else "approximate"


if __name__ == "__main__":
    print(page(), end="")
