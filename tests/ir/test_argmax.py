"""Which value of an output is the largest."""

import numpy as np

from dlaconv.ir.argmax import Argmax
from dlaconv.ir.compare import Comparison, MapRow, argmax_json


def test_changes_are_listed_and_near_ties_are_those_of_the_source_within_a_unit():
    found = Argmax()
    samples = [
        ([4.0, 1.0, 2.9], [4, 1, 3]),  # kept
        ([4.0, 1.0, 3.0], [3, 1, 4]),  # a near tie that changes
        ([4.0, 1.0, 3.0], [4, 1, 3]),  # and one that does not
        ([4.0, 1.0, 2.9], [3, 1, 4]),  # no near tie
        ([4.0, 1.0, 1.0], [4, 4, 1]),  # the first of equals counts
        ([1.0, 4.0, 1.0], [4, 4, 1]),
    ]
    for wanted, got in samples:
        found.add(np.array([wanted], np.float32), np.array([got]))
    assert found.as_json() == {
        "samples": 6,
        "kept": 3,
        "near_ties": [1, 2],
        "changed": [
            {"sample": 1, "source": 0, "hardware": 2, "apart": 1.0},
            {"sample": 3, "source": 0, "hardware": 2, "apart": 1.1},
            {"sample": 5, "source": 1, "hardware": 0, "apart": 3.0},
        ],
    }


def test_only_outputs_with_a_value_for_each_channel_have_one():
    found = Argmax()
    for shape in ([1, 1], [1, 4, 2, 1], [4], [1, 1, 4]):
        found.add(np.ones(shape), np.ones(shape))
    assert not found.samples
    found.add(np.ones((1, 4, 1, 1)), np.ones((1, 4, 1, 1), np.int8))
    assert found.samples == 1


def test_it_is_told_of_outputs_in_units_of_their_map():
    rows = [
        MapRow(Comparison(name, "fc", "derived", 0.5, -128, 127)) for name in ("hidden", "logits")
    ]
    for row in rows:
        row.add(np.array([[3.0, 1.5]]), np.array([[1, 2]]), np.array([[3, 2]]))
    found = argmax_json(rows, ["logits", "other"])
    assert list(found) == ["logits"]
    assert found["logits"]["changed"] == [{"sample": 0, "source": 0, "hardware": 1, "apart": 1.5}]
