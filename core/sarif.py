"""Diagnostics as SARIF 2.1.0, the format in which code-scanning services take findings.

Findings about the network become results. What kept dlaconv from looking at it (a file that cannot
be read, wrong options) becomes a notification of the invocation, as there are no results then.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import quote

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import EXIT_OK, EXIT_USAGE

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_ROOT = "%SRCROOT%"
_LONGEST = 1024
"""Characters of a description that GitHub takes."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")

Json = dict[str, Any]


def sarif_log(
    diagnostics: Iterable[Diagnostic],
    rules: Sequence[Mapping[str, str]],
    *,
    file: str = "",
    exit_code: int = EXIT_OK,
    failed: bool = False,
) -> Json:
    """A SARIF log of one run.

    Args:
        diagnostics: what was found.
        rules: rules and explanations as JSON values, see `dlaconv.driver.inspection.rule_list`;
            those of the hardware are all listed, the others where they are used.
        file: the file that was looked at, for findings that name none; the first one that a
            finding names if empty.
        exit_code: how the run ended.
        failed: True if the diagnostics are no findings but say why there are none.
    """
    from dlaconv import __version__

    found = list(diagnostics)
    file = file or next((item.location.file for item in found if item.location.file), "")
    known = {row["id"]: row for row in rules}
    checked = [] if failed else [row["id"] for row in rules if row["clause"]]
    used = {item.rule: item for item in found}
    ids = [*checked, *(id_ for id_ in used if id_ not in checked)]
    descriptors = [
        _descriptor(known[id_]) if id_ in known else _foreign_descriptor(used[id_]) for id_ in ids
    ]
    index = {id_: place for place, id_ in enumerate(ids)}
    invocation: Json = {"executionSuccessful": not failed, "exitCode": exit_code}
    if failed:
        kind = "Configuration" if exit_code == EXIT_USAGE else "Execution"
        invocation[f"tool{kind}Notifications"] = [_notification(item, index) for item in found]
    driver: Json = {
        "name": "dlaconv",
        "fullName": f"dlaconv {__version__}",
        "semanticVersion": __version__,
        "rules": [] if failed else descriptors,
    }
    if failed:
        driver["notifications"] = descriptors
    place = artifact_location(file)["uri"] if file else ""
    run = {
        "tool": {"driver": driver},
        # logs of several networks do not replace each other where they are uploaded
        "automationDetails": {"id": f"dlaconv/{place}/" if place else "dlaconv/"},
        "invocations": [invocation],
        "originalUriBaseIds": {_ROOT: {"uri": f"{Path.cwd().as_uri()}/"}},
        "columnKind": "unicodeCodePoints",
        "results": [] if failed else _results(found, index, known, file),
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def artifact_location(file: str) -> Json:
    """Where a file is: relative to the working folder if it lies there, else a file URI."""
    if os.name != "nt" and _DRIVE.match(file):
        return {"uri": PureWindowsPath(file).as_uri()}
    whole = Path(os.path.abspath(file))  # without ".."
    if not whole.is_relative_to(Path.cwd()):
        return {"uri": whole.as_uri()}
    inside = whole.relative_to(Path.cwd()).as_posix()
    return {"uri": quote(os.fsencode(inside)), "uriBaseId": _ROOT}


def _results(
    found: Sequence[Diagnostic],
    index: Mapping[str, int],
    known: Mapping[str, Mapping[str, str]],
    file: str,
) -> list[Json]:
    results = []
    seen: Counter[str] = Counter()
    for item in found:
        location = _location(item, file)
        place = item.location
        uri = location.get("physicalLocation", {}).get("artifactLocation", {}).get("uri", "")
        key = json.dumps([item.rule, uri, place.layer, place.op])
        identity = hashlib.sha256(key.encode()).hexdigest()[:16]
        seen[identity] += 1
        results.append(
            {
                "ruleId": item.rule,
                "ruleIndex": index[item.rule],
                "level": str(item.severity),
                "message": {"text": _text(item, known.get(item.rule, {}))},
                "locations": [location] if location else [],
                # what GitHub compares from run to run; numbers in a message may change
                "partialFingerprints": {"primaryLocationLineHash": f"{identity}:{seen[identity]}"},
            }
        )
    return results


def _notification(item: Diagnostic, index: Mapping[str, int]) -> Json:
    location = _location(item, "")
    return {
        "descriptor": {"id": item.rule, "index": index[item.rule]},
        "level": str(item.severity),
        "message": {"text": _text(item, {})},
        "locations": [location] if location else [],
    }


def _location(item: Diagnostic, file: str) -> Json:
    place = item.location
    location: Json = {}
    if place.file or file:
        physical: Json = {"artifactLocation": artifact_location(place.file or file)}
        if place.line:
            physical["region"] = {"startLine": place.line}
        location["physicalLocation"] = physical
    if place.layer:
        logical: Json = {"fullyQualifiedName": place.layer, "name": place.layer, "kind": "layer"}
        if place.op:
            logical["properties"] = {"op": place.op}
        location["logicalLocations"] = [logical]
    return location


def _text(item: Diagnostic, row: Mapping[str, str]) -> str:
    """The message, and what its rule does not say already about this very case."""
    lines = [_sentence(item.message)]
    lines += [f"Note: {_sentence(note)}" for note in item.notes if note != row.get("why")]
    if item.help and item.help != row.get("remedy"):
        lines.append(f"Help: {_sentence(item.help)}")
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _descriptor(row: Mapping[str, str]) -> Json:
    what = [row["summary"]] if row["what"] == row["summary"] else [row["summary"], row["what"]]
    parts = {"What it does": row["what"], "Clause": row["clause"]} if row["clause"] else {}
    parts |= {"Why it matters": row["why"], "What to do": row["remedy"]}
    return {
        "id": row["id"],
        "name": row["name"],
        "shortDescription": {"text": row["summary"]},
        "fullDescription": {"text": " ".join([*what, row["why"]])[:_LONGEST]},
        "help": {
            "text": "\n\n".join(f"{head}: {text}" for head, text in parts.items()),
            "markdown": "\n\n".join(f"**{head}.** {text}" for head, text in parts.items()),
        },
        "defaultConfiguration": {"level": row["severity"]},
    }


def _foreign_descriptor(item: Diagnostic) -> Json:
    """The descriptor of a plugin's diagnostic, of which nothing is known but itself."""
    words = item.name.replace("-", " ").capitalize() + "."
    return {
        "id": item.rule,
        "name": item.name,
        "shortDescription": {"text": words},
        "fullDescription": {"text": words},
        "help": {"text": item.help or words},
        "defaultConfiguration": {"level": str(item.severity)},
    }
