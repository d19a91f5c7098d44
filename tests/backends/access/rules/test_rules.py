"""Every rule accepts its good files, refuses its bad ones, and explains itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules import RULES, documentation
from dlaconv.backends.access.rules.rule import SECTIONS
from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir.documentation import Documentation
from dlaconv.ir.target import Target
from tests.backends.access.rules.case import Case
from tests.backends.access.rules.rule_cases import CASES
from tests.backends.access.rules.rule_nets import TARGET

BY_ID = {rule.id: rule for rule in RULES}
ROOT = Path(__file__).parents[4]

every_case = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.rule}-{case.says[:24]}"
)
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def findings(case: Case, model) -> list[Diagnostic]:
    return list(BY_ID[case.rule].check(AccessModel(model, case.target)))


@every_case
def test_the_good_file_has_no_finding(case):
    assert findings(case, case.good()) == []


@every_case
def test_the_bad_file_has_one_finding_that_says_what_where_and_why(case):
    (found,) = findings(case, case.bad())
    rule = BY_ID[case.rule]
    assert case.says in found.message
    assert found.severity is case.severity
    assert (found.rule, found.name) == (rule.id, rule.name)
    assert found.notes[-1] == rule.documentation.sections["Why it matters on the hardware"]
    assert found.help


def test_findings_name_the_place():
    whole_file = {"GR-1"}
    for case in CASES:
        (found,) = findings(case, case.bad())
        if case.rule not in whole_file and "checker" not in found.message:
            assert found.location.layer, case.rule
            assert found.location.op, case.rule


def test_every_rule_has_a_good_and_a_bad_file():
    assert {case.rule for case in CASES} == set(BY_ID)


def test_every_rule_of_the_guide_is_there():
    families = {
        "GR": 4, "IO": 5, "CV": 9, "DW": 6, "AC": 4, "PL": 8, "FC": 2, "EL": 4, "CT": 1, "BN": 1,
        "MM": 1, "RS": 1, "TR": 1, "SC": 10, "AT": 8,
    }  # fmt: skip
    expected = {
        f"{letters}-{n}" for letters, count in families.items() for n in range(1, count + 1)
    }
    assert expected == set(BY_ID)  # SC-11 is about data, which a file does not hold
    assert len(BY_ID) == len(RULES)


def test_what_the_guide_says_is_an_error_and_our_reading_a_warning_where_it_is_uncertain():
    warnings = {rule.id for rule in RULES if rule.severity is Severity.WARNING}
    assert warnings == {
        "IO-5", "AC-1", "AC-3", "AC-4", "PL-7", "EL-2", "EL-4", "RS-1", "TR-1", "SC-8",
        "SC-9", "SC-10", "AT-5", "AT-8",
    }  # fmt: skip


@every_rule
def test_rule_names_are_unique_kebab_case_and_name_an_offence(rule):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.name)
    assert [other.name for other in RULES].count(rule.name) == 1
    assert not rule.name.startswith(("no-", "disallow", "require", "must"))


@every_rule
def test_rules_document_themselves(rule):
    document = rule.documentation
    assert document.summary.endswith(".")
    assert rule.clause.endswith(".")
    assert all(text.endswith((".", ")")) for text in document.sections.values())
    assert rule.id.split("-")[0] in documentation.FAMILIES


def test_a_docstring_without_a_section_is_refused():
    with pytest.raises(ValueError, match="What to do"):
        Documentation.parse(
            "A thing.\n\nWhat it does: x.\n\nWhy it matters on the hardware: y.\n", SECTIONS
        )


def test_the_page_of_rules_is_generated_from_the_rules():
    page = (ROOT / "docs" / "rules.md").read_text("utf-8")
    command = "python -m dlaconv.backends.access.rules.documentation > docs/rules.md"
    assert page == documentation.rules_markdown(), f"run: {command}"


@every_rule
def test_rule_text_has_everything_in_order(rule):
    text = documentation.rule_text(rule.id.lower())
    places = [text.index(part) for part in (rule.id, rule.clause, "What it does", "What to do")]
    assert places == sorted(places)


def test_an_unknown_rule_has_no_text():
    with pytest.raises(KeyError):
        documentation.rule_text("XX-1")


def test_the_list_of_rules_has_one_row_each():
    rows = documentation.rule_list()
    assert [row["id"] for row in rows] == [rule.id for rule in RULES]
    assert all(all(isinstance(text, str) and text for text in row.values()) for row in rows)


def test_the_operator_table_has_every_operator_with_its_limits():
    rows = {row["op"]: row for row in documentation.ops_table(TARGET)}
    assert set(rows) == {*TARGET.ops, "Conv (depth-wise)"}
    assert all(row["limits"] for row in rows.values())
    assert rows["MaxPool"]["scales"] == "same"
    assert rows["Conv"]["scales"] == "may differ"
    assert "kernel 2x2 or 3x3" in rows["MaxPool"]["limits"]
    assert "map 4 to 512" in rows["Conv (depth-wise)"]["limits"]
    assert "A_scale" in rows["MatMul"]["attributes"]


def test_the_operator_table_follows_the_target():
    import json
    from importlib.resources import files

    data = json.loads(files("dlaconv.schemas").joinpath("access-1.2.0.json").read_text("utf-8"))
    data["max_pool_kernels"] = [5]
    data["conv"]["kernel"] = [1, 11]
    rows = {row["op"]: row for row in documentation.ops_table(Target.from_json(data))}
    assert "kernel 5x5" in rows["MaxPool"]["limits"]
    assert "kernel 1 to 11" in rows["Conv"]["limits"]


def test_severities_in_the_table_are_the_worst_that_a_rule_reports():
    order = [Severity.NOTE, Severity.WARNING, Severity.ERROR]
    for case in CASES:
        if case.rule != "SC-9":  # a warning that the target may turn into an error
            assert order.index(case.severity) <= order.index(BY_ID[case.rule].severity)


def test_a_convolution_with_too_few_axes_is_told_otherwise_than_one_with_too_many():
    said = {case.says: findings(case, case.bad())[0].help for case in CASES if case.rule == "CV-9"}
    assert "width of 1" in said["rank 3"]
    assert "--partition" in said["rank 5"]
