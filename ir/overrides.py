"""What a user wants for single maps and layers, instead of what calibration would choose.

An entry names layers, tensors or graph inputs of the source. The map in which a layer ends may
stand for several layers of the source (a convolution, its normalisation and its ReLU): it goes by
the names of all of them. Maps that only rewrites made go by their own name.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Location, Severity, listed
from dlaconv.ir import provenance
from dlaconv.ir.calibration.histogram import Histogram
from dlaconv.ir.calibration.ranges import covered
from dlaconv.ir.layout_names import turned

_LISTED = 5
"""Names in a diagnostic; diagnostics with suggestions, which take time."""


@dataclass(frozen=True)
class MapRange:
    """How much of its values a map covers; one of the numbers, or the method.

    Attributes:
        text: what the user wrote.
        method: one of `dlaconv.ir.calibration.ranges.METHODS` but ``auto``.
        share: the share of the values to cover.
        threshold: the largest magnitude to hold.
        step: the real value of one unit, exactly.
    """

    text: str
    method: str = ""
    share: float = 0.0
    threshold: float = 0.0
    step: float = 0.0

    @property
    def measured(self) -> bool:
        """True if it takes calibration data."""
        return bool(self.method or self.share)

    def magnitude(self, largest: int, histogram: Histogram | None = None) -> float:
        """What the map's integers should reach.

        Args:
            largest: the largest integer.
            histogram: what was seen on calibration data, where the range is measured.
        """
        if not self.measured:
            return self.threshold or self.step * largest
        assert histogram is not None
        if self.share:
            return covered(histogram, "percentile", largest, self.share)
        return covered(histogram, self.method, largest)


@dataclass(frozen=True)
class WeightRange:
    """How a layer's real weights are rounded.

    Attributes:
        text: what the user wrote.
        method: ``max`` or ``mse``; empty for that of the policy.
        bits: of the integers; 0 for those of the hardware.
    """

    text: str
    method: str = ""
    bits: int = 0


@dataclass(frozen=True, eq=False)
class Entry:
    """One entry of the file.

    Attributes:
        line: where it is.
        match: pattern of names; empty for all.
        op: type of the layer; empty for all.
        output: what is wanted of maps.
        weights: what is wanted of weights.
    """

    line: int
    match: str = ""
    op: str = ""
    output: MapRange | None = None
    weights: WeightRange | None = None

    @property
    def broad(self) -> bool:
        """True if it need not mean everything that it matches."""
        return not self.match or any(sign in self.match for sign in "*?")

    def matches(self, layer: SourceLayer) -> bool:
        """True if it means a layer of the source."""
        if self.op and self.op != layer.op:
            return False
        pattern = self.match.replace("[", "[[]")  # brackets are part of names
        return not pattern or any(fnmatch.fnmatchcase(name, pattern) for name in layer.names)


@dataclass(frozen=True)
class SourceLayer:
    """A value of the source and the layer that makes it.

    Attributes:
        value: its name.
        layer: name of the layer; empty for a graph input.
        op: the layer's type.
        before: the only value that it reads besides constants, if nothing else reads that.
    """

    value: str
    layer: str = ""
    op: str = ""
    before: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What a pattern can say."""
        return (self.value, self.layer) if self.layer else (self.value,)


@dataclass(frozen=True)
class Asked:
    """What an entry asks of one tensor, for the report.

    Attributes:
        file: the file of the entry.
        line: its line there.
        text: what is asked for.
    """

    file: str
    line: int
    text: str


