"""What legalisation and partition make of every real model, as a table.

``python -m tests.models.legality`` prints it; `docs/legalised-models.md` holds the last one.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

import dlaconv
from dlaconv.driver.cutting import CutNetwork, cut_network
from dlaconv.driver.legality import violations
from dlaconv.errors import ConversionError, UserError
from dlaconv.ir import dialect
from dlaconv.ir.execution import Executor
from dlaconv.ir.graph import shape_of
from dlaconv.ir.macs import total_macs
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.passes.legal import PADDING, REWRITES
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from dlaconv.options import Options
from tests.models.collection import FOLDER

SAMPLES = 2
TIE = 1e-3
"""Units that a float sum may be off by."""
HEAD = """# Real networks, legalised

Made by `python -m tests.models.legality > docs/legalised-models.md` from a collection of public
networks that is no part of this project; the second tier of the tests holds every row. Errors are
counted by rule over the source as it is, and over all parts for the accelerator after
`--legalise exact --partition`. The difference is the largest of any output between the source and
the legalised chain on the collection's inputs, before anything is quantised anew, relative to the
largest value of that output; integers are compared map by map with each layer fed with the source's
values. `refused` names the diagnostics of sources that cannot be read.
"""
SHAPES = {"mtcnn_pnet": {"input_1": (1, 48, 48, 3)}}
"""Shapes that files leave open, by the stem of the file."""


@dataclass
class Row:
    """One model.

    Attributes:
        name: path inside the collection, without ending.
        refused: ids of the diagnostics that refuse the source, in any case.
        before: errors by rule in the source as it is.
        after: errors by rule in all accelerator parts.
        parts: number of accelerator parts.
        share: share of the source's multiplications in accelerator parts.
        macs: multiplications of the source.
        host: (operator, reason) of each node of the host.
        difference: largest difference of an output of the legalised chain in floating point,
            relative to the largest value of that output; None without inputs.
        maps: number of quantised maps that the source has, too.
        changed: integers of these maps that the rewrites change where every layer is fed with the
            source's values; rounding of float sums at ties does not count.
    """

    name: str
    refused: tuple[str, ...] = ()
    before: Counter = field(default_factory=Counter)
    after: Counter = field(default_factory=Counter)
    parts: int = 0
    share: float = 1.0
    macs: int = 0
    host: tuple[tuple[str, str], ...] = ()
    difference: float | None = None
    maps: int = 0
    changed: int = 0


def files():
    """Every model of the collection that is one file for a frontend."""
    found = [*(FOLDER / "qonnx").rglob("*.onnx"), *(FOLDER / "onnx").glob("*.onnx")]
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in found)


def frontend_of(name):
    path = FOLDER / f"{name}.onnx"
    from dlaconv.frontends.qonnx import looks_like_qonnx

    return "qonnx" if looks_like_qonnx(path) else "onnx"


def row_of(name):
    """Takes one model through everything and notes what is seen on the way."""
    path, row = FOLDER / f"{name}.onnx", Row(name)
    shapes = SHAPES.get(path.stem, {})
    try:
        imported = dlaconv.load(path, frontend_of(name))
        context = Context(Target.load(), shapes=shapes)
        if imported.diagnostics.errors:
            raise ConversionError(imported.diagnostics)
        model = imported.model
        source = model.clone()
        Pipeline([(Stage.CANONICAL, CANONICAL)]).run(model, context)
        row.before = counted(violations(model, context.target))
        row.macs = total_macs(model.graph)
        Pipeline([(Stage.LEGAL, REWRITES)]).run(model, context, Stage.CANONICAL)
        whole = model.clone()
        network = cut_network(model, context, True, row.macs)
    except UserError as error:
        row.refused = tuple(sorted({item.rule for item in error.diagnostics.errors}))
        return row
    padded = network_with_padding(network, context)
    for part in network.accelerator:
        row.after += counted(violations(part.model, context.target))
    row.parts = len(network.accelerator)
    row.share = 1 - network.host_macs / row.macs if row.macs else 1.0
    row.host = tuple((item["op"], item["reason"]) for item in network.host)
    feeds = samples_of(path, source)
    if feeds:
        row.difference = difference(source, padded, feeds)
        tried = Context(Target.load())
        for step in PADDING:
            step(whole, tried)
        row.maps, row.changed = changed_integers(source, whole, tried.layouts, feeds[0])
    return row


def network_with_padding(network, context):
    for part in network.accelerator:
        for step in PADDING:
            step(part.model, context)
    return network


def counted(found):
    return Counter(item.rule for _, item in found)


def samples_of(path, model):
    """Real inputs of a model, one at a time: those of its reference; none if there is none."""
    reference = path.with_name(f"{path.stem}.ref.npz")
    names = [value.name for value in model.graph.inputs]
    if reference.is_file():
        arrays = np.load(reference)
        return [{names[0]: sample[None].astype(np.float32)} for sample in arrays["input"][:SAMPLES]]
    for stem in (path.stem, path.stem.split(".")[0]):
        file = path.with_name(f"{stem}.npz")
        if not file.is_file():
            continue
        arrays = np.load(file)
        for key in arrays.files:
            shape = shape_of(model.graph.inputs[0]) or arrays[key].shape
            if len(names) == 1 and arrays[key].shape[1:] == tuple(shape)[1:]:
                return [{names[0]: arrays[key][:1].astype(np.float32)}]
    return []


def run_parts(network: CutNetwork, feeds):
    values = dict(feeds)
    for part in network.parts:
        dialect.install(part.model)
        wanted = [value.name for value in part.model.graph.inputs]
        values |= Executor(part.model).run({name: values[name] for name in wanted})
    return values


def difference(before: ir.Model, network: CutNetwork, samples):
    """The largest relative difference of any output on the samples."""
    executor, worst = Executor(before), 0.0
    for feeds in samples:
        expected, got = executor.run(feeds), run_parts(network, feeds)
        for name, array in expected.items():
            largest = np.abs(array).max(initial=0) or 1.0
            off = np.abs(got[name].astype(np.float64) - array).max(initial=0)
            worst = max(worst, float(off / largest))
    return worst


def quantisers(model):
    """The nodes that quantise maps, by name of their result."""
    return {
        node.outputs[0].name: node
        for node in model.graph
        if dialect.is_quantize(node) and node.inputs[0].const_value is None
    }


def changed_integers(source, legal, layouts, feeds):
    """How many maps both have, and how many of their integers differ, each layer on its own.

    Every layer of ``legal`` is fed with the source's values. Floats are added in another order, so
    a value within `TIE` units of a tie may round to its other side.
    """
    legal = legal.clone()
    wanted, common = quantisers(source), []
    for name, node in quantisers(legal).items():
        if name in wanted:
            common.append(name)
            old = node.outputs[0]
            given = ir.val(f"{name}/given", dtype=ir.DataType.FLOAT, shape=old.shape)
            for use in list(old.uses()):
                use.node.replace_input_with(use.idx, given)
            legal.graph.inputs.append(given)
    before = {name: wanted[name].inputs[0].name for name in common}
    inputs = {value.name for value in source.graph.inputs}
    fetch = sorted(({*common, *before.values()}) - inputs)
    real = Executor(source, fetch).run(feeds) | feeds
    spread = {
        f"{name}/given": layouts[name].spread(real[name]) if name in layouts else real[name]
        for name in common
    }
    got, changed = Executor(legal, common).run(feeds | spread), 0
    for name in common:
        array = layouts[name].select(got[name]) if name in layouts else got[name]
        quantisation = dialect.quantisation_of(wanted[name])
        wrong = quantisation.integers(real[name]) != quantisation.integers(array)
        units = real[before[name]] / quantisation.step + quantisation.zero_point
        units = np.broadcast_to(units, wrong.shape)[wrong]
        changed += int((np.abs(units * 2 - np.rint(units * 2)) > 2 * TIE).sum())
    return len(common), changed


def convert(name, folder):
    """Converts a model with partition and its own samples; returns the report."""
    path = FOLDER / f"{name}.onnx"
    imported = dlaconv.load(path, frontend_of(name))
    shapes = SHAPES.get(path.stem, {})
    options = {"partition": True, "verify": False, "shapes": shapes}
    samples = samples_of(path, imported.model)
    if samples:
        stacked = {key: np.concatenate([s[key] for s in samples]) for key in samples[0]}
        np.savez(Path(folder) / "samples.npz", **stacked)
        options["calibrate"] = Path(folder) / "samples.npz"
    return dlaconv.convert(
        path, Path(folder) / "net.dla.onnx", frontend=frontend_of(name), options=Options(**options)
    ).report


def closeness(difference):
    """A difference in words that do not depend on the machine."""
    if difference == 0:
        return "none"
    return "below 1e-5" if difference < 1e-5 else f"{difference:.0e}"


def listed(counts):
    return ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items())) or "none"


def table(rows):
    """The rows in Markdown."""
    lines = [
        "| model | errors before | after | parts | share of products | difference | changed |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.refused:
            lines.append(f"| {row.name} | refused: {', '.join(row.refused)} | | | | | |")
            continue
        changed = f"{row.changed} in {row.maps} maps" if row.maps else ""
        off = "" if row.difference is None else closeness(row.difference)
        lines.append(
            f"| {row.name} | {listed(row.before)} | {listed(row.after)} | {row.parts} "
            f"| {row.share:.2%} | {off} | {changed} |"
        )
    lines.append("")
    for row in rows:
        if row.host:
            lines += [f"**{row.name}**: nodes of the host", ""]
            lines += [
                f"- {op}{f' ({count} times)' if count > 1 else ''}: {reason}"
                for (op, reason), count in Counter(row.host).items()
            ]
            lines.append("")
    return "\n".join(lines)


def page(rows):
    """The whole page."""
    return f"{HEAD}\n{table(rows)}"


if __name__ == "__main__":
    chosen = [name for name in files() if not sys.argv[1:] or any(a in name for a in sys.argv[1:])]
    print(page([row_of(name) for name in chosen]), end="")
