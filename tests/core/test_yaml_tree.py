import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.yaml_tree import parse_yaml


def read(text):
    """What a text says, and the problems in it."""
    problems = []
    tree = parse_yaml(text, lambda line, message: problems.append((line, message)))
    return (None if tree is None else tree.plain()), problems


SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e9, 1e9)
VALUES = st.recursive(
    SCALARS | st.text(st.characters(codec="ascii", exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc1 _"), inner),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_read_as_it_is(value):
    assert read(json.dumps(value)) == (value, [])


@given(VALUES)
def test_what_pyyaml_writes_is_read_back(value):
    assert read(yaml.safe_dump(value)) == (value, []) or "!!" in yaml.safe_dump(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("+3", 3),
        ("017", 17),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("9" * 31, "9" * 31),
        ("'1'", "1"),
        ("null", None),
        ("~", None),
        ("<<", "<<"),
        ("|\n  a\n  b", "a\nb"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found, problems = read(f"a: {text}")
    assert problems == []
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_every_value_and_key_knows_its_line():
    tree = parse_yaml("a: 1\nb:\n  - x\n  - c: 2\n    d:\n      3", lambda *_: None)
    assert tree.key_lines == {"a": 1, "b": 2}
    first, second = tree.value["b"].value
    assert (first.line, second.line) == (3, 4)
    assert second.key_lines == {"c": 4, "d": 5}
    assert second.value["d"].line == 6


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "empty"),
        ("# nothing", 1, "empty"),
        ("a: 1\nb: &x 2", 2, "the anchor &x"),
        ("a: 1\nb: *x", 2, "the alias *x"),
        ("a: !!python/object/apply:os.system [ls]", 1, "the tag tag:yaml.org,2002:python"),
        ("!!python/name:os.system x", 1, "the tag"),
        ("a: !x 1", 1, "the tag !x"),
        ("a: ! 1", 1, "the tag !"),
        ("!k a: 1", 1, "the tag !k"),
        ("a: 1\n\na: 2", 3, "the key 'a' again; it is in line 1"),
        ("{a: 1, a: 1}", 1, "again"),
        ("a: 1\n? [b]\n: 2", 2, "a key must be a word"),
        ("a: 1\n---\nb: 1", 2, "second document"),
        ("a: [1", 1, "not YAML"),
        ("a: 'x", 1, "not YAML"),
        ("a:\tb", 1, "not YAML"),
        ("a: 1\nb: \x07", 2, "U+0007"),
        ("a: 1\nb: \ud800", 2, "U+D800"),
        ("%YAML 3.0\n---\na: 1", 1, "not YAML"),
        ("[" * 100_000, 1, "nested"),
        ("{" * 100_000, 1, "nested"),
        ("- " * 100_000, 1, "nested"),
        ("? " * 100_000, 1, "nested"),
    ],
    ids=lambda item: item[:20] if isinstance(item, str) else None,
)
def test_what_is_more_than_plain_data_is_a_problem_with_its_line(text, line, words):
    _, problems = read(text)
    assert any(at == line and words in message for at, message in problems), problems


def test_all_problems_but_those_of_syntax_are_found_at_once():
    _, problems = read("a: &x 1\nb: *x\nb: !t 2\n")
    assert [line for line, _ in problems] == [1, 2, 3, 3]


def test_aliases_do_not_multiply():
    """Billion laughs: nine levels of ten aliases each."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    value, problems = read("\n".join(["a0: &a0 [lol, lol]", *levels]))
    assert len(str(value)) < 2000
    assert len(problems) == 10 + 90


def test_messages_repeat_little_of_the_file():
    for text in ("&" + "a" * 5000 + " 1", f"a: 1\n{'k' * 500}: 1\n{'k' * 500}: 2", "*" + "b" * 900):
        _, problems = read(text)
        assert problems
        assert all(len(message) < 200 for _, message in problems)


@given(st.text(max_size=60) | st.text("[]{}:,-?&*!|>'\"%@`#\n\t ab1", max_size=60))
def test_any_text_is_read_or_has_a_problem(text):
    value, problems = read(text)
    assert problems or value is not None or parse_yaml(text, print) is not None
