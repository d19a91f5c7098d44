"""YAML as a tree that knows its lines, read without trust.

Only what JSON has, too: mappings, lists, text, numbers, true, false and null, as in YAML 1.2 (so
``yes`` is text, and ``1e-3`` a number). Tags, anchors, aliases, further documents, keys that come
twice and deep nesting are problems, so nothing is constructed and nothing grows: the tree is never
larger than the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

_DEPTH = 16
"""How deep lists and mappings may be nested."""
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DIGITS = 30
"""Characters of a number; a longer one is text."""
_SHOWN = 60
"""Characters of the file that a message repeats."""
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
UNKNOWN = object()
"""The value of what was a problem."""
Report = Callable[[int, str], None]
"""Takes the line of a problem, and the problem in words."""


@dataclass
class Tree:
    """A value of the file.

    Attributes:
        line: 1-based line.
        value: a scalar, a list of trees, or trees by key.
        key_lines: the lines of the keys.
    """

    line: int
    value: Any
    key_lines: dict[str, int] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value without lines, as JSON would have it."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return None if self.value is UNKNOWN else self.value


def shortened(text: object) -> str:
    """What a file says, cut to what a message can hold."""
    shown = str(text)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


class _TooDeepError(Exception):
    pass


def parse_yaml(text: str, report: Report) -> Tree | None:
    """Reads one document.

    Args:
        text: the file.
        report: called for every problem; the first one of syntax ends the reading.

    Returns:
        The tree, None if the text is no YAML, empty, or nested too deeply.
    """
    import yaml

    try:
        return _Reader(yaml.parse(text, Loader=yaml.SafeLoader), report).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        report(mark.line + 1 if mark else 0, f"not YAML: {error.problem or error.context}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        report(line, f"not YAML: the character U+{int(error.character):04X} is not allowed")
    except _TooDeepError:
        pass
    return None


class _Reader:
    """Builds the tree from events, which come as they are asked for."""

    def __init__(self, events: Iterator[yaml.Event], report: Report) -> None:
        self._events, self._report = events, report
        self._refused: set[str] = set()

    def document(self) -> Tree | None:
        import yaml

        tree: Tree | None = None
        for event in self._events:
            if isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent):
                continue
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            if tree is not None:
                self._report(_line(event), "a second document; a file holds one")
                break
            tree = self._tree(next(self._events), 0)
        if tree is None:
            self._report(1, "the file is empty")
        return tree

    def _tree(self, event: yaml.Event, depth: int) -> Tree:
        import yaml

        line = _line(event)
        if depth > _DEPTH:
            self._report(line, f"nested more than {_DEPTH} times")
            raise _TooDeepError
        if isinstance(event, yaml.AliasEvent):
            self._report(
                line, f"the alias *{shortened(event.anchor)}; write out what it stands for"
            )
            return Tree(line, UNKNOWN)
        self._no_extras(event, line)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(found := next(self._events), yaml.SequenceEndEvent):
                items.append(self._tree(found, depth + 1))
            return Tree(line, items)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(line, depth)
        assert isinstance(event, yaml.ScalarEvent)
        return Tree(line, event.value if event.style else _scalar(event.value))

    def _mapping(self, line: int, depth: int) -> Tree:
        import yaml

        tree = Tree(line, {})
        while not isinstance(found := next(self._events), yaml.MappingEndEvent):
            at = _line(found)
            key = found.value if isinstance(found, yaml.ScalarEvent) else None
            if key is None:
                self._tree(found, depth + 1)
                self._report(at, "a key must be a word")
            else:
                self._no_extras(found, at)
            value = self._tree(next(self._events), depth + 1)
            if key is None:
                continue
            if key in tree.value:
                first = tree.key_lines[key]
                self._report(at, f"the key {shortened(key)!r} again; it is in line {first} already")
                continue
            tree.value[key], tree.key_lines[key] = value, at
        return tree

    def _no_extras(self, event: yaml.Event, line: int) -> None:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor:
            self._report(line, f"the anchor &{shortened(anchor)}; nothing may be referred to")
        if tag:
            self._report(line, f"the tag {shortened(tag)}; types are told from the values")


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return int(mark.line) + 1 if mark is not None else 0


def _scalar(text: str) -> Any:
    """The value of a plain scalar in YAML 1.2's core schema, less octals, infinities and nan."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _DIGITS or not _NUMBER.fullmatch(text):
        return text
    if text.lstrip("-+").isdecimal():
        return int(text)
    value = float(text)
    return value if math.isfinite(value) else text