@dataclass
class Overrides:
    """The entries of a file, and what became of them.

    Attributes:
        file: the file.
        entries: in order; the last that matches counts.
        source: the layers of the source by the value that they make.
        ranges: what maps have got, by their name.
        asked: what maps and weights have got, by the name of the report's row.
    """

    file: str = ""
    entries: Sequence[Entry] = ()
    source: Mapping[str, SourceLayer] = field(default_factory=dict)
    ranges: dict[str, MapRange] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    _matched: set[tuple[Entry, str]] = field(default_factory=set)
    _applied: set[tuple[Entry, str]] = field(default_factory=set)
    _closed: dict[tuple[Entry, str], dict[str, str]] = field(default_factory=dict)

    def of_map(self, layers: Iterable[SourceLayer]) -> Entry | None:
        """The entry that counts for a map."""
        return self._last(layers, "output")

    def of_weights(self, node: ir.Node) -> Entry | None:
        """The entry that counts for the weights of a layer."""
        if not self.entries:
            return None
        place = provenance.location(node)
        made = [item for item in self.source.values() if item.layer == place.layer]
        made = made or [SourceLayer("", place.layer, place.op)]
        return self._last([*made, SourceLayer(f"{node.name}/weights")], "weights")

    def _last(self, layers: Iterable[SourceLayer], part: str) -> Entry | None:
        if not self.entries:
            return None
        layers, found = list(layers), None
        for entry in self.entries:
            if getattr(entry, part) is not None and any(map(entry.matches, layers)):
                self._matched.add((entry, part))
                found = entry
        return found

    def apply(self, entry: Entry, part: str, name: str) -> None:
        """Notes that a tensor gets what an entry asks for."""
        self._applied.add((entry, part))
        self.asked[name] = self.asking(entry, part)
        if part == "output" and entry.output is not None:
            self.ranges[name] = entry.output

    def close(self, entry: Entry, part: str, name: str, reason: str) -> None:
        """Notes that a tensor is none that an entry could change."""
        self._closed.setdefault((entry, part), {})[name] = reason

    def asking(self, entry: Entry, part: str) -> Asked:
        """What an entry asks for."""
        return Asked(self.file, entry.line, getattr(entry, part).text)

    def problem(self, asked: Asked, name: str, reason: str, help_: str = "") -> Diagnostic:
        """The diagnostic for something that cannot be."""
        return Diagnostic(
            "DLA343",
            "override-impossible",
            f"{asked.text} is impossible for {name!r}: {reason}",
            location=Location(asked.file, asked.line, name),
            help=help_,
        )

    def layers_of(self, name: str, ends: Collection[str]) -> list[SourceLayer]:
        """The layers of the source that a map stands for.

        Args:
            name: what the source calls the map.
            ends: names of other maps, at which it ends.
        """
        if name not in self.source and (found := turned(name)) is not None:
            name = found.stem
        if name not in self.source:
            return [SourceLayer(name)]
        layers = [self.source[name]]
        while (before := layers[-1].before) and before not in ends:
            layers.append(self.source[before])
        return layers

    def unmeasured(self) -> list[Diagnostic]:
        """A diagnostic for each entry that takes calibration data, where there are none."""
        return [
            Diagnostic(
                "DLA343",
                "override-impossible",
                f"{entry.output.text} is impossible without calibration data",
                location=Location(self.file, entry.line),
                help="give some with --calibrate, or a threshold, a step or fraction_bits",
            )
            for entry in self.entries
            if entry.output is not None and entry.output.measured
        ]

    def unmatched(self) -> list[Diagnostic]:
        """A diagnostic for each entry that means nothing in the source nor in rewrites of it.

        Maps that rewrites make are called after a layer or tensor, with a word behind a slash.
        """
        names = {name for item in self.source.values() for name in item.names}
        found: list[Diagnostic] = []
        for entry in self.entries:
            parts = entry.match.split("/")
            made = not entry.op and (
                entry.broad or any("/".join(parts[:n]) in names for n in range(1, len(parts)))
            )
            if not made and not self._means(entry):
                found.append(self._unknown(entry, suggest=len(found) < _LISTED))
        return found

    def _means(self, entry: Entry) -> bool:
        return any(map(entry.matches, self.source.values()))

    def _unknown(self, entry: Entry, *, suggest: bool) -> Diagnostic:
        near: list[str] = []
        if suggest:
            names = {name for item in self.source.values() for name in item.names}
            ops = {item.op for item in self.source.values()} - {""}
            near = difflib.get_close_matches(entry.match, sorted(names), 2) if entry.match else []
            near = near or (difflib.get_close_matches(entry.op, sorted(ops), 2) if entry.op else [])
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        return Diagnostic(
            "DLA342",
            "override-unmatched",
            f"{_who(entry)} matches no layer, tensor or input of the network",
            location=Location(self.file, entry.line),
            help=f"{hint}`dlaconv show` lists the layers; * and ? stand for characters",
        )

    def outcome(self) -> list[Diagnostic]:
        """What is to be said of entries that changed less than they say, after a conversion."""
        found = []
        for entry in self.entries:
            for part in ("output", "weights"):
                if getattr(entry, part) is None:
                    continue
                closed = self._closed.get((entry, part), {})
                if closed:
                    found.append(self._left(entry, part, closed))
                elif (entry, part) not in self._matched and self._means(entry):
                    found.append(self._nothing(entry, part))
                elif (entry, part) not in self._matched:
                    found.append(self._unknown(entry, suggest=len(found) < _LISTED))
        return found

    def _left(self, entry: Entry, part: str, closed: Mapping[str, str]) -> Diagnostic:
        """An error if an entry could change nothing that it means, or names it; else a note."""
        names = listed([repr(name) for name in closed], _LISTED)
        reason = next(iter(closed.values()))
        if entry.broad and (entry, part) in self._applied:
            return Diagnostic(
                "DLA344",
                "override-skipped",
                f"{_who(entry)} does not change the {part} of {names}: {reason}",
                severity=Severity.NOTE,
                location=Location(self.file, entry.line),
            )
        return self.problem(self.asking(entry, part), next(iter(closed)), reason, _OPEN)

    def _nothing(self, entry: Entry, part: str) -> Diagnostic:
        what = {
            "output": "no map of theirs on the accelerator: they only move values, are part of "
            "another layer, or run on the host",
            "weights": "no weights of theirs on the accelerator",
        }
        return Diagnostic(
            "DLA342",
            "override-unmatched",
            f"{_who(entry)} finds layers, but {what[part]}",
            location=Location(self.file, entry.line),
            help="the report of a conversion lists every map and all weights under `tensors`",
        )


_OPEN = "only what the source leaves in floating point can be overridden; drop the entry"


def source_layers(model: ir.Model) -> dict[str, SourceLayer]:
    """The layers of a freshly imported model by the value that they make."""
    found = {value.name or "": SourceLayer(value.name or "") for value in model.graph.inputs}
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None and value.name in found]
        if not inputs:  # a constant
            continue
        place, before = provenance.location(node), _before(node, inputs)
        for value in node.outputs:
            name = value.name or ""
            found[name] = SourceLayer(name, place.layer, place.op, before)
    return found


_MAKERS = frozenset({
    "Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "QGemm",
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum",
})  # fmt: skip
"""Operators that begin a map of their own."""


def _before(node: ir.Node, inputs: Sequence[ir.Value]) -> str:
    if node.op_type in _MAKERS or len(inputs) != 1:
        return ""
    read = len(inputs[0].uses()) + inputs[0].is_graph_output()
    return (inputs[0].name or "") if read == 1 else ""


def _who(entry: Entry) -> str:
    named = [f"match {entry.match!r}"] if entry.match else []
    return " with ".join([*named, *([f"op {entry.op!r}"] if entry.op else [])])
