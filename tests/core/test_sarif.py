"""SARIF logs are valid SARIF 2.1.0, and say what GitHub's code scanning needs."""

import copy
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from jsonschema import ValidationError

from dlaconv.diagnostics import Location, Severity
from dlaconv.sarif import artifact_location, sarif_log
from tests.core.sarif_logs import (
    RULES,
    VALIDATOR,
    assert_valid,
    finding,
)

LOGS = {
    "no findings": [],
    "an error": [finding()],
    "a warning": [finding(severity=Severity.WARNING)],
    "a note": [finding("CV-2", Severity.NOTE)],
    "a line": [finding(location=Location("deploy.prototxt", 41, "conv1", "Convolution"))],
    "a whole file": [finding("GR-1", location=Location("net.onnx"))],
    "no place": [finding("DLA901", Severity.WARNING, location=Location(layer="fc"))],
    "help and notes": [finding(help="pad it to 32 channels with zeros", notes=("node 'c'", "why"))],
    "a diagnostic that is no rule": [finding("DLA301")],
    "a plugin's diagnostic": [finding("ACME-1", help="ask ACME")],
    "a plugin's without help": [finding("ACME-2")],
    "one rule twice": [finding(), finding(location=Location("net.onnx", 0, "conv2", "Conv"))],
    "one place twice": [finding("GR-1"), finding("GR-1", help="another")],
    "signs": [finding(location=Location('a "b" <c> & %41 é 漢.onnx', 0, "x\n\t\\", "C:v"))],
    "everything": [finding(row["id"], Severity(row["severity"])) for row in RULES],
}


@pytest.mark.parametrize("kind", LOGS)
def test_logs_of_findings_are_valid(kind):
    run_ = assert_valid(sarif_log(LOGS[kind], RULES, file="net.onnx", exit_code=1))
    assert len(run_["results"]) == len(LOGS[kind])
    assert run_["invocations"][0]["exitCode"] == 1


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("code", [1, 2, 3, 70])
def test_logs_of_failures_are_valid_and_have_no_results(kind, code):
    if not LOGS[kind]:
        return
    run_ = assert_valid(sarif_log(LOGS[kind], RULES, exit_code=code, failed=True))
    assert run_["results"] == run_["tool"]["driver"]["rules"] == []
    key = "toolConfigurationNotifications" if code == 2 else "toolExecutionNotifications"
    assert len(run_["invocations"][0][key]) == len(LOGS[kind])


def test_a_log_is_valid_even_if_no_rule_is_known():
    assert_valid(sarif_log(LOGS["everything"], [], exit_code=1))


def spoilt(path, value):
    log = copy.deepcopy(sarif_log(LOGS["an error"], RULES, exit_code=1))
    *parents, last = path
    place = log
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return log


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], "2.0"),
        (["runs", 0, "tool"], None),
        (["runs", 0, "results", 0, "message"], None),
        (["runs", 0, "results", 0, "level"], "fatal"),
        (["runs", 0, "results", 0, "surprise"], 1),
        (["runs", 0, "results", 0, "ruleIndex"], -2),
        (["runs", 0, "tool", "driver", "rules", 0, "id"], None),
        (["runs", 0, "invocations", 0, "executionSuccessful"], None),
    ],
)
def test_the_schema_refuses_what_is_wrong(path, value):
    with pytest.raises(ValidationError):
        VALIDATOR.validate(spoilt(path, value))


def test_every_rule_of_the_hardware_is_described_even_if_it_finds_nothing():
    run_ = assert_valid(sarif_log([], RULES))
    described = [item["id"] for item in run_["tool"]["driver"]["rules"]]
    assert described == [row["id"] for row in RULES if not row["id"].startswith("DLA")]
    rows = {row["id"]: row for row in RULES}
    for item in run_["tool"]["driver"]["rules"]:
        row = rows[item["id"]]
        assert item["shortDescription"]["text"] == row["summary"]
        assert all(
            row[key] in item["fullDescription"]["text"] for key in ("summary", "what", "why")
        )
        for text in item["help"].values():
            assert all(row[key] in text for key in ("what", "clause", "why", "remedy"))


