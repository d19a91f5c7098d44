"""Workers that may crash, hang or be replaced, and the watchdog over them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from tests.fuzz.corpus import Corpus
from tests.fuzz.oracle import group_of_text
from tests.fuzz.worker import Judge, Result, Task, noise_file, work

_MUTANTS_PER_WORKER = 500
_TIME_TO_START = 120.0
_TAIL = 4000


class _Worker:
    """One process, and what it is busy with."""

    def __init__(self, folder: Path, corpus: Corpus, seed: int, judge: Judge) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.folder = folder
        folder.mkdir()
        arguments = (theirs, folder, corpus, seed, judge)
        self.process: SpawnProcess = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.judging = False
        self.since = 0.0
        self.judged = 0

    def give(self, task: Task) -> None:
        self.pipe.send(task)
        self.task, self.judging, self.since = task, False, time.monotonic()

    def retire(self) -> None:
        self.pipe.send(None)
        self.process.join(10)
        self.discard()

    def discard(self) -> None:
        """Ends the process, whatever it is doing, and removes its folder."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stack(self) -> str:
        """Asks the process where it is, before it is killed."""
        heard = noise_file(self.folder).stat().st_size
        if self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGUSR1)
        time.sleep(0.5)
        return noise_file(self.folder).read_bytes()[heard:][:_TAIL].decode("utf-8", "replace")

    def last_words(self) -> str:
        """What a dead process has said."""
        return noise_file(self.folder).read_bytes()[-_TAIL:].decode("utf-8", "replace")


class Pool:
    """Judges mutants in worker processes."""

    def __init__(
        self, folder: Path, corpus: Corpus, seed: int, judge: Judge, *, jobs: int, limit: float
    ) -> None:
        """Prepares workers.

        Args:
            folder: an empty folder for their files.
            corpus: what is mutated.
            seed: the seed of the run.
            judge: what mutants are put through; a function of a module.
            jobs: number of processes.
            limit: seconds after which a mutant hangs.
        """
        self._folder, self._corpus, self._seed, self._judge = folder, corpus, seed, judge
        self._jobs, self._limit = jobs, limit
        self._numbers = itertools.count()

    def run(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Yields what comes of each task, in the order in which they end.

        A mutant that takes too long is tried once more, so that no pause of the machine counts.
        """
        waiting = iter(tasks)
        again: deque[Task] = deque()
        tried: set[Task] = set()
        workers: list[_Worker] = []
        try:
            while True:
                while len(workers) < self._jobs and (task := _next(again, waiting)) is not None:
                    workers.append(self._start(task))
                if not workers:
                    return
                wait([worker.pipe for worker in workers], timeout=0.2)
                for worker in list(workers):
                    result = self._look(worker)
                    if result is None:
                        continue
                    workers.remove(worker)
                    assert worker.task is not None
                    if result.outcome == "hung" and worker.task not in tried:
                        tried.add(worker.task)
                        again.append(worker.task)
                    else:
                        yield result
                    if result.outcome in {"hung", "crashed"}:
                        worker.discard()
                    elif worker.judged >= _MUTANTS_PER_WORKER or (
                        (task := _next(again, waiting)) is None
                    ):
                        worker.retire()
                    else:
                        worker.give(task)
                        workers.append(worker)
        finally:
            for worker in workers:
                worker.discard()

    def _start(self, task: Task) -> _Worker:
        folder = self._folder / f"worker{next(self._numbers)}"
        worker = _Worker(folder, self._corpus, self._seed, self._judge)
        worker.give(task)
        return worker

    def _look(self, worker: _Worker) -> Result | None:
        """What has come of a worker's task, None if it is still at it."""
        assert worker.task is not None
        try:
            while worker.pipe.poll():
                result = worker.pipe.recv()
                if result is not None:
                    worker.judged += 1
                    return Result(**vars(result))
                worker.judging, worker.since = True, time.monotonic()
        except (EOFError, ConnectionResetError):
            worker.process.join(10)
            words = worker.last_words()
            kind = f"crash {worker.process.exitcode}"
            group = group_of_text(kind, words, newest_first=True)
            return Result(worker.task, "crashed", group=group, detail=words)
        seconds = time.monotonic() - worker.since
        if seconds < (self._limit if worker.judging else _TIME_TO_START):
            return None
        words = worker.stack()
        kind = "hang" if worker.judging else "hang while it is made"
        group = group_of_text(kind, words, newest_first=True)
        return Result(worker.task, "hung", seconds=seconds, group=group, detail=words)


def _next(again: deque[Task], waiting: Iterator[Task]) -> Task | None:
    return again.popleft() if again else next(waiting, None)
