"""Puts quantise nodes around the layers of a network, as their formats say.

A layer's bottoms are rounded to what it reads, its weights and bias to their formats, and its
results to what it writes. Layers that move or pick values hand a format on. What lies on the grid
already is left alone; what lies on another one is rounded again, with a warning, where CHaiDNN
takes the integers of one format for those of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.frontends.caffe.building import CaffeGraph, CaffeLayer, Handler
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import MapFormat, Mode
from dlaconv.frontends.caffe.precision.flow import Chain, Flow, chains
from dlaconv.frontends.caffe.precision.grids import Grid, joined, words_of
from dlaconv.frontends.caffe.precision.kinds import MOVING
from dlaconv.frontends.caffe.precision.normalising import Normalising, result_of
from dlaconv.frontends.caffe.precision.parameters import LayerParameters

_IGNORED = "CHaiDNN takes the integers of one format for those of the other, and warns at most"
_COSTS = "on the accelerator a layer of its own does it"


@dataclass
class Quantising:
    """Quantises a network layer by layer, as the importer builds it.

    Attributes:
        graph: where the nodes go.
        layers: the network.
    """

    graph: CaffeGraph
    layers: Sequence[Layer]
    _grids: dict[ir.Value, Grid] = field(default_factory=dict)
    _makers: dict[ir.Value, Layer] = field(default_factory=dict)
    _made: dict[tuple[ir.Value, Grid], ir.Value] = field(default_factory=dict)
    _later: dict[int, MapFormat] = field(default_factory=dict)

    def __post_init__(self) -> None:
        written = [layer.precision for layer in self.layers if layer.precision is not None]
        self._active = bool(written)
        self._is_chaidnn = any(precision.mode is not Mode.RISTRETTO for precision in written)
        self._flow = Flow(self.layers)
        found = chains(self.layers, self._flow) if self._is_chaidnn else []
        self._chain_of = {id(layer): chain for chain in found for layer in chain.layers}
        self._normalising = Normalising(self.graph)

    def build(self, layer: CaffeLayer, handler: Handler) -> list[ir.Value]:
        """Builds a layer, with all that its formats ask for around it.

        Args:
            layer: the layer; its bottoms become what it reads.
            handler: builds the layer itself.

        Returns:
            Its tops.
        """
        if not self._active:
            return handler(layer)
        chain = self._chain_of.get(id(layer.layer))
        if chain is None or layer.layer is chain.layers[0]:
            self._read(layer, chain)
        if layer.layer.precision is not None:
            layer.parameters = LayerParameters(layer.layer.precision, chain, self._normalising)
        if chain is not None and layer.layer is not chain.convolution:
            values = self._normalising.build(layer, chain)
        else:
            values = handler(layer)
        if chain is None or layer.layer is chain.last:
            form = self._later.pop(id(layer.layer), None)
            form = form or (_written(layer.layer) if chain is None else result_of(chain))
            form = form or self._kept(layer)
            if not self._is_postponed(layer.layer, form):
                values = self._write(layer, values, form)
        if not layer.bottoms and self._is_chaidnn:
            values = [self._image(layer.layer, value) for value in values]
        self._makers.update((value, layer.layer) for value in values)
        return values

    def _image(self, layer: Layer, value: ir.Value) -> ir.Value:
        """What is fed, as CHaiDNN stores it: once, in the format of the first layer with one."""
        if not any(value is fed for fed in self.graph.inputs):
            return value
        form = next(self._formats_read(layer, set(), value.name), None)
        if form is None:
            return value
        return self._quantised(value, Grid.of(form, narrow=True), layer)

    def finish(self) -> None:
        """Adds what there is to say about the whole network."""
        self._normalising.finish()

    def _read(self, layer: CaffeLayer, chain: Chain | None) -> None:
        """Rounds the bottoms of a layer to what it reads."""
        form = _read_by(layer.layer, chain)
        if form is not None:
            layer.bottoms = [
                self._on(value, Grid.of(form, narrow=value not in self._grids), layer.layer)
                for value in layer.bottoms
            ]
        elif layer.layer.type == "Concat":
            self._join(layer)

    def _join(self, layer: CaffeLayer) -> None:
        """Rounds the bottoms of a Concat to one format."""
        grids = [grid for value in layer.bottoms if (grid := self._grids.get(value)) is not None]
        if len(grids) < len(layer.bottoms) or joined(grids) is not None:
            return
        wanted = set(self._formats_read(layer.layer, set()))
        form = _written(layer.layer)
        if form is None and len(wanted) == 1:
            form = wanted.pop()
        if form is None:
            form = max(grids, key=lambda grid: grid.step).format
        layer.bottoms = [self._on(value, Grid.of(form), layer.layer) for value in layer.bottoms]

    def _formats_read(
        self, layer: Layer, seen: set[int], top: str | None = None
    ) -> Iterator[MapFormat]:
        """What the readers of a layer's results, or of one of them, round them to."""
        for reader in self._flow.readers(layer, top):
            if id(reader) in seen:
                continue
            seen.add(id(reader))
            form = _read_by(reader, self._chain_of.get(id(reader)))
            if form is not None:
                yield form
            elif _hands_on(reader):
                yield from self._formats_read(reader, seen)

    def _on(self, value: ir.Value, grid: Grid, reader: Layer) -> ir.Value:
        """A value on a grid, for a layer that reads it there."""
        held = self._grids.get(value)
        if value.dtype != ir.DataType.FLOAT or (held is not None and held.within(grid)):
            return value
        if (value, grid) not in self._made:
            maker = self._makers.get(value, reader)
            if held is not None:
                self._report(
                    reader,
                    f"{maker.name!r} writes {held} and {reader.name!r} reads {grid}: the values "
                    "are rounded again",
                )
            made = self._quantised(value, grid, reader if held is not None else maker)
            self._made[value, grid] = made
        return self._made[value, grid]

    def _write(
        self, layer: CaffeLayer, values: list[ir.Value], form: MapFormat | None
    ) -> list[ir.Value]:
        """Rounds the results of a layer, and notes where they lie."""
        if layer.layer.type == "ReLU" and _bends(layer.layer) and self._is_chaidnn:
            slope = layer.param("relu_param").number("negative_slope")
            words = f"{layer.layer.name!r} multiplies negative values by {slope:g}"
            self._report(layer.layer, words, "CHaiDNN does not look at negative_slope")
        carried = self._carried(layer)
        target = carried if form is None else Grid.of(form)
        if carried is None:
            self._report_ignored(layer)
        found = []
        for index, value in enumerate(values):
            if value.dtype != ir.DataType.FLOAT or (index and layer.layer.type == "Pooling"):
                found.append(value)
                continue
            grid = carried
            if target is not None and not (carried is not None and carried.within(target)):
                if carried is not None:
                    name = layer.layer.name
                    words = f"{name!r} reads {carried} and writes {target}: the values are rounded"
                    self._report(layer.layer, words)
                value, grid = self._quantised(value, target, layer.layer), target
            if grid is not None:
                self._grids[value] = grid
            found.append(value)
        return found

    def _quantised(self, value: ir.Value, grid: Grid, layer: Layer) -> ir.Value:
        result = self.graph.quantised(value, grid.quantisation, f"{layer.name}/quantise", layer)
        self._grids[result] = grid
        return result

    def _is_postponed(self, layer: Layer, form: MapFormat | None) -> bool:
        """True if the results of a layer are rounded behind the next one.

        CHaiDNN rounds once behind a layer and its ReLU. Nothing else can be meant by a slope, so
        a PReLU or leaky ReLU is computed before that rounding.
        """
        reader = self._flow.sole_reader(layer) if self._is_chaidnn else None
        if form is None or reader is None or reader.precision is not None or not _bends(reader):
            return False
        self._later[id(reader)] = form
        return True

    def _carried(self, layer: CaffeLayer) -> Grid | None:
        """The grid of a layer's results because its bottoms lie there."""
        if not layer.bottoms or not _hands_on(layer.layer):
            return None
        if layer.layer.type == "Concat":
            return joined([self._grids.get(value) for value in layer.bottoms])
        grid = self._grids.get(layer.x)
        return grid.rectified if grid is not None and layer.layer.type == "ReLU" else grid

    def _kept(self, layer: CaffeLayer) -> MapFormat | None:
        """The format of what a layer reads, if it computes something that stays there.

        Ristretto rounds nothing but what its own layers read and write.
        """
        computes = layer.layer.type in {"PReLU", "Pooling", "ReLU"} and not _hands_on(layer.layer)
        if not computes or not self._is_chaidnn:
            return None
        grid = self._grids.get(layer.x)
        return None if grid is None else grid.format

    def _report_ignored(self, layer: CaffeLayer) -> None:
        """Says where CHaiDNN computes with integers and does not look at the result's format."""
        precision = layer.layer.precision
        if precision is None or precision.maps_in is None or precision.maps_out is None:
            return
        averages = layer.layer.type == "Pooling" and precision.mode is Mode.XILINX
        if precision.maps_in.step == precision.maps_out.step or precision.mode is Mode.RISTRETTO:
            return
        if layer.layer.type == "Eltwise" or averages:
            one, other = words_of(precision.maps_in), words_of(precision.maps_out)
            words = f"{layer.layer.name!r} reads {one} and writes {other}: the result is converted"
            self._report(layer.layer, words)

    def _report(self, layer: Layer, words: str, why: str = _IGNORED) -> None:
        self.graph.diagnostics.add(
            Diagnostic(
                "DLA147",
                "beyond-chaidnn",
                words,
                Severity.WARNING if self._is_chaidnn else Severity.NOTE,
                layer.location(self.graph.file),
                "nothing, if the formats are meant; dlaconv computes what they say",
                (why, _COSTS) if self._is_chaidnn else (_COSTS,),
            )
        )


def _read_by(layer: Layer, chain: Chain | None) -> MapFormat | None:
    """What a layer rounds its bottoms to, on behalf of its chain if it is the first one there."""
    layers = [layer] if chain is None or layer is not chain.layers[0] else chain.layers
    formats = [one.precision.maps_in for one in layers if one.precision is not None]
    return next((form for form in formats if form is not None), None)


def _written(layer: Layer) -> MapFormat | None:
    """What a layer rounds its results to; CHaiDNN has no formats for what is fed."""
    return layer.precision.maps_out if layer.precision is not None and layer.bottoms else None


def _hands_on(layer: Layer) -> bool:
    """True if a layer's results lie on the grid of what it reads."""
    if layer.type == "ReLU":
        return not _bends(layer)
    if layer.type == "Pooling":
        return layer.param("pooling_param").text("pool") == "MAX"
    return layer.type in MOVING or layer.type == "Concat"


def _bends(layer: Layer) -> bool:
    """True for a PReLU, and a ReLU with a slope."""
    if layer.type == "ReLU":
        return layer.param("relu_param").number("negative_slope") != 0
    return layer.type == "PReLU"
