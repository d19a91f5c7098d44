"""What commands print with ``--format sarif``."""

import json
from urllib.parse import unquote

import onnx_ir as ir
import pytest

from dlaconv import hookimpl
from dlaconv.cli import run
from dlaconv.diagnostics import Diagnostics, Location, Severity
from dlaconv.errors import ConversionError, UnreadableError, UsageError
from dlaconv.plugins import Plugin
from tests.backends.access.rules.rule_nets import one_conv
from tests.backends.access.rules.test_check import Broken, ColdColour
from tests.core.sarif_logs import assert_valid, finding


@pytest.fixture
def file(tmp_path):
    """Writes an ACCESS file whose offences are wanted."""

    def write(model):
        path = tmp_path / "net ä.onnx"
        ir.save(model, path)
        return path

    return write


def sarif(shown):
    return assert_valid(json.loads(shown.out))


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
