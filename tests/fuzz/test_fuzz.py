"""The fuzzer itself, and a few of its mutants; ``python -m tests.fuzz`` runs more."""

import os
import signal
import time

import numpy as np
import pytest

import dlaconv
from dlaconv.diagnostics import Diagnostics
from dlaconv.errors import ConversionError
from tests.fuzz import corpus, mutants, oracle, subjects, wire_level
from tests.fuzz.corpus import ACCESS, CAFFE, KERAS, ONNX, QONNX
from tests.fuzz.layered import Described
from tests.fuzz.oracle import BrokenPromiseError
from tests.fuzz.pool import Pool
from tests.fuzz.record import Record
from tests.fuzz.worker import MEMORY

SEED = 20_000


@pytest.fixture(scope="module")
def files():
    return corpus.build()


def run(folder, files, judge, numbers, limit=60.0):
    pool = Pool(folder, files, SEED, judge, jobs=1, limit=limit)
    return list(pool.run((number, None) for number in numbers))


@pytest.mark.slow
def test_a_hundred_and_fifty_mutants_keep_all_promises(tmp_path, files):
    record = Record(files, SEED)
    for result in run(tmp_path, files, subjects.judge, range(150)):
        record.add(result)
    assert record.counts.total() == 150
    assert {subject for subject, _, _ in record.counts} == set(corpus.SUBJECTS)
    assert {level for _, level, _ in record.counts} == set(mutants.LEVELS)
    assert {subjects.WRITTEN, subjects.REFUSED, subjects.RUN} <= {o for _, _, o in record.counts}
    assert {group: found[0].detail for group, found in record.failures.items()} == {}


def test_a_mutant_is_a_function_of_its_number(files):
    again = corpus.build()
    for number in range(60):
        one, other = (mutants.make(mutants.recipe(c, SEED, number)) for c in (files, again))
        assert one == other
    assert mutants.recipe(files, SEED, 1) != mutants.recipe(files, SEED + 1, 1)


def test_mutants_differ_from_what_they_are_made_of(files):
    made = [mutants.recipe(files, SEED, number) for number in range(100)]
    same = [r for r in made if mutants.make(r).data == r.origin.data]
    assert len(same) < 20  # a few change only what lies beside the file


def test_fields_are_written_as_they_were_read(files):
    for seed in [*files[QONNX], *files[ONNX], *files[ACCESS]]:
        assert wire_level.encoded(wire_level.parsed(seed.data)) == seed.data
    for seed in files[CAFFE]:
        [data] = seed.beside.values()
        assert wire_level.encoded(wire_level.parsed(data, Described("NetParameter"))) == data


def test_seeds_of_keras_and_caffe_are_networks(tmp_path, files):
    for number, seed in enumerate([*files[KERAS], *files[CAFFE]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = mutants.Mutant(seed.data, [], dict(seed.beside), file=seed.file).put(folder)
        imported = dlaconv.load([path, *(folder / name for name in seed.beside)])
        assert not imported.diagnostics.errors, seed.name
        shapes = {value.name: list(value.shape)[1:] for value in imported.model.graph.inputs}
        assert shapes == {name: shape[1:] for name, shape in seed.shapes.items()}


def misbehaves(recipe, mutant, folder):
    """Does what no subject may, another thing for each number."""
    (folder / "in").mkdir()
    if recipe.number == 0:
        raise KeyError(recipe.number)
    if recipe.number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if recipe.number == 2:
        time.sleep(60)
    if recipe.number == 3:
        os.write(2, b"spew 17\n")
    if recipe.number == 4:
        (folder.parent / "temporary" / "left").touch()
    if recipe.number == 5:
        np.ones(2 * MEMORY, np.int8)
    return "fine", ""


@pytest.mark.slow
def test_crashes_hangs_noise_and_hunger_are_caught_and_the_rest_goes_on(tmp_path, files):
    results = run(tmp_path, files, misbehaves, range(7), limit=2.0)
    found = {result.task[0]: result for result in results}
    assert found[0].group.startswith("KeyError at ")
    assert (found[1].outcome, found[1].group.split(" at ")[0]) == ("crashed", "crash -11")
    assert (found[2].outcome, found[2].group.split(" at ")[0]) == ("hung", "hang")
    assert "test_fuzz.py" in found[2].group
    assert found[3].group == "native code prints: spew "
    assert found[4].group == "something is left in the temporary folder"
    assert "MemoryError" in found[5].group
    assert (found[6].outcome, found[6].group) == ("fine", "")
    assert len(results) == 7


@pytest.mark.slow
def test_failures_are_kept_with_their_story(tmp_path, files):
    record = Record(files, SEED, tmp_path / "kept")
    (tmp_path / "work").mkdir()
    [result] = run(tmp_path / "work", files, misbehaves, [0])
    record.add(result)
    [story] = (tmp_path / "kept").rglob("story.txt")
    assert "KeyError" in story.read_text("utf-8")
    made_by = mutants.recipe(files, SEED, 0)
    assert (story.parent / "in" / made_by.origin.file).read_bytes() == mutants.make(made_by).data
    assert any("1 failures of 1 kinds" in line for line in record.lines(1.0))


@pytest.fixture
def judged(tmp_path, files, monkeypatch):
    """Judges a recipe whose conversion is replaced."""
    recipe = next(
        recipe
        for number in range(100)
        if (recipe := mutants.recipe(files, SEED, number)).subject == QONNX
    )

    def call(stand_in):
        monkeypatch.setattr(subjects, "_convert", stand_in)
        return subjects.judge(recipe, mutants.make(recipe), tmp_path)

    return call


def test_a_changed_source_is_noticed(judged):
    def spoil(recipe, path, out):
        path.write_bytes(b"gone")
        return subjects.REFUSED, ""

    with pytest.raises(BrokenPromiseError, match="source"):
        judged(spoil)


def test_what_is_left_in_the_output_folder_is_noticed(judged):
    def leave(recipe, path, out):
        (out / ".net.tmp").touch()
        subjects._nothing_in(out)

    with pytest.raises(BrokenPromiseError, match="left"):
        judged(leave)


def test_a_refusal_must_say_something():
    with pytest.raises(BrokenPromiseError, match="without an error"):
        oracle.explained(ConversionError(Diagnostics()))


def test_warnings_and_prints_are_noticed():
    with pytest.raises(BrokenPromiseError, match="RuntimeWarning"), oracle.silence():
        np.float32(1) / np.float32(0)
    with pytest.raises(BrokenPromiseError, match="prints"), oracle.silence():
        print("hello")
