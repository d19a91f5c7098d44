"""What a terminal shows while work goes on."""

import io
import logging
import sys

import pytest

from dlaconv.console import Console


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream, **how):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with Console(**how).working("converting"):
        logging.getLogger("dlaconv.ir.pipeline").info("fold batch\x1b norm")
    return stream.getvalue()


def test_a_terminal_sees_each_step(monkeypatch):
    text = shown(monkeypatch, Terminal())
    assert "converting" in text
    assert logging.getLogger("dlaconv").handlers == []


@pytest.mark.parametrize(("stream", "how"), [(io.StringIO(), {}), (Terminal(), {"quiet": True})])
def test_files_and_quiet_terminals_see_nothing(monkeypatch, stream, how):
    assert shown(monkeypatch, stream, **how) == ""
