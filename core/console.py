"""What the user sees: results on standard output, messages on standard error."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dlaconv.diagnostics import Diagnostic, Severity

_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Characters that a name in a file could take over a terminal with."""


class Console:
    """Standard output and standard error, plain when they are no terminals.

    Attributes:
        quiet: prints no warnings and no results in words.
        verbose: prints notes too.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose

    def result(self, text: str) -> None:
        """Prints a result in words on standard output."""
        if not self.quiet:
            sys.stdout.write(_harmless(text.rstrip("\n")) + "\n")

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Shows on a terminal's standard error what is being done, step by step, while it lasts.

        Steps are what the ``dlaconv`` loggers say at level INFO.
        """
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console as RichConsole

        logger = logging.getLogger("dlaconv")
        before = logger.level
        with RichConsole(file=sys.stderr).status(what) as status:
            handler = _Steps(lambda step: status.update(f"{what}: {step}"))
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            try:
                yield
            finally:
                logger.removeHandler(handler)
                logger.setLevel(before)

    def json(self, document: Any) -> None:
        """Prints one JSON document on standard output, whatever the verbosity."""
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def document(self, content: Any, text: Callable[[Any], str], *, as_json: bool) -> None:
        """Prints a result: as one JSON document, or as the text that is made of it."""
        if as_json:
            self.json(content)
        else:
            self.result(text(content))

    def message(self, text: str) -> None:
        """Prints a line on standard error, unless quiet."""
        if not self.quiet:
            sys.stderr.write(_harmless(text) + "\n")

    def diagnostics(self, found: Iterable[Diagnostic]) -> None:
        """Prints findings on standard error: errors always, notes only when verbose."""
        hidden = 0
        for item in found:
            if item.severity is Severity.NOTE and not self.verbose:
                hidden += 1
            elif item.severity is Severity.ERROR or not self.quiet:
                self._diagnostic(item)
        if hidden:
            self.message(f"{hidden} note{'s' if hidden > 1 else ''} not shown (-v shows them)")

    def _diagnostic(self, item: Diagnostic) -> None:
        text = _harmless(str(item))
        if sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.text import Text

            rich = Text(text)
            rich.stylize(_COLOURS[item.severity], 0, len(f"{item.severity}[{item.rule}]"))
            RichConsole(file=sys.stderr, highlight=False, soft_wrap=True).print(rich)
        else:
            sys.stderr.write(text + "\n")


class _Steps(logging.Handler):
    """Passes each logged message on as one line of text."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(_harmless(record.getMessage()))


def _harmless(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
