"""Mutants: a function of the seed of a run and their number."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import onnx

from tests.fuzz import byte_level, described, semantic, wire_level
from tests.fuzz.corpus import ACCESS, CAFFE, KERAS, MODEL, ONNX, QONNX, Corpus, Seed
from tests.fuzz.layered import WEIGHTS, Described
from tests.fuzz.semantic.draft import Draft

BYTES, WIRE, SEMANTIC = "bytes", "wire", "semantic"
LEVELS = (BYTES, WIRE, SEMANTIC)
_STEPS = (1, 1, 1, 1, 2, 2, 3)


@dataclass(frozen=True)
class Recipe:
    """How a mutant is made and run.

    Attributes:
        number: its number.
        subject: what is mutated, of `corpus.SUBJECTS`.
        level: where it is mutated, of `LEVELS`.
        origin: the file that is mutated.
        other: a file that bytes are taken from.
        steps: a seed for each mutation, in order.
        way: a seed for how it is run.
    """

    number: int
    subject: str
    level: str
    origin: Seed
    other: Seed
    steps: tuple[int, ...]
    way: int


@dataclass
class Mutant:
    """A mutated file, and what lies beside it.

    Attributes:
        data: the file.
        done: what was done to it.
        files: further files, by path from its folder.
        links: symbolic links by name.
        pipes: names of pipes.
        must_refuse: True if it asks for a file that must not be read.
        file: what the file is called.
    """

    data: bytes
    done: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    pipes: list[str] = field(default_factory=list)
    must_refuse: bool = False
    file: str = MODEL

    def put(self, folder: Path) -> Path:
        """Writes everything into an empty folder; returns the path of the model."""
        path = folder / self.file
        path.write_bytes(self.data)
        for name, data in self.files.items():
            file = folder / name
            if not file.exists() and (file.parent.is_dir() or not file.parent.exists()):
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(data)
        for name, target in self.links.items():
            if not (folder / name).is_dir():
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(target)
        for name in self.pipes:
            if not (folder / name).exists():
                os.mkfifo(folder / name)
        return path


def recipe(corpus: Corpus, seed: int, number: int) -> Recipe:
    """The recipe of a mutant."""
    random = Random(f"{seed}/{number}")
    subject = random.choice((QONNX, QONNX, ONNX, ONNX, ACCESS, KERAS, CAFFE))
    level = random.choices(LEVELS, (2, 3, 10))[0]
    origin, other = (random.choice(corpus[subject]) for _ in range(2))
    steps = tuple(random.getrandbits(48) for _ in range(random.choice(_STEPS)))
    return Recipe(number, subject, level, origin, other, steps, random.getrandbits(48))


def make(made_by: Recipe, keep: Sequence[int] | None = None) -> Mutant:
    """Makes a mutant.

    Args:
        made_by: its recipe.
        keep: indices of the steps to take; all of them if None.
    """
    chosen = range(len(made_by.steps)) if keep is None else keep
    steps = [Random(made_by.steps[index]) for index in chosen]
    if made_by.subject in {KERAS, CAFFE}:
        return _layered(made_by, steps)
    if made_by.level == BYTES:
        data = bytearray(made_by.origin.data)
        done = [byte_level.mutate(data, random, made_by.other.data) for random in steps]
        return Mutant(bytes(data), done)
    if made_by.level == WIRE:
        fields = wire_level.parsed(made_by.origin.data)
        done = [wire_level.mutate(fields, random) for random in steps]
        return Mutant(wire_level.encoded(fields), done)
    draft = Draft(onnx.load_from_string(made_by.origin.data))
    done = [semantic.mutate(draft, random, made_by.subject) for random in steps]
    return Mutant(
        draft.model.SerializeToString(),
        done,
        draft.files,
        draft.links,
        draft.pipes,
        draft.must_refuse and done[-1].split(":")[0] in {"outside", "link", "pipe"},
    )


def _layered(made_by: Recipe, steps: Sequence[Random]) -> Mutant:
    """A mutant of Keras or Caffe; the weights of Caffe are beside its text."""
    origin, other = made_by.origin, made_by.other
    mutant = Mutant(origin.data, [], dict(origin.beside), file=origin.file)
    for random in steps:
        weights = made_by.subject == CAFFE and random.random() < 0.5
        if made_by.level == WIRE and made_by.subject == CAFFE:
            fields = wire_level.parsed(origin.beside[WEIGHTS], Described("NetParameter"))
            done = wire_level.mutate(fields, random)
            mutant.files[WEIGHTS] = wire_level.encoded(fields)
        elif made_by.level == SEMANTIC:
            change = described.keras if made_by.subject == KERAS else described.prototxt
            mutant.data, done = change(mutant.data, random, other.data)
        else:
            data = bytearray(mutant.files[WEIGHTS] if weights else mutant.data)
            done = byte_level.mutate(data, random, other.data)
            if weights:
                mutant.files[WEIGHTS] = bytes(data)
            else:
                mutant.data = bytes(data)
        mutant.done.append(done)
    return mutant
