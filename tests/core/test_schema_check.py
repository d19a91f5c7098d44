"""Our words about a file of overrides, and jsonschema's judgement."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dlaconv.driver.qconfig import schema
from dlaconv.schema_check import KEYWORDS, violations
from dlaconv.yaml_tree import parse_yaml

SCHEMA = schema()
REFERENCE = Draft202012Validator(SCHEMA)

ENTRY = {"match": "conv1", "output": {"threshold": 6.0}}
GOOD = [
    ENTRY,
    {"op": "Conv", "weights": {"ranges": "mse", "bits": 4}},
    {"match": "a*", "op": "Conv", "weights": {"bits": 2}, "output": {"ranges": "kl"}},
    {**ENTRY, "output": {"percentile": 50}},
    {**ENTRY, "output": {"percentile": 100.0}},
    {**ENTRY, "output": {"step": 1e-12}},
    {**ENTRY, "output": {"fraction_bits": -100}},
    {**ENTRY, "output": {"fraction_bits": 7.0}},
    {**ENTRY, "weights": {"bits": 32}},
    {**ENTRY, "match": "a" * 500},
]
BAD = [
    {},
    {"match": "conv1"},
    {"output": {"threshold": 1}},
    {"match": "", "output": {"threshold": 1}},
    {"match": 5, "output": {"threshold": 1}},
    {"match": None, "output": {"threshold": 1}},
    {"op": "", "weights": {"bits": 4}},
    {"match": "a" * 501, "weights": {"bits": 4}},
    {**ENTRY, "more": 1},
    {**ENTRY, "output": {}},
    {**ENTRY, "output": None},
    {**ENTRY, "output": [1]},
    {**ENTRY, "output": {"threshold": 0}},
    {**ENTRY, "output": {"threshold": -1.5}},
    {**ENTRY, "output": {"threshold": 2e30}},
    {**ENTRY, "output": {"threshold": True}},
    {**ENTRY, "output": {"threshold": "6"}},
    {**ENTRY, "output": {"step": 0}},
    {**ENTRY, "output": {"fraction_bits": 1.5}},
    {**ENTRY, "output": {"fraction_bits": 101}},
    {**ENTRY, "output": {"fraction_bits": -101}},
    {**ENTRY, "output": {"percentile": 49.9}},
    {**ENTRY, "output": {"percentile": 100.1}},
    {**ENTRY, "output": {"ranges": "auto"}},
    {**ENTRY, "output": {"ranges": {}}},
    {**ENTRY, "output": {"ranges": "mse", "threshold": 1}},
    {**ENTRY, "output": {"bits": 8}},
    {**ENTRY, "weights": {}},
    {**ENTRY, "weights": {"bits": 1}},
    {**ENTRY, "weights": {"bits": 33}},
    {**ENTRY, "weights": {"bits": 4, "ranges": "kl"}},
    "conv1",
    [ENTRY],
]
FILES = [
    {"version": 1},
    {"nodes": [ENTRY]},
    {"version": 2, "nodes": [ENTRY]},
    {"version": True, "nodes": [ENTRY]},
    {"version": "1", "nodes": [ENTRY]},
    {"version": 1, "nodes": []},
    {"version": 1, "nodes": ENTRY},
    {"version": 1, "nodes": [ENTRY], "defaults": {}},
    {"version": 1, "nodes": [ENTRY] * 2001},
    [],
    {},
    5,
]


def found(document):
    tree = parse_yaml(json.dumps(document), lambda *problem: pytest.fail(str(problem)))
    return list(violations(SCHEMA, tree))


def document(*entries):
    return {"version": 1, "nodes": list(entries)}


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: str(entry)[:80])
def test_good_entries_are_good_for_both(entry):
    assert found(document(entry)) == []
    assert REFERENCE.is_valid(document(entry))


@pytest.mark.parametrize("entry", BAD, ids=lambda entry: str(entry)[:80])
def test_bad_entries_are_bad_for_both(entry):
    assert found(document(ENTRY, entry))
    assert not REFERENCE.is_valid(document(ENTRY, entry))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file)[:40])
def test_bad_files_are_bad_for_both(file):
    assert found(file)
    assert not REFERENCE.is_valid(file)


WORDS = st.sampled_from(
    ["version", "nodes", "match", "op", "output", "weights", "ranges", "threshold", "bits", "step"]
)
SCALARS = st.sampled_from([None, True, 0, 1, 2, 8.0, 8.5, -1, 1e31, "", "mse", "max", "conv1", []])
ODD = st.recursive(SCALARS, lambda inner: st.dictionaries(WORDS, inner, max_size=3), max_leaves=4)


@given(st.dictionaries(st.sampled_from(["match", "op", "output", "weights", "more"]), ODD))
def test_both_agree_on_any_entry(entry):
    assert (found(document(entry)) == []) == REFERENCE.is_valid(document(entry))


@given(st.dictionaries(WORDS, ODD))
def test_both_agree_on_any_file(file):
    assert (found(file) == []) == REFERENCE.is_valid(file)


def keywords(schema):
    """Every keyword of a schema, at any depth."""
    yield from schema
    for key in ("properties", "$defs"):
        for part in schema.get(key, {}).values():
            yield from keywords(part)
    if "items" in schema:
        yield from keywords(schema["items"])


def test_the_schema_says_nothing_that_we_do_not_check():
    assert set(keywords(SCHEMA)) <= KEYWORDS


def test_every_key_is_described():
    def undescribed(part, path):
        for key, item in part.get("properties", {}).items():
            if "description" not in item and "$ref" not in item:
                yield f"{path}/{key}"
            yield from undescribed(item, f"{path}/{key}")

    parts = {"#": SCHEMA, **SCHEMA["$defs"]}
    assert [name for path, part in parts.items() for name in undescribed(part, path)] == []
    assert all("description" in part for part in parts.values())


def test_the_example_in_the_manual_is_one():
    page = Path(__file__).parents[2] / "docs" / "calibration.md"
    [text] = re.findall(r"^```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    tree = parse_yaml(text, lambda *problem: pytest.fail(str(problem)))
    assert list(violations(SCHEMA, tree)) == []
    assert len(tree.plain()["nodes"]) == 4


def test_messages_say_where_and_what_to_write():
    text = "version: 1\nnodes:\n- match: a\n  ouput: {}\n- match: b\n  output:\n    threshold: -2\n"
    first, second, third = violations(SCHEMA, parse_yaml(text, print))
    assert (first.line, first.message) == (4, "nodes[0] has an unknown key 'ouput'")
    assert first.help.startswith("did you mean 'output'? ")
    assert (second.line, second.message) == (3, "nodes[0] needs output or weights")
    assert (third.line, third.message) == (7, "nodes[1].output.threshold must be above 0, not -2")
