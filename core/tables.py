"""Tables of text, the same on a terminal and in a file.

Rich would draw them nicer and takes longer to import than a small network to convert.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

_GAP = "   "
_WIDTH = 120
"""Columns where the output is no terminal."""


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under headings, in columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [headings, ["─" * width for width in widths], *rows]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what they stand for, in two columns; long texts go on below."""
    margin = max((len(name) for name, _ in rows), default=0) + len(_GAP)
    columns = shutil.get_terminal_size((_WIDTH, 0)).columns
    width = max(columns - margin, _WIDTH // 4)
    lines = []
    for name, text in rows:
        first, *others = textwrap.wrap(text, width) or [""]
        lines.append(f"{name.ljust(margin)}{first}".rstrip())
        lines += [f"{' ' * margin}{other}" for other in others]
    return "\n".join(lines)
