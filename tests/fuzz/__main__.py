"""``python -m tests.fuzz``: see the package."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz import corpus, mutants
from tests.fuzz.pool import Pool
from tests.fuzz.record import Record
from tests.fuzz.subjects import judge
from tests.fuzz.worker import Task

LIMIT = 10.0
"""Seconds after which a mutant hangs."""
_BETWEEN_NEWS = 10.0


def main() -> int:
    """Runs the fuzzer; returns 1 if it found something."""
    options = _arguments()
    files = corpus.build(options.corpus)
    record = Record(files, options.seed, options.keep)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dlaconv-fuzz-") as folder:
        pool = Pool(Path(folder), files, options.seed, judge, jobs=options.jobs, limit=LIMIT)
        numbers = options.only or range(options.start, options.start + options.count)
        _run(pool, record, ((number, None) for number in numbers))
        if options.keep is not None:
            _minimise(pool, record)
    for line in record.lines(time.monotonic() - start):
        print(line)
    for number in options.only or ():
        _tell(record, number)
    return 1 if record.failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="number of mutants")
    parser.add_argument("--start", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other mutants")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument(
        "--corpus",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="further .onnx files to mutate; repeatable, and it changes what a number means",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where failures are kept")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="only these mutants")
    return parser.parse_args()


def _run(pool: Pool, record: Record, tasks: Iterable[Task]) -> None:
    last = time.monotonic()
    for result in pool.run(tasks):
        record.add(result)
        if time.monotonic() - last > _BETWEEN_NEWS:
            last = time.monotonic()
            failures = sum(map(len, record.failures.values()))
            print(f"{record.counts.total()} mutants, {failures} failures", file=sys.stderr)


def _minimise(pool: Pool, record: Record) -> None:
    """Looks for single steps that cause a failure of several ones."""
    wanted: dict[Task, str] = {}
    for group, found in record.failures.items():
        steps = len(record.recipe(found[0]).steps)
        if steps > 1:
            wanted |= {(found[0].task[0], (step,)): group for step in range(steps)}
    for result in pool.run(wanted):
        if result.group == wanted[result.task]:
            record.store(result, f"{result.task[0]}-minimal")


def _tell(record: Record, number: int) -> None:
    made_by = mutants.recipe(record.corpus, record.seed, number)
    print(f"\n{number}: {made_by.subject}, {made_by.level}, {made_by.origin.name}")
    for done in mutants.make(made_by).done:
        print(f"  {done[:300]}")
    for found in record.failures.values():
        for result in found:
            if result.task[0] == number:
                print(result.detail)


if __name__ == "__main__":
    sys.exit(main())
