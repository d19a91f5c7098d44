"""The parts of the page, each made from the JSON report of a conversion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlaconv.html.markup import Markup, element, joined, mark, section, table

Json = Mapping[str, Any]
_KINDS = {
    "exact": "good",
    "rescaled": "soft",
    "requantised": "warn",
    "clipped": "warn",
    "derived": "soft",
}
_SEVERITIES = {"error": "bad", "warning": "warn", "note": "soft"}


def cards(report: Json) -> Markup:
    """What matters most, in a few numbers."""
    counts, rules = report["summary"], report["rules"]
    found: list[tuple[object, str]] = []
    verification = report["verification"]
    if verification is not None:
        outputs = verification["outputs"]
        found += [(decibels(row), f"QSNR of {name}") for name, row in outputs.items()]
        passed = mark("passed", "good") if verification["passed"] else mark("FAILED", "bad")
        samples = verification["samples"]
        found.append((passed, f"compared on {samples} sample{'' if samples == 1 else 's'}"))
    violated = len(rules["violated"])
    text = f"{len(rules['passed'])} passed" + (f", {violated} violated" if violated else "")
    found.append((text, "rules of the hardware"))
    found.append((str(counts["layers"]), "layers on the accelerator"))
    macs = counts["macs"]
    if macs["source"]:
        share = 1 - macs["host"] / macs["source"]
        found.append(
            (
                f"{share:.4g}".rstrip("0") if share == 0 else f"{share:.1%}",
                f"of {macs['source']:,} multiplications on the accelerator",
            )
        )
    maps = {name: count for name, count in counts["maps"].items() if count}
    found.append((str(sum(maps.values())), "maps: " + _listed(maps)))
    weights = {name: count for name, count in counts["weights"].items() if count}
    if weights:
        found.append((str(sum(weights.values())), "weight tensors: " + _listed(weights)))
    return element(
        "div",
        *(element("div", element("b", n), element("span", t), class_="card") for n, t in found),
        class_="cards",
    )


def ports(report: Json) -> Markup:
    """What the host feeds and what comes out."""
    blocks = []
    for title, rows in (("input", report["io"]["inputs"]), ("output", report["io"]["outputs"])):
        cells = [
            [
                row["name"],
                f"{row['layout']} {shape(row['shape'])}",
                f"{row['dtype']} in {row['qmin']} to {row['qmax']}",
                f"{row['real_step']:.9g}",
                element("code", row.get("feed") or row["read"]),
            ]
            for row in rows
        ]
        headings = [title, "shape", "integers", "real value of a unit", "conversion"]
        blocks.append(table(headings, cells, "t"))
    text = "x is the real value of the tensor in its row; integers go to or come from the hardware."
    return section("feed", "What to feed, and what comes out", text, *blocks)


def quality(report: Json) -> Markup:
    """The chart of all layers."""
    verification = report["verification"]
    if verification is None or not verification["maps"]:
        text = "The conversion was not compared with its source (--no-verify)."
        return section("quality", "QSNR by layer", text)
    legend = element(
        "div",
        element("span", element("i", class_="l-alone"), "alone: fed with the source's values"),
        element("span", element("i", class_="l-whole"), "in the network: errors accumulate"),
        element("span", element("i", class_="l-exact"), "exact: no difference at all"),
        class_="legend",
    )
    text = (
        "Signal over quantisation noise of every map in decibels, in execution order; number of "
        f"samples: {verification['samples']} of {verification['inputs']}. Point at a layer for its "
        "name."
    )
    if verification["unmatched"]:
        text += f" Not in the source: {', '.join(verification['unmatched'])}."
    chart = element("div", data_chart="quality", class_="scroll")
    return section("quality", "QSNR by layer", text, legend, chart)


def maps(report: Json, found: Mapping[str, Json]) -> Markup:
    """A row for each compared map: range, grid, saturation, histogram."""
    verification = report["verification"]
    if verification is None or not verification["maps"]:
        return Markup("")
    asked = {
        item["name"]: f"{item['override']['text']} (--qconfig)"
        for item in report["tensors"]
        if "override" in item
    }
    rows = []
    for index, row in enumerate(verification["maps"]):
        histogram = found.get(row["name"])
        local, count = row["local"], max(row["local"]["count"], 1)
        share = local["clipped"] / count
        rows.append(
            [
                joined(
                    row["layer"],
                    element("div", row["name"], class_="soft"),
                    element("div", asked.get(row["name"], ""), class_="soft"),
                ),
                mark(row["class"], _KINDS.get(row["class"], "soft")),
                f"{row['real_step']:.6g}",
                _range(histogram),
                "" if histogram is None else _grid(histogram),
                element("span", f"{share:.2%}", class_="bad") if share > 0.001 else _share(share),
                decibels(local),
                decibels(row["accumulated"]),
                ""
                if histogram is None
                else element("div", data_chart="histogram", data_kind="maps", data_index=index),
            ]
        )
    headings = ["layer and map", "class", "step", "values", "grid", "saturated", "alone"]
    headings += ["in the network", "the source's values on the grid"]
    text = (
        "Values are those of the source on the compared samples, the grid is what the hardware "
        "can store. The band of a histogram is that range; what is beyond it (red) saturates. "
        "Heights are logarithmic."
    )
    table_ = table(headings, rows, "t nnnnnn")
    return section("maps", "Feature maps", text, table_)


def weights(report: Json, found: Mapping[str, Json]) -> Markup:
    """A row for each layer with weights."""
    records = {row["layer"]: row for row in report["tensors"] if row["kind"] == "weight"}
    rows = []
    for index, (name, item) in enumerate(found.items()):
        record = records.get(item["layer"])
        kind = record["class"] if record is not None else ""
        rows.append(
            [
                joined(item["layer"], element("div", name, class_="soft")),
                mark(kind, _KINDS.get(kind, "soft")) if kind else "",
                shape(item["shape"]),
                f"{item['smallest_step']:.4g}",
                f"{item['largest_step']:.4g}",
                f"{item['extreme']} of 127",
                "" if record is None else record["note"],
                element("div", data_chart="histogram", data_kind="weights", data_index=index),
            ]
        )
    if not rows:
        return Markup("")
    headings = ["layer", "class", "shape", "smallest step", "largest step", "largest integer"]
    headings += ["note", "integers"]
    text = "Integers of all channels together; each output channel has a step of its own."
    return section("weights", "Weights", text, table(headings, rows, "t  nnn"))


def findings(report: Json) -> Markup:
    """Diagnostics and rules."""
    items = []
    for item in report["diagnostics"]:
        place = item.get("location") or {}
        where = ", ".join(str(place[key]) for key in ("layer", "op") if place.get(key))
        title = joined(
            mark(item["severity"], _SEVERITIES.get(item["severity"], "soft")),
            " ",
            element("b", f"{item['rule']} {item['name']}"),
            ": ",
            item["message"],
        )
        notes = [text for text in (where, item.get("help"), *item.get("notes", ())) if text]
        items.append(element("li", title, *(element("small", text) for text in notes)))
    rules = report["rules"]
    violated = ", ".join(f"{rule} ({count}x)" for rule, count in rules["violated"].items())
    text = f"Violated: {violated}." if violated else "No rule of the hardware is violated."
    passed = element(
        "details",
        element("summary", f"{len(rules['passed'])} rules passed"),
        element("p", ", ".join(rules["passed"])),
    )
    listed = element("ul", *items, class_="findings") if items else ""
    return section("rules", "Rules and findings", text, listed, passed)


def rewrites(report: Json) -> Markup:
    """What was rewritten on the way."""
    rows = [
        [
            row["layer"],
            row["name"],
            row["detail"],
            mark("exact", "good") if row["exact"] else mark("approximate", "warn"),
            f"{row['macs']:+,}" if row["macs"] else "",
        ]
        for row in report["rewrites"]
    ]
    if not rows:
        return section("rewrites", "Rewrites", "The network needed none.")
    headings = ["layer", "rewrite", "what was done", "kind", "multiplications"]
    text = "Exact rewrites change no integer of a quantised network."
    return section("rewrites", "Rewrites", text, table(headings, rows, "t t n"))


def parts(report: Json) -> Markup:
    """The files, and what the host has to run."""
    rows = [
        [
            part["file"],
            part["side"],
            ", ".join(part["inputs"]),
            ", ".join(part["outputs"]),
            f"{part['macs']:,}",
        ]
        for part in report["parts"]
    ]
    blocks = [table(["file", "runs on", "takes", "returns", "multiplications"], rows, "t   n")]
    if report["host"]:
        counts = Counter((row["op"], row["reason"]) for row in report["host"])
        listed = [[op, str(count), reason] for (op, reason), count in counts.items()]
        blocks.append(table(["operator of the host", "times", "reason"], listed, " n"))
    return section("parts", "Parts", "In the order in which they run.", *blocks)


def settings(report: Json) -> Markup:
    """Options, time spent, where things came from."""
    options = [[key, _plain(value)] for key, value in report["options"].items()]
    spent = sorted(report["timings"].items(), key=lambda item: -item[1])
    times = [[name, f"{seconds:.3f} s"] for name, seconds in spent if seconds >= 0.001]
    source = report["source"]
    facts = [
        ["file", source["file"]],
        ["SHA-256", element("code", source["sha256"])],
        *(
            [name, element("code", item["sha256"])]
            for item in source["further"]
            for name in [f"SHA-256 of {item['file']}"]
        ),
        ["format", " ".join([source["frontend"], *source["options"]])],
        ["producer", source["producer"]],
    ]
    return section(
        "settings",
        "Source, options and time",
        "",
        table(["source", ""], facts, " t"),
        element("details", element("summary", "options"), table(["option", "value"], options)),
        element("details", element("summary", "time"), table(["step", "time"], times, " n")),
    )


def decibels(difference: Json) -> str:
    """A QSNR; exact where there is no noise."""
    if difference["qsnr_db"] is None:
        return "exact" if difference["largest"] == 0 else "no signal"
    return f"{difference['qsnr_db']:.1f} dB"


def shape(sizes: object) -> str:
    """A shape as text."""
    return "x".join(map(str, sizes)) if isinstance(sizes, list) else ""


def title(report: Json) -> str:
    """The name of the page."""
    return f"{Path(report['source']['file']).name} on {report['target']['name']}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _range(item: Json | None) -> str:
    if item is None or item["least"] is None:
        return ""
    return f"{item['least']:.4g} to {item['greatest']:.4g}"


def _grid(item: Json) -> str:
    low, high = item["qmin"] * item["unit"], item["qmax"] * item["unit"]
    return f"{low:.4g} to {high:.4g}"


def _share(share: float) -> str:
    if 0 < share < 0.0001:
        return "< 0.01%"
    return f"{share:.2%}" if share else ""


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)
