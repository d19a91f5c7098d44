"""What a run has found: counts, and failures that are kept."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import mutants
from tests.fuzz.corpus import Corpus
from tests.fuzz.worker import Result

_KEPT_PER_GROUP = 3
_SLOWEST = 5


@dataclass
class Record:
    """The results of a run.

    Attributes:
        corpus: what was mutated.
        seed: the seed of the run.
        keep: folder for the mutants that failed, None to keep none.
    """

    corpus: Corpus
    seed: int
    keep: Path | None = None
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))
    slowest: list[Result] = field(default_factory=list)
    largest: Result | None = None

    def add(self, result: Result) -> None:
        """Takes a result in, and keeps the first few mutants of each kind of failure."""
        made_by = self.recipe(result)
        self.counts[made_by.subject, made_by.level, result.outcome] += 1
        self.rules[result.rule] += 1
        self.slowest = sorted([*self.slowest, result], key=lambda r: -r.seconds)[:_SLOWEST]
        if self.largest is None or result.memory > self.largest.memory:
            self.largest = result
        if result.group:
            self.failures[result.group].append(result)
            if len(self.failures[result.group]) <= _KEPT_PER_GROUP:
                self.store(result)

    def recipe(self, result: Result) -> mutants.Recipe:
        """How the mutant of a result is made."""
        return mutants.recipe(self.corpus, self.seed, result.task[0])

    def store(self, result: Result, name: str = "") -> None:
        """Writes a mutant and its story into a folder of its own."""
        if self.keep is None:
            return
        made_by = self.recipe(result)
        mutant = mutants.make(made_by, result.task[1])
        group = re.sub(r"[^\w.-]+", "-", result.group)[:100]
        folder = self.keep / group / (name or str(result.task[0]))
        folder.mkdir(parents=True, exist_ok=True)
        inside = folder / "in"
        if not inside.exists():
            inside.mkdir()
            mutant.put(inside)
        (folder / "story.txt").write_text(self.story(result), "utf-8", "backslashreplace")

    def story(self, result: Result) -> str:
        """A mutant in words, and what came of it."""
        made_by = self.recipe(result)
        mutant = mutants.make(made_by, result.task[1])
        return "\n".join(
            [
                f"mutant {result.task[0]} of seed {self.seed}, steps {result.task[1] or 'all'}",
                f"{made_by.subject}, {made_by.level}: {made_by.origin.name}",
                *(f"  {done}" for done in mutant.done),
                f"{result.outcome} {result.rule} after {result.seconds:.2f} s",
                result.group,
                result.detail,
            ]
        )

    def lines(self, seconds: float) -> Iterator[str]:
        """The tables at the end of a run."""
        yield f"{'subject':8} {'level':9} {'outcome':18} {'mutants':>8}"
        for (subject, level, outcome), count in sorted(self.counts.items()):
            yield f"{subject:8} {level:9} {outcome:18} {count:8}"
        total = self.counts.total()
        yield f"{total} mutants in {seconds:.0f} s ({total / max(seconds, 1e-9):.1f} per second)"
        rules = [f"{rule or '-'} {count}" for rule, count in self.rules.most_common()]
        yield f"rules: {', '.join(rules)}"
        for result in self.slowest:
            made_by = self.recipe(result)
            origin = f"{made_by.subject} {made_by.origin.name}"
            yield f"{result.seconds:6.2f} s  {result.task[0]}  {origin}"
        if self.largest is not None:
            yield f"most memory: {self.largest.memory >> 20} MiB, mutant {self.largest.task[0]}"
        yield f"{sum(map(len, self.failures.values()))} failures of {len(self.failures)} kinds"
        for group, found in sorted(self.failures.items(), key=lambda item: -len(item[1])):
            numbers = ", ".join(str(result.task[0]) for result in found[:5])
            yield f"{len(found):6}  {group}  ({numbers})"
