"""The page: one file, no network access, no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dlaconv.html import sections
from dlaconv.html.markup import Markup, element, escape, joined
from dlaconv.html.script import SCRIPT
from dlaconv.html.style import STYLE

Json = Mapping[str, Any]
_LINKS = {
    "feed": "what to feed",
    "quality": "QSNR",
    "maps": "maps",
    "weights": "weights",
    "rules": "rules",
    "rewrites": "rewrites",
    "parts": "parts",
    "settings": "options",
}


def report_page(
    report: Json, maps: Mapping[str, Json] | None = None, weights: Mapping[str, Json] | None = None
) -> str:
    """A report as HTML.

    Everything that comes from a file is escaped; besides, the page forbids every script but the
    one that draws its charts, and all access to the network.

    Args:
        report: the JSON report of a conversion.
        maps: histograms of the compared maps by name, see `dlaconv.ir.histograms.Histogram`.
        weights: the same of integer weights, with ``layer``, ``shape``, ``smallest_step``,
            ``largest_step`` and ``extreme``.
    """
    maps, weights = maps or {}, weights or {}
    name = sections.title(report)
    target = report["target"]
    lead = f"{report['source']['file']} ({report['source']['frontend']}) for {target['name']}"
    head = joined(
        element("h1", name),
        element("p", f"{lead} {target['version']}, by dlaconv {report['dlaconv']}"),
    )
    body = [
        sections.cards(report),
        sections.ports(report),
        sections.quality(report),
        sections.maps(report, maps),
        sections.weights(report, weights),
        sections.findings(report),
        sections.rewrites(report),
        sections.parts(report),
        sections.settings(report),
    ]
    links = [
        element("a", text, href=f"#{anchor}")
        for anchor, text in _LINKS.items()
        if any(part.startswith(f'<section id="{anchor}"') for part in body)
    ]
    data = _embedded({"layers": _layers(report), **_histograms(report, maps, weights)})
    content = joined(
        element("header", head, element("nav", *links)),
        element("main", *body, element("footer", "This page loads nothing from anywhere.")),
        Markup(f'<script id="data" type="application/json">{data}</script>'),
        Markup(f"<script>{SCRIPT}</script>"),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
        f"<title>{escape(name)}</title><style>{STYLE}</style></head>\n"
        f"<body>{content}</body></html>\n"
    )


def _policy() -> str:
    """Lets the page run its own script, which is known by its hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _embedded(data: object) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _layers(report: Json) -> list[dict[str, Any]]:
    verification = report["verification"]
    if verification is None:
        return []
    return [
        {
            "layer": row["layer"] or row["name"],
            "alone": _quality(row["local"]),
            "whole": _quality(row["accumulated"]),
        }
        for row in verification["maps"]
    ]


def _quality(difference: Json) -> dict[str, Any]:
    return {"db": difference["qsnr_db"], "exact": difference["largest"] == 0}


def _histograms(
    report: Json, maps: Mapping[str, Json], weights: Mapping[str, Json]
) -> dict[str, list[Any]]:
    verification = report["verification"]
    rows = verification["maps"] if verification is not None else []
    return {
        "maps": [maps.get(row["name"]) for row in rows],
        "weights": [dict(item) for item in weights.values()],
    }
