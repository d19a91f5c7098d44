"""Small pieces of markup; every text goes through `escape`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape as _escape
from typing import Any

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Characters that are no text, or turn the direction of the text around them."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """A value as text of a page; markup stays what it is."""
    if isinstance(value, Markup):
        return value
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(value))
    return Markup(_escape(text, quote=True))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """An element with escaped attributes and content; ``class_`` and ``data_x`` are spelled so."""
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{listed}>{joined(*content)}</{name}>")


def joined(*parts: object) -> Markup:
    """Parts one behind the other."""
    return Markup("".join(escape(part) for part in parts))


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], numbers: str = "") -> Markup:
    """A table; ``numbers`` has an ``n`` for each column of numbers, and a ``t`` for names."""
    kinds = {"n": {"class_": "number"}, "t": {"class_": "name"}}
    attributes = [kinds.get(kind, {}) for kind in numbers.ljust(len(headings))]
    head = [
        element("th", text, **(given if given.get("class_") == "number" else {}))
        for text, given in zip(headings, attributes, strict=True)
    ]
    body = [
        element(
            "tr",
            *(element("td", cell, **g) for cell, g in zip(row, attributes, strict=True)),
        )
        for row in rows
    ]
    content = element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    return element("div", content, class_="scroll")


def section(anchor: str, title: str, text: str, *content: object) -> Markup:
    """A part of the page."""
    explained = element("p", text) if text else ""
    return element("section", element("h2", title), explained, *content, id=anchor)


def mark(text: str, kind: str) -> Markup:
    """A word in a frame; kind is ``good``, ``warn``, ``bad`` or ``soft``."""
    return element("span", text, class_=f"mark {kind}")
