"""A process that judges mutants, with bounded memory, until it is told to stop or dies."""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz import mutants
from tests.fuzz.corpus import Corpus
from tests.fuzz.mutants import Mutant, Recipe
from tests.fuzz.oracle import BrokenPromiseError, group_of

MEMORY = 1536 << 20
"""Bytes of address space that a worker may take beyond what it has at its start."""
_FILE_SIZE = 256 << 20
_NOISE_SHOWN = 4000

Judge = Callable[[Recipe, Mutant, Path], tuple[str, str]]
Task = tuple[int, tuple[int, ...] | None]
"""Number of a mutant, and the steps to take (all of them if None)."""


@dataclass(frozen=True)
class Result:
    """What came of one mutant.

    Attributes:
        task: the mutant.
        outcome: what the program made of it.
        rule: the rule that it was refused by.
        seconds: wall time.
        memory: bytes that the process grew by at most, in RAM.
        group: what a failure is grouped by; empty if all promises were kept.
        detail: the traceback or message of a failure.
    """

    task: Task
    outcome: str
    rule: str = ""
    seconds: float = 0.0
    memory: int = 0
    group: str = ""
    detail: str = ""


def work(pipe: Connection, folder: Path, corpus: Corpus, seed: int, judge: Judge) -> None:
    """Judges the tasks that come through a pipe; None ends it.

    Sends ``None`` when a mutant is made and its judgement begins, then its `Result`.
    """
    noise = _prepare(folder)
    while (task := pipe.recv()) is not None:
        number, steps = task
        recipe = mutants.recipe(corpus, seed, number)
        mutant = mutants.make(recipe, steps)
        place = folder / "mutant"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        pipe.send(None)
        pipe.send(_judged(task, recipe, mutant, place, judge, noise))
    shutil.rmtree(folder, ignore_errors=True)


def noise_file(folder: Path) -> Path:
    """Where the standard streams of the worker of a folder go."""
    return folder / "noise.txt"


def _prepare(folder: Path) -> Path:
    """Bounds memory and file sizes, and sends all that is printed to a file."""
    for name in ("temporary", "current"):
        (folder / name).mkdir(parents=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder / "temporary")
    os.chdir(folder / "current")
    noise = noise_file(folder)
    with noise.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable(sys.stderr)
    faulthandler.register(signal.SIGUSR1, sys.stderr, all_threads=False)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_SIZE, _FILE_SIZE))
    limit = _status("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return noise


def _judged(
    task: Task, recipe: Recipe, mutant: Mutant, place: Path, judge: Judge, noise: Path
) -> Result:
    outcome = rule = group = detail = ""
    heard = noise.stat().st_size
    _reset_peak()
    before, start = _status("VmRSS"), time.perf_counter()
    try:
        outcome, rule = judge(recipe, mutant, place)
        _look_around(place, noise, heard)
    except BaseException as error:  # whatever it is, it is a finding
        outcome, group = "failed", group_of(error)
        detail = "".join(traceback.format_exception(error))
        if isinstance(error, BrokenPromiseError):
            detail += error.detail
    seconds = time.perf_counter() - start
    peak = _status("VmHWM")
    return Result(task, outcome, rule, seconds, max(peak - before, 0), group, detail)


def _look_around(place: Path, noise: Path, heard: int) -> None:
    """Native code must print nothing, and nothing may be left where temporary files go."""
    said = noise.read_bytes()[heard:].decode("utf-8", "replace").strip()
    if said:
        first = "".join(c for c in said.partition("\n")[0] if not c.isdigit())
        raise BrokenPromiseError(f"native code prints: {first[:100]}", said[:_NOISE_SHOWN])
    for name in ("temporary", "current"):
        folder = place.parent / name
        if left := sorted(path.name for path in folder.iterdir()):
            shutil.rmtree(folder)
            folder.mkdir()
            raise BrokenPromiseError(f"something is left in the {name} folder", ", ".join(left))


def _status(key: str) -> int:
    """A number of bytes of this process, as Linux states it."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) << 10
    return 0


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
