"""Wall time, processor time and peak memory of whole processes, two commands in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Run:
    """One finished process.

    Attributes:
        wall: seconds from start to end.
        cpu: seconds of all processors, in user and system mode.
        peak: largest resident memory, in bytes. The system counts what the measuring process had
            when it started the other, so that one must stay small.
    """

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True)
class Comparison:
    """Runs of two commands, taken in turn.

    Attributes:
        ours: runs of the first command.
        peers: runs of the second.
    """

    ours: Sequence[Run]
    peers: Sequence[Run]

    def ratio(self, figure: str) -> float:
        """Median of the ratios pair by pair, ours over the peer's."""
        pairs = zip(self.ours, self.peers, strict=True)
        return statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs)

    def row(self) -> str:
        """Medians of both and the ratios, as a row of a table."""
        cells = []
        for figure, unit in (("wall", 1.0), ("cpu", 1.0), ("peak", _MEGABYTE)):
            a, b = (
                statistics.median(getattr(run, figure) for run in runs) / unit
                for runs in (self.ours, self.peers)
            )
            digits = 0 if figure == "peak" else 2
            cells.append(f"{a:9.{digits}f} {b:9.{digits}f} {self.ratio(figure):6.2f}")
        return " |".join(cells)


HEADER = " |".join(
    f"{f'{figure}, {unit}':>9} {'peer':>9} {'ratio':>6}"
    for figure, unit in (("wall", "s"), ("cpu", "s"), ("peak", "MB"))
)
"""Heads the columns of `Comparison.row`."""


def measure(command: Sequence[str]) -> Run:
    """Runs a command and waits for it.

    Raises:
        RuntimeError: if it fails, with the end of what it printed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        text = printed.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}:\n{text}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def compare(
    ours: Sequence[str], peer: Sequence[str], rounds: int, reset: Callable[[], None]
) -> Comparison:
    """Runs two commands in turn, after one run of each that does not count.

    Args:
        ours: our command.
        peer: the peer's.
        rounds: how often each is run.
        reset: called before every run, to remove what the last one wrote.
    """
    return Comparison(*in_turn([ours, peer], rounds, reset))


def in_turn(
    commands: Sequence[Sequence[str]], rounds: int, reset: Callable[[], None]
) -> list[list[Run]]:
    """The runs of each of several commands, taken in turn; as `compare`."""
    runs: list[list[Run]] = [[] for _ in commands]
    for counted in range(-1, rounds):
        for command, found in zip(commands, runs, strict=True):
            reset()
            run = measure(command)
            if counted >= 0:
                found.append(run)
    return runs


def middle(runs: Sequence[Run]) -> Run:
    """The medians of several runs of a command."""
    figures = ([getattr(run, field.name) for run in runs] for field in fields(Run))
    return Run(*map(statistics.median, figures))
