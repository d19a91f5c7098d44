"""Every diagnostic that the code can print is explained, under one name."""

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from dlaconv.backends.access.rules import RULES
from dlaconv.explanations import EXPLANATIONS, FAMILIES
from dlaconv.explanations.page import diagnostics_markdown

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"][
    "package-dir"
]
ID = re.compile(r"DLA\d{3}|[A-Z]{2}-\d{1,2}")
BY_ID = {item.id: item for item in EXPLANATIONS}
NAMES = {item.id: item.name for item in (*RULES, *EXPLANATIONS)}
every_explanation = pytest.mark.parametrize("item", EXPLANATIONS, ids=lambda item: item.id)


def uses_in(source):
    """Each (id, what follows it, line) among the arguments of a call or in a tuple.

    Lists of nothing but ids of rules select rules and name none.
    """
    for node in ast.walk(ast.parse(source)):
        parts = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
        texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
        if all(isinstance(text, str) and ID.fullmatch(text) for text in texts):
            texts = [text for text in texts if text.startswith("DLA")]
        for text, after in zip(texts, [*texts[1:], None], strict=False):
            if isinstance(text, str) and ID.fullmatch(text):
                yield text, after, node.lineno


def uses():
    for folder in sorted(set(FOLDERS.values())):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.parts[-2] != "explanations":
                for use in uses_in(path.read_text("utf-8")):
                    yield (*use, str(path.relative_to(ROOT)))


USES = list(uses())


def test_uses_are_found():
    source = 'f(x, "DLA301", "some-name")\nreturn_ = ("GR-3", "other", g("DLA1"))\n["DLA999"]\n'
    source += '("SC-1", "SC-2")\n'
    assert list(uses_in(source)) == [
        ("DLA301", "some-name", 1),
        ("GR-3", "other", 2),
        ("DLA999", None, 3),
    ]
    assert len(USES) > 80


def test_every_id_that_is_used_is_explained_and_has_its_one_name():
    wrong = [
        f"{path}:{line}: {rule} is called {name!r}, not {NAMES.get(rule)!r}"
        for rule, name, line, path in USES
        if name != NAMES.get(rule)
    ]
    assert wrong == [], "names and explanations of ids are in core/explanations"


def test_every_explanation_is_of_an_id_that_is_used():
    assert {item.id for item in EXPLANATIONS} - {rule for rule, *_ in USES} == set()


def test_ids_and_names_are_unique_among_rules_and_explanations():
    both = (*RULES, *EXPLANATIONS)
    assert [name for name, count in Counter(item.name for item in both).items() if count > 1] == []
    assert [id_ for id_, count in Counter(item.id for item in both).items() if count > 1] == []


def test_explanations_are_in_order_within_their_families():
    for family in FAMILIES.values():
        assert [item.id for item in family] == sorted(item.id for item in family)


@every_explanation
def test_an_explanation_has_a_name_and_whole_sentences(item):
    assert re.fullmatch(r"DLA\d{3}", item.id)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", item.name)
    for text in (item.summary, item.why, item.remedy):
        assert text[0].isupper() or text[0] == "`"
        assert text.endswith((".", ")"))
        assert "  " not in text
    assert all(part in str(item) for part in (item.id, item.summary, item.why, item.remedy))


def severities_in(source):
    """The severity of each use that says it: the name of the call, or an argument."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        ids = [a.value for a in node.args if isinstance(a, ast.Constant) and a.value in BY_ID]
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        said = {called} & {"error", "warning", "note"}
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and getattr(part.value, "id", "") == "Severity":
                said.add(part.attr.lower())
        for id_ in ids:
            yield id_, said or {"error"}


def test_the_severity_of_an_explanation_is_the_worst_of_its_uses():
    order = ["note", "warning", "error"]
    worst = dict.fromkeys(BY_ID, -1)
    for folder in sorted(set(FOLDERS.values())):
        for path in (ROOT / folder).rglob("*.py"):
            for id_, said in severities_in(path.read_text("utf-8")):
                worst[id_] = max(worst[id_], *(order.index(item) for item in said))
    unlike = {
        id_: order[place]
        for id_, place in worst.items()
        if place >= 0 and order[place] != str(BY_ID[id_].severity)
    }
    assert unlike == {}


def test_the_page_of_diagnostics_is_generated_from_the_explanations():
    page = (ROOT / "docs" / "diagnostics.md").read_text("utf-8")
    command = "python -m dlaconv.explanations.page > docs/diagnostics.md"
    assert page == diagnostics_markdown(), f"run: {command}"
