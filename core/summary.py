"""Documents as text: the summary of a conversion, a check, a comparison, a run.

Everything is rendered from the JSON document, so text and ``--json`` cannot disagree.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv import __version__, tables
from dlaconv.diagnostics import Diagnostic, listed
from dlaconv.tables import pairs

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.backends.access.rules import CheckResult

Json = Mapping[str, Any]
_TIES = 10
"""Samples that are named."""


def table(rows: Sequence[Json]) -> str:
    """Rows as a table; the keys of the first row are the headings."""
    if not rows:
        return "nothing to list"
    return tables.table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])


def summary(report: Json, *, verbose: bool = False) -> str:
    """The summary of a conversion, from its report."""
    parts: list[str] = [pairs(_summary_rows(report, verbose=verbose))]
    contract = report["io"]
    parts.append(_ports("what to feed", contract["inputs"]))
    parts.append(_ports("what comes out", contract["outputs"]))
    return "\n\n".join(parts)


def _summary_rows(report: Json, *, verbose: bool) -> list[tuple[str, str]]:
    counts, rules = report["summary"], report["rules"]
    source, target = report["source"], report["target"]
    rows = [
        ("source", _source(source)),
        ("target", f"{target['name']} {target['version']}"),
        ("layers", str(counts["layers"])),
        *_shares(report),
        ("maps", _counted(counts["maps"])),
        ("weights", _counted(counts["weights"])),
        *_overrides(report),
    ]
    if (verification := report["verification"]) is not None:
        rows += [(f"QSNR of {n!r}", _quality(r)) for n, r in verification["outputs"].items()]
        rows += argmax_rows(verification["argmax"])
        rows.append(("compared on", _comparison(verification)))
    if (run := report["reference"]) is not None:
        said = f"{run['samples']} samples, outputs differ by at most {run['largest']:.2g}"
        rows.append((f"source in {run['program']}", said))
    rows.append(("rules", _rules(rules)))
    rows.append(("rewrites", _rewrites(report["rewrites"])))
    if verbose:
        rows += [("", f"{i['layer']}: {i['detail']} ({i['name']})") for i in report["rewrites"]]
        total = sum(report["timings"].values())
        slowest = sorted(report["timings"].items(), key=lambda item: -item[1])[:3]
        spent = ", ".join(f"{name} {seconds:.2f}" for name, seconds in slowest)
        rows.append(("seconds", f"{total:.2f} ({spent})"))
    written = report["output"]
    rows.append(("written", written["file"] or "nothing"))
    others = [part for part in report["parts"] if Path(written["file"] or "").name != part["file"]]
    rows += [(f"part for the {part['side']}", part["file"]) for part in others]
    rows += [(f"{kind} model", file) for kind, file in written["emitted"].items()]
    rows += [(Path(file).suffix[1:] or "also", file) for file in written["further"]]
    return rows


def _source(source: Json) -> str:
    """The files of a network and how they were read."""
    files = [source["file"], *(item["file"] for item in source["further"])]
    return f"{', '.join(files)} ({' '.join([source['frontend'], *source['options']])})"


def _rewrites(rewrites: Sequence[Json]) -> str:
    """How many there are, and what they cost."""
    inexact = [item for item in rewrites if not item["exact"]]
    text = f"{len(rewrites)}, {len(inexact)} of them approximate"
    macs = sum(item["macs"] for item in rewrites)
    return (
        f"{text}; {abs(macs):,} multiplications {'more' if macs > 0 else 'less'}" if macs else text
    )


def _overrides(report: Json) -> list[tuple[str, str]]:
    """What --qconfig changed."""
    changed = Counter(row["kind"] for row in report["tensors"] if "override" in row)
    kinds = {"map": "map", "weight": "weight tensor"}
    listed = [f"{n} {kinds[kind]}{'' if n == 1 else 's'}" for kind, n in sorted(changed.items())]
    return [("overridden", ", ".join(listed))] if listed else []


def _shares(report: Json) -> list[tuple[str, str]]:
    """What the host does of a network that is cut: its share, and one reason of each kind."""
    if not report["host"]:
        return []
    macs = report["summary"]["macs"]
    share = 1 - macs["host"] / macs["source"] if macs["source"] else 1.0
    rows = [("accelerator", f"{share:.2%} of {macs['source']:,} multiplications")]
    alike: dict[str, list[Json]] = {}
    for item in report["host"]:
        alike.setdefault(_kind(item), []).append(item)
    for items in alike.values():
        counts = Counter(item["op"] for item in items)
        named = ", ".join(op if n == 1 else f"{op} ({n}x)" for op, n in counts.items())
        reasons = list(dict.fromkeys(item["reason"] for item in items))
        more = f" (and {len(reasons) - 1} more like it)" if len(reasons) > 1 else ""
        rows.append(("host", f"{named}: {reasons[0]}{more}"))
    return rows


def _kind(item: Json) -> str:
    """What reasons of one kind have in common: the rule, or the words without the operator."""
    head, colon, _ = item["reason"].partition(": ")
    return head if colon else str(item["reason"]).replace(item["op"], "")


def check_json(result: CheckResult, file: Path) -> dict[str, Any]:
    """A check as JSON values; see ``schemas/check.schema.json``."""
    return {
        "dlaconv": __version__,
        "file": str(file),
        "convention": result.convention,
        "convention_source": result.convention_source,
        "passed": sorted(result.passed),
        "violated": dict(sorted(result.violated.items())),
        "undecided": sorted(result.undecided),
        "diagnostics": [item.as_json() for item in result.diagnostics],
    }


def check_summary(document: Json, *, verbose: bool = False) -> str:
    """The last lines of a check."""
    rows = [
        ("file", document["file"]),
        ("scale convention", f"{document['convention']} ({document['convention_source']})"),
        ("rules", _rules(document)),
    ]
    if document["undecided"]:
        rows.append(("not decided", ", ".join(document["undecided"])))
    if verbose:
        rows.append(("passed", ", ".join(document["passed"])))
    return pairs(rows)


def verification_summary(document: Json) -> str:
    """A comparison as a table, one map a row."""
    rows = []
    for row in document["maps"]:
        whole, local = row["accumulated"], row["local"]
        rows.append(
            [
                row["name"],
                row["class"],
                f"{whole['count']:,}",
                f"{whole['differing']:,}",
                f"{local['differing']:,}",
                f"{whole['clipped']:,}",
                f"{whole['largest']:.4g}",
                f"{local['largest']:.4g}",
                _quality(whole),
                f"{whole['cosine']:.6f}",
            ]
        )
    headings = ["map", "class", "values", "differ", "(local)", "clipped", "largest", "(local)"]
    parts: list[str] = [tables.table([*headings, "QSNR", "cosine"], rows)]
    ends = [("compared on", _comparison(document))]
    ends += [(f"QSNR of {n!r}", _quality(row)) for n, row in document["outputs"].items()]
    ends += argmax_rows(document["argmax"])
    if document["inputs"].startswith("random") and any(
        r["class"] == "derived" for r in document["maps"]
    ):
        ends.append(
            ("mind", "random inputs may reach beyond the ranges that were calibrated; give --input")
        )
    if words := document["source_options"]:
        ends.append(("source read with", " ".join(words)))
    if document["unmatched"]:
        ends.append(("not compared", ", ".join(document["unmatched"])))
    return "\n\n".join([*parts, pairs(ends)])


def argmax_rows(found: Mapping[str, Json]) -> list[tuple[str, str]]:
    """On which samples outputs keep their largest value, and where that was nearly a tie."""
    rows = []
    for name, item in found.items():
        ties, changed = set(item["near_ties"]), [row["sample"] for row in item["changed"]]
        text = f"kept on {item['kept']} of {item['samples']} samples"
        if clear := [sample for sample in changed if sample not in ties]:
            text += f", changed on {_numbered(clear, 5)}"
        if ties:
            both = len(ties.intersection(changed))
            plural = "" if len(ties) == 1 else "s"
            named = _numbered(item["near_ties"], _TIES)
            text += f"; {len(ties)} near tie{plural} ({named}), {both or 'none'} of them changed"
        rows.append((f"argmax of {name!r}", text))
    return rows


def _numbered(samples: Sequence[int], most: int) -> str:
    """Samples by number, so that none of these is taken for a count."""
    word = "sample" if len(samples) == 1 else "samples"
    return f"{word} {listed([str(sample) for sample in samples], most)}"


def strip_summary(document: Json) -> str:
    """The result of taking the private attributes out of a file."""
    removed = document["removed"]
    listed = ", ".join(f"{name} ({count}x)" for name, count in removed.items())
    return pairs([("removed", listed), ("written", document["output"])])


def arrays_json(arrays: Mapping[str, np.ndarray], output: Path) -> dict[str, Any]:
    """The results of a run as JSON values: what was written, not the numbers themselves."""
    outputs = {
        name: {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "min": array.min().item() if array.size else None,
            "max": array.max().item() if array.size else None,
        }
        for name, array in arrays.items()
    }
    return {"dlaconv": __version__, "output": str(output), "outputs": outputs}


def arrays_table(document: Json) -> str:
    """The results of a run as a table."""
    rows = [
        [name, _shape(item["shape"]), item["dtype"], str(item["min"]), str(item["max"])]
        for name, item in document["outputs"].items()
    ]
    text = tables.table(["output", "shape", "type", "smallest", "largest"], rows)
    return f"{text}\n\n{pairs([('written', document['output'])])}"


def unknown_rule(rule_id: str, known: Sequence[str]) -> Diagnostic:
    """The diagnostic for an id that does not exist."""
    near = difflib.get_close_matches(rule_id.upper(), known, 3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return Diagnostic(
        "DLA424",
        "unknown-rule",
        f"there is no rule or diagnostic {rule_id!r}",
        help=f"{hint}`dlaconv rule` lists them all",
    )


def _ports(title: str, ports: Sequence[Json]) -> str:
    rows = [
        [
            port["name"],
            f"{port['layout']} {_shape(port['shape'])}",
            f"{port['dtype']} in {port['qmin']}..{port['qmax']}",
            port.get("feed") or port["read"],
        ]
        for port in ports
    ]
    return tables.table([title, "shape", "integers", "conversion"], rows)


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def _rules(rules: Json) -> str:
    violated = rules["violated"]
    text = f"{len(rules['passed'])} passed, {len(violated)} violated"
    listed = ", ".join(f"{rule} ({count}x)" for rule, count in violated.items())
    return f"{text}: {listed}" if listed else text


def _comparison(verification: Json) -> str:
    outcome = "passed" if verification["passed"] else "FAILED"
    count = verification["samples"]
    plural = "" if count == 1 else "s"
    return f"{count} sample{plural} of {verification['inputs']}: {outcome}"


def _quality(difference: Json) -> str:
    if difference["qsnr_db"] is None:  # a ratio without noise, or one without signal
        return "exact" if difference["largest"] == 0 else "no signal"
    return f"{difference['qsnr_db']:.1f} dB"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
