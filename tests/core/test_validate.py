"""``dlaconv validate``: how often a classifier is right, beside its source."""

import json

import numpy as np
import pytest

import dlaconv
from dlaconv.cli import run
from dlaconv.driver.validating import Score, Validated
from dlaconv.errors import UnreadableError, UsageError
from tests.core.test_partition import Converted, network
from tests.core.test_schemas import validate


@pytest.fixture
def made(tmp_path):
    """A network of ten classes whose own choices are the labels of 24 samples, but for three."""
    found = Converted(tmp_path, network("conv", "fc", "Softmax"), verify=False)
    rng = np.random.default_rng(5)
    found.samples = rng.uniform(-1, 1, (24, 3, 8, 8)).astype(np.float32)
    found.labels = found.expected().argmax(1)
    found.labels[:3] = (found.labels[:3] + 1) % 10
    np.savez(tmp_path / "data.npz", x=found.samples)
    np.save(tmp_path / "y.npy", found.labels)
    return found


def validated(made, converted="net.dla.json", labels="y.npy", **options):
    folder = made.folder
    found = dlaconv.validate(folder / converted, folder / "data.npz", folder / labels, **options)
    validate("validate", found.as_json())
    return found


def test_right_answers_are_counted_and_paired(made):
    found = validated(made, source=made.source).as_json()
    got = made.got()
    right = got.argmax(1) == made.labels
    order = np.argsort(-got, 1, kind="stable")[:, :5]
    assert found["samples"] == 24
    assert found["accuracy"]["right"] == right.sum()
    assert found["accuracy"]["top1"] == pytest.approx(100 * right.mean(), abs=1e-3)
    top5 = (order == made.labels[:, None]).any(1).mean()
    assert found["accuracy"]["top5"] == pytest.approx(100 * top5, abs=1e-3)
    assert found["source_accuracy"]["right"] == 21
    theirs = made.expected().argmax(1)
    paired = found["paired"]
    assert paired["lost"] == ((theirs == made.labels) & ~right).sum()
    assert paired["gained"] == ((theirs != made.labels) & right).sum()
    assert paired["difference"] == pytest.approx(100 * (right.sum() - 21) / 24, abs=1e-3)
    assert paired["agreement"] == pytest.approx(100 * (theirs == got.argmax(1)).mean(), abs=1e-3)


def test_the_first_samples_and_no_source(made):
    found = validated(made, limit=3).as_json()
    assert (found["samples"], found["source_accuracy"], found["paired"]) == (3, None, None)
    assert found["accuracy"]["right"] <= 1


def test_one_file_is_enough_and_archives_of_labels_are_read(made):
    np.savez(made.folder / "y.npz", labels=made.labels[:, None].astype(np.float32), other=[1])
    part = validated(made, "net.dla.onnx", "y.npz")
    assert abs(part.ours.top1 - validated(made).ours.top1) <= 1  # Softmax orders, up to ties


def test_a_network_may_return_the_class_itself(tmp_path):
    model = network("conv", "fc", "ArgMax")
    [argmax] = [node for node in model.graph.node if node.op_type == "ArgMax"]
    argmax.attribute.append(argmax.attribute.add().__class__(name="axis", i=1, type=2))
    del argmax.attribute[0]
    model.graph.output[0].type.tensor_type.elem_type = 7
    made = Converted(tmp_path, model, verify=False)
    np.save(tmp_path / "y.npy", made.expected().reshape(-1))
    found = validated(made, source=made.source)
    assert found.theirs.top1 == 8
    assert found.theirs.top5 in {None, 8}
    assert found.ours.top1 >= 6


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(5), "5 labels for 24 samples"),
        (np.full(24, 10), "label 10 of a network with 10 classes"),
        (np.full(24, -1), "no class indices"),
        (np.full(24, 0.5), "fractions"),
        (np.zeros((24, 10)), r"shape \[24, 10\]"),
        (np.zeros(0), "no label"),
        (np.zeros((0, 3)), "no label"),
    ],
)
def test_labels_that_do_not_fit_are_refused(made, labels, words):
    np.save(made.folder / "y.npy", labels)
    with pytest.raises(UsageError, match=words):
        validated(made)


def test_files_that_are_none_are_refused(made):
    (made.folder / "y.npy").write_bytes(b"\x93NUMPY what")
    with pytest.raises(UnreadableError, match="DLA431"):
        validated(made)
    np.savez(made.folder / "y.npz", a=made.labels, b=made.labels)
    with pytest.raises(UsageError, match="none called labels"):
        validated(made, labels="y.npz")
    np.save(made.folder / "y.npy", made.labels)
    with pytest.raises(UsageError, match="no output 'z'"):
        validated(made, output="z")


def test_equal_values_are_ranked_by_index_and_counted():
    score = Score()
    assert score.add(np.array([1.0, 3, 3, 0, 0, 0, 0]), 1)
    assert not score.add(np.array([1.0, 3, 3, 0, 0, 0, 0]), 2)
    assert not score.add(np.array([1.0, 3, 2, 0, 0, 0, 0]), 6)
    assert (score.samples, score.top1, score.top5, score.ties) == (3, 1, 2, 2)


def test_the_interval_is_that_of_paired_samples():
    found = Validated(None, "net", None, None, Score(100, 90), Score(100, 93), lost=5, gained=2)
    paired = found.as_json()["paired"]
    spread = 100 * 1.959964 * np.sqrt((7 / 100 - 0.03**2) / 100)
    assert paired["difference"] == -3
    assert (paired["low"], paired["high"]) == pytest.approx((-3 - spread, -3 + spread), abs=1e-3)


def test_the_command_prints_both(made, capsys):
    arguments = [
        "validate", str(made.folder / "net.dla.json"), "--input", str(made.folder / "data.npz"),
        "--labels", str(made.folder / "y.npy"), "--source", str(made.source),
    ]  # fmt: skip
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "87.50 %" in shown
    assert "points top-1" in shown
    assert run([*arguments, "--json"]) == 0
    validate("validate", json.loads(capsys.readouterr().out))
