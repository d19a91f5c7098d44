"""The documents of the analysing commands as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dlaconv import tables
from dlaconv.summary import argmax_rows
from dlaconv.tables import pairs

Json = Mapping[str, Any]


def network_text(document: Json, *, quantisation: bool) -> str:
    """What is in a network: a table of layers for each part, and the totals."""
    blocks = []
    for part in document["parts"]:
        if len(document["parts"]) > 1:
            blocks.append(f"{part['file']} ({part['side']})")
        blocks.append(_layers(part, quantisation=quantisation))
    total = document["total"]
    blocks.append(
        pairs(
            [
                ("file", f"{document['file']} ({document['kind']})"),
                ("layers", f"{total['layers']:,}"),
                ("parameters", f"{total['parameters']:,}"),
                ("multiplications", f"{total['macs']:,}"),
            ]
        )
    )
    return "\n\n".join(blocks)


def dump_text(document: Json) -> str:
    """The maps that were written, as a table."""
    rows = [
        [name, _shape(item["shape"]), item["dtype"], str(item["min"]), str(item["max"])]
        for name, item in document["maps"].items()
    ]
    written = pairs([("maps", str(len(rows))), ("written", document["output"])])
    return f"{tables.table(['map', 'shape', 'type', 'smallest', 'largest'], rows)}\n\n{written}"


def comparison_text(document: Json) -> str:
    """A comparison: a table of layers, then the graph outputs."""
    several = len({row["file"] for row in document["layers"]}) > 1
    headings = ["layer", "class", "QSNR alone", "in the network", "cosine", "largest error"]
    headings += ["in the network", "saturated", "worst channels"]
    rows = []
    for row in document["layers"]:
        alone, whole = row["isolated"], row["accumulated"]
        worst = ", ".join(
            f"{item['channel']} ({_decibels(item)})" for item in row["worst_channels"]
        )
        rows.append(
            [
                (f"{row['file']}: " if several else "") + row["layer"],
                row["class"],
                _decibels(alone),
                _decibels(whole),
                f"{whole['cosine']:.6f}",
                f"{alone['max_error']:.4g}",
                f"{whole['max_error']:.4g}",
                _share(row["saturated"]),
                worst,
            ]
        )
    ends = [(f"output {name!r}", _quality(item)) for name, item in document["outputs"].items()]
    ends += argmax_rows(document["argmax"])
    count = document["samples"]
    ends.append(
        ("compared on", f"{count} sample{'' if count == 1 else 's'} of {document['inputs']}")
    )
    ends += _read_with(document)
    if document["min_qsnr_db"] is not None:
        outcome = "passed" if document["passed"] else "FAILED"
        ends.append(("wanted", f"{document['min_qsnr_db']:g} dB at the outputs: {outcome}"))
    if document["unmatched"]:
        ends.append(("not compared", ", ".join(document["unmatched"])))
    return f"{tables.table(headings, rows)}\n\n{pairs(ends)}"


def _share(share: float) -> str:
    if 0 < share < 0.0001:
        return "< 0.01%"
    return f"{share:.2%}" if share else ""


def _quality(item: Json) -> str:
    text = f"{_decibels(item)}, cosine {item['cosine']:.6f}"
    return f"{text}, largest error {item['max_error']:.4g}"


def _decibels(item: Json) -> str:
    if item["qsnr_db"] is None:  # a ratio without noise, or one without signal
        return "exact" if item["max_error"] == 0 else "no signal"
    return f"{item['qsnr_db']:.1f} dB"


def accuracy_text(document: Json) -> str:
    """The accuracy of a classifier, beside that of its source."""
    count = document["samples"]
    named = {"on the hardware": document["accuracy"], "the source": document["source_accuracy"]}
    rows = [
        [
            name,
            f"{score['top1']:.2f} %",
            "" if score["top5"] is None else f"{score['top5']:.2f} %",
            f"{score['right']:,} of {count:,}",
            f"{score['ties']:,}",
        ]
        for name, score in named.items()
        if score is not None
    ]
    text = tables.table(["", "top-1", "top-5", "right", "ties"], rows)
    if (paired := document["paired"]) is None:
        return text
    points = f"{paired['difference']:+.2f} points top-1"
    interval = f"{paired['low']:+.2f} to {paired['high']:+.2f} with 95 %"
    ends = [
        ("difference", f"{points} ({interval})"),
        ("only the source is right", f"{paired['lost']:,}"),
        ("only the hardware is right", f"{paired['gained']:,}"),
        ("same class", f"{paired['agreement']:.2f} %"),
        *_read_with(document),
    ]
    return f"{text}\n\n{pairs(ends)}"


def _read_with(document: Json) -> list[tuple[str, str]]:
    """The options that made the source what it is."""
    words = document["source_options"]
    return [("source read with", " ".join(words))] if words else []


def sensitivity_text(document: Json) -> str:
    """The layers of a network, the most sensitive ones first."""
    everything = document["everything"]["noise"]
    rows = [
        [
            row["layer"],
            row["op"],
            _noise(row["only"]),
            _noise(row["all_but"]),
            f"{row['only']['noise'] / everything:.1%}"
            if everything and row["only"]["noise"] is not None
            else "",
        ]
        for row in document["layers"]
    ]
    headings = ["layer", "operator", "quantised alone", "all but it", "noise of the whole"]
    count = document["samples"]
    ends = [
        ("everything quantised", f"{_noise(document['everything'])} at the outputs"),
        ("tried on", f"{count} sample{'' if count == 1 else 's'} of {document['data']}"),
    ]
    return f"{tables.table(headings, rows)}\n\n{pairs(ends)}"


def _noise(error: Json) -> str:
    if error["qsnr_db"] is None:
        return "exact" if error["noise"] == 0 else "no signal"
    return f"{error['qsnr_db']:.1f} dB"


def _layers(part: Json, *, quantisation: bool) -> str:
    headings = ["layer", "operator", "shape", "parameters", "multiplications"]
    rows = [[item["name"], "input", _shape(item["shape"]), "", ""] for item in part["inputs"]]
    for row in part["layers"]:
        counts = [f"{row[key]:,}" if row[key] else "" for key in ("parameters", "macs")]
        rows.append([row["layer"], row["op"], _shape(row["shape"]), *counts])
    if quantisation:
        headings += ["integers", "step", "range", "class", "weights", "weight steps"]
        for cells, row in zip(rows, [*part["inputs"], *part["layers"]], strict=True):
            cells += [*_map_cells(row["maps"]), *_weight_cells(row.get("weights"))]
    return tables.table(headings, rows)


def _map_cells(maps: Sequence[Json]) -> list[str]:
    """Integers, steps, ranges and classes; of several quantisers one behind the other."""
    cells = [
        (
            f"{'' if item['signed'] else 'u'}int{item['bits']}",
            _steps(item)
            + (
                ""
                if item["real_step"] == item["largest_step"]
                else f", really {item['real_step']:.6g}"
            ),
            f"{item['low']:.4g} to {item['high']:.4g}",
            item["class"] or "",
        )
        for item in maps
    ]
    return [" | ".join(column) for column in zip(*cells, strict=True)] if cells else [""] * 4


def _weight_cells(weights: Json | None) -> list[str]:
    if weights is None:
        return ["", ""]
    count = weights["channels"]
    return [f"int{weights['bits']}", _steps(weights) + (f" ({count})" if count > 1 else "")]


def _steps(item: Json) -> str:
    low, high = (_step(item[key]) for key in ("smallest_step", "largest_step"))
    return low if low == high else f"{low} to {high}"


def _step(step: float) -> str:
    """A step; powers of two as such."""
    mantissa, exponent = math.frexp(step)
    return f"2^{exponent - 1}" if mantissa == 0.5 else f"{step:.4g}"


def _shape(shape: Sequence[int | None] | None) -> str:
    if shape is None:
        return "?"
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"
