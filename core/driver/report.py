"""The JSON report of a conversion; its schema is ``schemas/report.schema.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.driver.ports import fed_ports, returned_ports
from dlaconv.ir.records import Fidelity

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.driver.accelerator import AcceleratorPart
    from dlaconv.driver.cutting import CutNetwork
    from dlaconv.driver.sources import OpenSource
    from dlaconv.ir.pipeline import Context
    from dlaconv.options import Options


@dataclass(frozen=True)
class Origin:
    """Where a conversion started and where it ends.

    Attributes:
        digests: the hash of every file that was read, the network first.
        opened: how they were read; None if that is not known.
        notes: what the frontend has to say, such as the producer.
        output: the file that is written, None if none is.
        emitted: the models that are written beside it, by kind.
        further: the files of the frontend that are written, too.
        reference: the comparison with another program that ran the source, None without.
    """

    digests: Mapping[Path, str]
    opened: OpenSource | None
    notes: Mapping[str, str]
    output: Path | None
    emitted: Mapping[str, Path]
    further: Sequence[Path] = ()
    reference: Mapping[str, Any] | None = None


def build_report(
    origin: Origin,
    options: Options,
    network: CutNetwork,
    parts: Sequence[AcceleratorPart],
    files: Sequence[Path],
    context: Context,
    timings: Mapping[str, float],
    calibration: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Puts together what is known after a conversion.

    Args:
        origin: where it started.
        options: how it was asked for.
        network: how it is cut.
        parts: what became of its parts for the accelerator.
        files: the file of every part, in the order in which they run.
        context: records, rewrites and diagnostics.
        timings: seconds by pass and step.
        calibration: what it was calibrated with, None without data.
    """
    from dlaconv import __version__

    target = context.target
    opened = origin.opened
    options_of_source = opened.words if opened else []
    verification = _compared(network, parts, options_of_source)
    (source, sha256), *further = origin.digests.items()
    return {
        "dlaconv": __version__,
        "source": {
            "file": str(source),
            "sha256": sha256,
            "further": [{"file": str(file), "sha256": digest} for file, digest in further],
            "frontend": opened.frontend.name if opened else "",
            "options": options_of_source,
            "producer": origin.notes.get("producer", ""),
        },
        "output": {
            "file": str(origin.output) if origin.output is not None else None,
            "emitted": {kind: str(path) for kind, path in origin.emitted.items()},
            "further": [str(path) for path in origin.further],
        },
        "target": {"name": target.name, "version": target.version},
        "options": options.as_json(),
        "calibration": None if calibration is None else dict(calibration),
        "io": {
            "inputs": [port for part in parts for port in fed_ports(part, network.whole)],
            "outputs": [port for part in parts for port in returned_ports(part)],
        },
        "graph": {
            "inputs": _names(network.whole or parts[0].scaled, "inputs"),
            "outputs": _names(network.whole or parts[0].scaled, "outputs"),
        },
        "parts": _parts(network, parts, files),
        "host": network.host,
        "summary": _summary(network, parts, context, verification),
        "tensors": [record.as_json() for record in context.records],
        "verification": verification,
        "reference": None if origin.reference is None else dict(origin.reference),
        "rules": _rules(parts),
        "rewrites": [
            {
                "name": rewrite.name,
                "layer": rewrite.layer,
                "detail": rewrite.detail,
                "exact": rewrite.exact,
                "macs": rewrite.macs,
            }
            for rewrite in context.rewrites
        ],
        "diagnostics": [item.as_json() for item in context.diagnostics],
        "timings": dict(timings),
    }


def report_text(report: Mapping[str, Any]) -> str:
    """The report as JSON, each row of its tables on a line of its own."""
    fields = []
    for key, value in report.items():
        rows = [f"  {json.dumps(row)}" for row in value] if isinstance(value, list) else []
        text = "[\n" + ",\n".join(rows) + "\n ]" if rows else json.dumps(value)
        fields.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _names(model: ir.Model, end: str) -> list[str]:
    return [value.name or "" for value in getattr(model.graph, end)]


def _parts(
    network: CutNetwork, parts: Sequence[AcceleratorPart], files: Sequence[Path]
) -> list[dict[str, Any]]:
    """How the parts hang together; the file names are those beside the report."""
    from dlaconv.ir.macs import total_macs
    from dlaconv.ir.partition import ACCELERATOR

    scaled = (part.scaled for part in parts)
    written = [next(scaled) if p.side == ACCELERATOR else p.model for p in network.parts]
    return [
        {
            "file": file.name,
            "side": part.side,
            "inputs": [value.name for value in part.model.graph.inputs],
            "outputs": [value.name for value in part.model.graph.outputs],
            "macs": total_macs(model.graph),
        }
        for part, model, file in zip(network.parts, written, files, strict=True)
    ]


def _compared(
    network: CutNetwork, parts: Iterable[AcceleratorPart], source_options: list[str]
) -> dict[str, Any] | None:
    """The comparisons of all parts as one; classes are not what one part hands another."""
    results = {name for part in network.accelerator for name in network.results(part)}
    found = [part.verification.as_json() for part in parts if part.verification is not None]
    if not found:
        return None
    return found[0] | {
        "passed": all(item["passed"] for item in found),
        "outputs": {name: row for item in found for name, row in item["outputs"].items()},
        "argmax": {
            name: row for item in found for name, row in item["argmax"].items() if name in results
        },
        "maps": [row for item in found for row in item["maps"]],
        "unmatched": [name for item in found for name in item["unmatched"]],
        "source_options": source_options,
    }


def _rules(parts: Iterable[AcceleratorPart]) -> dict[str, Any]:
    """The rules that every part passes, and how often any part violates one."""
    violated: Counter[str] = Counter()
    passed = [set(part.checked.passed) for part in parts]
    for part in parts:
        violated.update(part.checked.violated)
    return {"passed": sorted(set.intersection(*passed) - set(violated)), "violated": dict(violated)}


def _summary(
    network: CutNetwork,
    parts: Iterable[AcceleratorPart],
    context: Context,
    verification: Mapping[str, Any] | None,
) -> dict[str, Any]:
    classes = Counter(str(record.fidelity) for record in context.records if record.kind == "map")
    weights = Counter(str(record.fidelity) for record in context.records if record.kind == "weight")
    changed = {name: weights.pop(name, 0) for name in ("requantised", "derived")}
    outputs = verification["outputs"] if verification is not None else {}
    return {
        "layers": sum(len(part.network.layers) for part in parts),
        "macs": {"source": network.source_macs, "host": network.host_macs},
        "maps": {name: classes.get(name, 0) for name in map(str, Fidelity)},
        "weights": {"kept": weights.total(), **changed},
        "qsnr_db": {name: row["qsnr_db"] for name, row in outputs.items()},
    }
