"""Docstrings that are documentation for users: a summary and named sections, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import cleandoc


@dataclass(frozen=True)
class Documentation:
    """A docstring, taken apart.

    Attributes:
        summary: what stands before the first section, on one line.
        sections: text by heading, one line each, in order.
    """

    summary: str
    sections: dict[str, str]

    @classmethod
    def parse(cls, docstring: str, headings: tuple[str, ...]) -> Documentation:
        """Takes a docstring apart.

        Args:
            docstring: a summary, then paragraphs that begin with a heading and a colon.
            headings: the headings that it must have, in order.

        Raises:
            ValueError: if a section is missing, repeated, empty or out of order.
        """
        pattern = re.compile(rf"^({'|'.join(headings)}): ", re.MULTILINE)
        summary, *rest = pattern.split(cleandoc(docstring))
        texts = [" ".join(text.split()) for text in rest[1::2]]
        if tuple(rest[::2]) != headings or not all(texts) or not summary.strip():
            raise ValueError(f"the docstring needs a summary and {', '.join(headings)}")
        return cls(" ".join(summary.split()), dict(zip(headings, texts, strict=True)))
