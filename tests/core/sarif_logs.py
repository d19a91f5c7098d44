"""SARIF logs held against the schema, and against what GitHub's code scanning needs."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from dlaconv.diagnostics import Diagnostic, Location, Severity
from dlaconv.driver.inspection import rule_list
from dlaconv.plugins import Plugins

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