def test_a_finding_says_once_what_its_rule_does_not_say():
    row = next(row for row in RULES if row["id"] == "IO-3")
    plain = finding(help=row["remedy"], notes=("node 'c' in the file", row["why"]))
    own = finding(help="pad it to 32 channels with zeros", notes=(row["why"],))
    first, second = (
        sarif_log([item], RULES, exit_code=1)["runs"][0]["results"][0] for item in (plain, own)
    )
    assert first["message"]["text"] == "map 'y' has 24 channels.\nNote: node 'c' in the file."
    assert second["message"]["text"] == (
        "map 'y' has 24 channels.\nHelp: pad it to 32 channels with zeros."
    )
    [logical] = first["locations"][0]["logicalLocations"]
    assert (logical["name"], logical["properties"]["op"]) == ("conv1", "Conv")


def test_lines_are_given_where_the_source_has_them():
    places = [Location("a.prototxt", 41, "conv1"), Location("a.onnx", 0, "conv1")]
    results = sarif_log([finding(location=place) for place in places], RULES, exit_code=1)["runs"][
        0
    ]["results"]
    physical = [result["locations"][0]["physicalLocation"] for result in results]
    assert physical[0]["region"] == {"startLine": 41}
    assert "region" not in physical[1]


def fingerprints(*found):
    results = sarif_log(found, RULES, exit_code=1)["runs"][0]["results"]
    return [result["partialFingerprints"]["primaryLocationLineHash"] for result in results]


def test_fingerprints_stay_when_numbers_change_and_tell_places_apart():
    [one], [other] = fingerprints(finding()), fingerprints(finding(help="x", notes=("32",)))
    assert one == other
    places = [Location("a.onnx", 0, name, op) for name in ("a", "b") for op in ("Conv", "Add")]
    found = [finding(location=place) for place in (*places, Location("b.onnx", 0, "a", "Conv"))]
    assert len(set(fingerprints(*found))) == 5
    first, second = fingerprints(finding(), finding(severity=Severity.WARNING))
    assert (first[:-2], first[-2:], second[-2:]) == (second[:-2], ":1", ":2")


def test_files_in_the_working_folder_are_relative_and_others_absolute(tmp_path, monkeypatch):
    folder = tmp_path / "a b%é"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in (
        "net.onnx",
        "sub/net.onnx",
        "./sub/../net.onnx",
        "ä b#?.onnx",
        "a:b.onnx",
        "n\\et",
    ):
        location = artifact_location(name)
        assert location["uriBaseId"] == "%SRCROOT%"
        assert unquote(location["uri"]) == name.replace("./sub/../", "")
        assert artifact_location(str(folder / name)) == location
    for name in ("../net.onnx", str(tmp_path / "x y.onnx")):
        location = artifact_location(name)
        assert "uriBaseId" not in location
        whole = tmp_path / Path(name).name
        assert unquote(urlsplit(location["uri"]).path) == str(whole)
    base = sarif_log([], RULES)["runs"][0]["originalUriBaseIds"]["%SRCROOT%"]["uri"]
    assert unquote(urlsplit(base).path) == f"{folder}/"


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("C:\\nets\\a b.onnx", "file:///C:/nets/a%20b.onnx"),
        ("d:/nets/net.onnx", "file:///d:/nets/net.onnx"),
        ("\\\\server\\share\\ä.onnx", "file://server/share/%C3%A4.onnx"),
    ],
)
def test_windows_paths_become_file_uris(file, uri):
    assert artifact_location(file) == {"uri": uri}
    assert_valid(sarif_log([finding(location=Location(file))], RULES, exit_code=1))


def test_names_that_are_no_text_become_uris():
    name = b"a\xff.onnx".decode("utf-8", "surrogateescape")
    assert artifact_location(name)["uri"] == "a%FF.onnx"
