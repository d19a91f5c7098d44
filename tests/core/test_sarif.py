"""SARIF logs are valid SARIF 2.1.0, and say what GitHub's code scanning needs."""

import copy
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import onnx_ir as ir
import pytest
from jsonschema import Draft202012Validator, ValidationError

from dlaconv import hookimpl
from dlaconv.cli import run
from dlaconv.diagnostics import Diagnostic, Diagnostics, Location, Severity
from dlaconv.driver.inspection import rule_list
from dlaconv.errors import ConversionError, UnreadableError, UsageError
from dlaconv.plugins import Plugin, Plugins
from dlaconv.sarif import artifact_location, sarif_log
from tests.backends.access.rules.rule_nets import one_conv
from tests.backends.access.rules.test_check import Broken, ColdColour

SCHEMA = json.loads(
    (Path(__file__).parents[1] / "data" / "sarif" / "sarif-2.1.0.json").read_text("utf-8")
)
VALIDATOR = Draft202012Validator(SCHEMA)
RULES = rule_list(Plugins(third_parties=False))
LEVELS = {"error", "warning", "note"}
URI = re.compile(
    r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]*(%[0-9A-F]{2}[A-Za-z0-9\-._~:/?#@!$&'()*+,;=]*)*"
)


def finding(rule="IO-3", severity=Severity.ERROR, **changes):
    row = next((row for row in RULES if row["id"] == rule), {"name": "long-concat"})
    changes.setdefault("location", Location("net.onnx", 0, "conv1", "Conv"))
    return Diagnostic(rule, row["name"], "map 'y' has 24 channels", severity, **changes)


def assert_valid(log):
    """Valid by the schema, and consistent in what the schema cannot say."""
    VALIDATOR.validate(log)
    json.dumps(log, allow_nan=False)
    [run_] = log["runs"]
    driver = run_["tool"]["driver"]
    for kind in ("rules", "notifications"):
        ids = [item["id"] for item in driver.get(kind, [])]
        assert len(ids) == len(set(ids))
        for item in driver.get(kind, []):
            for key in ("shortDescription", "fullDescription", "help"):
                assert 0 < len(item[key]["text"]) <= 1024 or key == "help"
            assert item["help"]["text"]
            assert item["defaultConfiguration"]["level"] in LEVELS
    for result in run_["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in LEVELS
        assert result["message"]["text"]
        [location] = result["locations"]
        assert location["physicalLocation"]
        assert list(result["partialFingerprints"]) == ["primaryLocationLineHash"]
    prints = [
        result["partialFingerprints"]["primaryLocationLineHash"] for result in run_["results"]
    ]
    assert len(prints) == len(set(prints))
    [invocation] = run_["invocations"]
    notes = [
        note
        for kind in ("Execution", "Configuration")
        for note in invocation.get(f"tool{kind}Notifications", [])
    ]
    for note in notes:
        descriptor = note["descriptor"]
        assert driver["notifications"][descriptor["index"]]["id"] == descriptor["id"]
    assert invocation["executionSuccessful"] == (not notes)
    for item in (*run_["results"], *notes):
        for location in item["locations"]:
            assert_location(location.get("physicalLocation"), run_["originalUriBaseIds"])
    return run_


def assert_location(physical, bases):
    if physical is None:
        return
    artifact = physical["artifactLocation"]
    uri = artifact["uri"]
    assert uri
    assert URI.fullmatch(uri), uri
    parts = urlsplit(uri)
    assert bool(parts.scheme) != ("uriBaseId" in artifact)
    if "uriBaseId" in artifact:
        base = bases[artifact["uriBaseId"]]["uri"]
        assert base.startswith("file:///")
        assert base.endswith("/")
        assert not uri.startswith("/")
        assert ".." not in uri.split("/")
    else:
        assert parts.scheme == "file"
    if "region" in physical:
        assert physical["region"]["startLine"] >= 1


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


# Through the command line.


def sarif(shown):
    return assert_valid(json.loads(shown.out))


@pytest.fixture
def file(tmp_path):
    """Writes an ACCESS file whose offences are wanted."""

    def write(model):
        path = tmp_path / "net ä.onnx"
        ir.save(model, path)
        return path

    return write


def test_check_prints_a_valid_log(dlaconv, file):
    path = file(one_conv(channels=24, strides=[3, 3], kernel=(3, 3)))
    shown = dlaconv("check", path, "--format", "sarif")
    assert (shown.code, shown.err) == (1, "")
    run_ = sarif(shown)
    found = [(result["ruleId"], result["level"]) for result in run_["results"]]
    assert ("CV-4", "error") in found
    assert ("IO-3", "warning") in found
    for result in run_["results"]:
        physical = result["locations"][0]["physicalLocation"]
        assert unquote(physical["artifactLocation"]["uri"]).endswith("net ä.onnx")
    assert any("logicalLocations" in result["locations"][0] for result in run_["results"])


def test_check_of_a_good_file_prints_a_valid_log_without_results(dlaconv, file):
    shown = dlaconv("check", file(one_conv()), "--format=sarif")
    assert shown.code == 0
    run_ = sarif(shown)
    assert run_["results"] == []
    assert run_["invocations"] == [{"executionSuccessful": True, "exitCode": 0}]
    assert run_["automationDetails"]["id"].endswith("net%20%C3%A4.onnx/")


def test_what_cannot_be_decided_is_a_note(dlaconv, file):
    run_ = sarif(dlaconv("check", file(one_conv(1, 16, "H", "W")), "--format", "sarif"))
    assert {"note", "error"} <= {result["level"] for result in run_["results"]}


class Rules:
    @hookimpl
    def register_rules(self):
        return [ColdColour(), Broken()]


def test_rules_of_plugins_are_described_and_their_failures_reported(capsys, plugins, file):
    plugins.add(Rules(), Plugin("cold", "cold 1.0"))
    assert run(["check", str(file(one_conv())), "--format", "sarif"], plugins) == 1
    run_ = assert_valid(json.loads(capsys.readouterr().out))
    rules = {item["id"]: item for item in run_["tool"]["driver"]["rules"]}
    assert rules["XX-1"]["shortDescription"]["text"] == "A network was trained on a Monday."
    assert [result["ruleId"] for result in run_["results"]].count("XX-2") == 2


def test_an_unreadable_file_is_a_notification(dlaconv, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no onnx")
    for arguments in (["check", path], ["check", tmp_path / "none.onnx"]):
        shown = dlaconv(*arguments, "--format", "sarif")
        assert shown.code == 3
        run_ = sarif(shown)
        [note] = run_["invocations"][0]["toolExecutionNotifications"]
        assert note["descriptor"]["id"] in {"DLA401", "DLA402"}
        assert note["locations"][0]["physicalLocation"]
        assert not run_["invocations"][0]["executionSuccessful"]


@pytest.mark.parametrize(
    "arguments", [["check", "--format=sarif"], ["check", "x", "--json", "--format", "sarif"]]
)
def test_wrong_usage_is_a_notification_of_the_configuration(dlaconv, arguments):
    shown = dlaconv(*arguments)
    assert shown.code == 2
    assert sarif(shown)["invocations"][0]["toolConfigurationNotifications"]


def test_a_conversion_prints_its_findings(dlaconv, driver, toy, tmp_path):
    driver.diagnostics.extend([finding(severity=Severity.WARNING), finding("DLA207")])
    driver.diagnostics.add(finding("DLA902", Severity.WARNING, location=Location(layer="fc")))
    for command in ("from-toy", "convert"):
        shown = dlaconv(command, toy, "-o", tmp_path / "y.onnx", "--format", "sarif")
        assert shown.code == 0
        run_ = sarif(shown)
        assert [result["ruleId"] for result in run_["results"]] == ["IO-3", "DLA207", "DLA902"]
        uri = run_["results"][2]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri.endswith("net.toy")


@pytest.mark.parametrize("command", ["from-toy", "convert"])
def test_a_refused_conversion_prints_results(dlaconv, driver, toy, tmp_path, command):
    error = ConversionError([finding(), finding("DLA301")], "nothing is written")
    driver.replace("convert_imported", lambda *_, **__: error)
    shown = dlaconv(command, toy, "-o", tmp_path / "y.onnx", "--format", "sarif")
    assert shown.code == 1
    assert [result["ruleId"] for result in sarif(shown)["results"]] == ["IO-3", "DLA301"]


@pytest.mark.parametrize(
    ("error", "code", "key"),
    [
        (UnreadableError(finding("DLA402")), 3, "toolExecutionNotifications"),
        (UsageError(finding("DLA423", location=Location())), 2, "toolConfigurationNotifications"),
        (RuntimeError("oops"), 70, "toolExecutionNotifications"),
        (MemoryError(), 1, "toolExecutionNotifications"),
        (OSError(28, "No space left on device", "/x/y z.onnx"), 3, "toolExecutionNotifications"),
    ],
)
def test_failures_of_a_conversion_are_valid_logs(dlaconv, driver, toy, tmp_path, error, code, key):
    driver.replace("convert_imported", lambda *_, **__: error)
    shown = dlaconv("convert", toy, "-o", tmp_path / "y.onnx", "--format", "sarif")
    assert shown.code == code
    run_ = sarif(shown)
    assert run_["results"] == []
    assert len(run_["invocations"][0][key]) == 1


def test_text_and_json_stay_what_they_were(dlaconv, driver, toy, tmp_path):
    output = ["-o", tmp_path / "y.onnx"]
    as_json = dlaconv("convert", toy, *output, "--json").out
    assert dlaconv("convert", toy, *output, "--format", "json").out == as_json
    text = dlaconv("convert", toy, *output).out
    assert dlaconv("convert", toy, *output, "--format", "text").out == text
    assert isinstance(driver.diagnostics, Diagnostics)
