"""The measured figures as a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_HEADINGS = (
    "network",
    "method",
    "top-1 %",
    "to float, points",
    "agree %",
    "QSNR dB",
    "s",
    "CPU s",
    "MB",
)


def markdown(networks: Sequence[Mapping[str, Any]]) -> str:
    """One row per network and method.

    Args:
        networks: as in the JSON file: ``network``, ``images``, ``rows``.
    """
    lines = [_row(_HEADINGS), _row(["---", "---", *["---:"] * (len(_HEADINGS) - 2)])]
    for network in networks:
        title = f"{network['network']} ({network['images']})"
        for row in network["rows"]:
            lines.append(_row([title, row["method"], *_cells(row)]))
            title = ""
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    if "problem" in row:
        return [row["problem"], *[""] * (len(_HEADINGS) - 3)]
    top1, difference = "", ""
    if "top1" in row:
        top1 = f"{100 * row['top1']:.2f}"
        difference = f"{row['difference']:+.2f} ± {row['error']:.2f}"
    return [
        top1,
        difference,
        f"{100 * row['agreement']:.2f}",
        f"{row['qsnr_db']:.1f}",
        f"{row['seconds']:.1f}",
        f"{row['cpu']:.1f}",
        f"{row['megabytes']:.0f}",
    ]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
