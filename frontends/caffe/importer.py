"""From a prototxt and a caffemodel to stage IMPORTED."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostics, Location
from dlaconv.errors import UnreadableError
from dlaconv.frontends import Imported
from dlaconv.frontends.building import RefusalError, finish_as
from dlaconv.frontends.caffe import problems
from dlaconv.frontends.caffe.blobs import Blob, Weights
from dlaconv.frontends.caffe.building import CaffeGraph, CaffeLayer, Handler, shape_of
from dlaconv.frontends.caffe.inputs import open_shape
from dlaconv.frontends.caffe.layers import HANDLERS, NO_FORM, TRAINING
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.network import Layer, layers_of, names_of
from dlaconv.frontends.caffe.precision.emission import Emission
from dlaconv.frontends.caffe.precision.quantising import Quantising
from dlaconv.frontends.caffe.precision.reading import read_precision
from dlaconv.frontends.caffe.precision.sources import PrecisionSources
from dlaconv.frontends.caffe.precision.tying import Map, maps_of
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.frontends.caffe.text import parse_text, read_text
from dlaconv.frontends.handlers import Import
from dlaconv.frontends.onnx.weights import mapped

_MOST_FINDINGS = 100
_PHASED = {"BatchNorm", "Dropout"}


def import_files(
    path: Path,
    weights: Path,
    *,
    ignore_unknown: bool,
    layers: Mapping[str, Handler],
    shapes: Mapping[str, tuple[int, ...]],
    precision: PrecisionSources,
    emission: Emission,
) -> Imported:
    """Reads a network; see `dlaconv.frontends.caffe.load_caffe`."""
    net, found = _read(path, ignore_unknown=ignore_unknown)
    binary = Weights(weights)
    network = layers_of(net, caffe_schema(), str(path), found)
    running = _without_training(network, str(path), found)
    read_precision(running, precision, str(path), found)
    blobs, handlers = _Blobs(running, binary), {**HANDLERS, **layers}
    if not found.errors:
        measured = CaffeGraph(str(path), blobs, list(binary.layers), shapes=shapes)
        values = partial(_values, measured, running, handlers, net)
        emission.settle(running, blobs, values, str(path), found)
    stored = list(binary.layers)
    graph = CaffeGraph(str(path), blobs, stored, shapes=shapes, diagnostics=found)
    _Importer(graph, running, handlers).run()
    if not found.errors and not graph.outputs:
        found.error(
            "DLA134",
            "caffe-network",
            "the network computes nothing",
            location=Location(file=str(path)),
            help="give the prototxt of a network with layers for inference",
        )
    state = Import(_model(graph, net, weights), found)
    if not found.errors:
        finish_as(state, "Caffe")
    quantised = any(layer.precision is not None for layer in running)
    files = emission.files(net.text("name"), running)
    return Imported(state.model, found, {"producer": "Caffe"}, files, fixed_point=quantised)


def _values(
    graph: CaffeGraph, layers: list[Layer], handlers: Mapping[str, Handler], net: Message
) -> tuple[ir.Model, dict[Map, str]]:
    """A network with every map as an output, and the names of its values by map.

    Nothing is there for a network that cannot be imported.
    """
    importer = _Importer(graph, layers, handlers)
    importer.run()
    found = importer.results()
    graph.outputs[:] = dict.fromkeys(v for v in found.values() if v not in graph.inputs)
    state = Import(_model(graph, net), graph.diagnostics)
    if not found or state.diagnostics.errors:
        return state.model, {}
    finish_as(state, "Caffe")
    kept = {value.name for value in (*state.model.graph.inputs, *state.model.graph.outputs)}
    return state.model, {item: v.name or "" for item, v in found.items() if v.name in kept}


def _read(path: Path, *, ignore_unknown: bool) -> tuple[Message, Diagnostics]:
    file = str(path)
    data = mapped(path)
    if data is None:
        why = "this is a folder" if path.is_dir() else "the file cannot be read"
        raise UnreadableError(problems.unreadable(file, why))
    text = read_text(data, file)
    net, found = parse_text(
        text, caffe_schema(), "NetParameter", file, ignore_unknown=ignore_unknown
    )
    if not net.has("layer") and not net.has("layers"):
        raise UnreadableError(problems.not_text(file, "it describes no layers"))
    return net, found


def _without_training(network: list[Layer], file: str, found: Diagnostics) -> list[Layer]:
    pruned = [layer for layer in network if layer.type in TRAINING]
    if pruned:
        found.note(
            "DLA137",
            "pruned-layer",
            f"layers that are for training only are left out: {names_of(pruned)}",
            location=pruned[0].location(file),
            help="what they read becomes an output of the network",
        )
    return [layer for layer in network if layer.type not in TRAINING]


class _Blobs:
    """The blobs of layers, those that several layers share among them."""

    def __init__(self, layers: list[Layer], weights: Weights) -> None:
        self._weights = weights
        self._layers = {layer.name: layer for layer in layers}
        self._order = {name: position for position, name in enumerate(weights.layers)}
        self._sharing: dict[str, list[tuple[str, int]]] = {}
        self._shared: dict[str, Blob | None] = {}
        for layer in layers:
            for index, name in enumerate(layer.shared):
                if name:
                    self._sharing.setdefault(name, []).append((layer.name, index))

    def __call__(self, name: str) -> list[Blob]:
        found = self._weights.blobs(name)
        shared = self._layers[name].shared if name in self._layers else []
        for index, key in enumerate(shared):
            if not key or index > len(found):
                continue
            if key not in self._shared:
                self._shared[key] = self._of(key)
            if (blob := self._shared[key]) is not None:
                found[index : index + 1] = [blob]
        return found

    def _of(self, key: str) -> Blob | None:
        """What Caffe leaves in a shared blob: it copies layer by layer, so the last one counts."""
        places = [place for place in self._sharing[key] if place[0] in self._order]
        for name, index in sorted(places, key=lambda place: self._order[place[0]], reverse=True):
            blobs = self._weights.blobs(name)
            if index < len(blobs):
                return blobs[index]
        return None


class _Importer:
    """Goes through the layers, with the value that each blob has at the time."""

    def __init__(
        self, graph: CaffeGraph, layers: list[Layer], handlers: Mapping[str, Handler]
    ) -> None:
        self._graph, self._layers, self._handlers = graph, layers, handlers
        self._quantising = Quantising(graph, layers)
        self._maker = {top: layer for layer in layers for top in layer.tops}
        self._values: dict[str, ir.Value | None] = {}
        self._results: dict[int, list[ir.Value]] = {}
        graph.taken.update(top for layer in layers for top in layer.tops)

    def run(self) -> None:
        """Adds every layer; findings go to the graph's diagnostics, one for each bad layer."""
        read: set[str] = set()
        names = set[str]()
        for layer in self._layers:
            if len(self._graph.diagnostics.errors) > _MOST_FINDINGS:
                break  # mending the first ones comes first
            if layer.name in names and self._graph.blobs_of(layer.name):
                self._broken(layer, f"two layers with weights have the name {layer.name!r}")
            names.add(layer.name)
            if not self._connected(layer):
                self._values.update(dict.fromkeys(layer.tops))
                continue
            read.update(layer.bottoms)
            self._add(layer)
            read.difference_update(layer.tops)
        if not self._graph.diagnostics.errors:
            self._quantising.finish()
            self._name(read)

    def results(self) -> dict[Map, ir.Value]:
        """The real values that layers have computed or that are fed."""
        made = {value for node in self._graph.nodes for value in node.outputs}
        made.update(self._graph.inputs)
        found: dict[Map, ir.Value] = {}
        for key, uses in maps_of(self._layers).items():
            found.update(zip(uses.writes, self._results.get(key, ()), strict=False))
        return {
            item: value
            for item, value in found.items()
            if value in made and value.dtype == ir.DataType.FLOAT
        }

    def _connected(self, layer: Layer) -> bool:
        """True if everything that a layer reads is there and what it writes is free."""
        file_order = "a layer reads what layers before it write"
        for bottom in layer.bottoms:
            if bottom not in self._values:
                near = difflib.get_close_matches(bottom, list(self._values)[:4096], 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                self._broken(layer, f"no layer before it writes {bottom!r}{hint}", file_order)
                return False
        tops = set[str]()
        for index, top in enumerate(layer.tops):
            in_place = index < len(layer.bottoms) and layer.bottoms[index] == top
            if top in tops or (top in self._values and not in_place):
                self._broken(layer, f"{top!r} is written by several layers")
                return False
            tops.add(top)
        return all(self._values[bottom] is not None for bottom in layer.bottoms)

    def _add(self, layer: Layer) -> None:
        bottoms = [value for name in layer.bottoms if (value := self._values[name]) is not None]
        building = CaffeLayer(layer, self._graph, bottoms)
        try:
            for name, value in zip(layer.bottoms, bottoms, strict=True):
                if value.shape is None and layer.type != "Silence":
                    raise open_shape(building, name)
            values = self._made(building)
        except RefusalError as refusal:
            self._graph.diagnostics.add(refusal.diagnostic)
            self._values.update(dict.fromkeys(layer.tops))
            return
        self._results[id(layer)] = values
        self._values.update(zip(layer.tops, values, strict=True))

    def _made(self, building: CaffeLayer) -> list[ir.Value]:
        layer = building.layer
        if layer.type == "Silence" and not layer.tops:
            return []
        if layer.type == "Silence":
            building.refuse(f"{len(layer.tops)} tops, where Silence has none")
        handler = self._handlers.get(layer.type)
        if handler is None:
            raise self._unknown(building)
        trains = layer.message.has("phase") and layer.message.text("phase") == "TRAIN"
        if trains and layer.type in _PHASED:
            building.no_form(f"a {layer.type} that stays in phase TRAIN at inference")
        values = self._quantising.build(building, handler)
        if len(values) != len(layer.tops):
            building.refuse(f"{len(layer.tops)} tops, where {layer.type} has {len(values)}")
        return values

    def _unknown(self, building: CaffeLayer) -> RefusalError:
        kind = building.layer.type
        if kind in NO_FORM:
            why, remedy = NO_FORM[kind]
            return building.refusal(
                "DLA135", "no-onnx-form", f"{kind} is not read: {why}", remedy=remedy
            )
        near = difflib.get_close_matches(kind, self._handlers, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        return building.refusal(
            "DLA102",
            "unknown-operator",
            f"{kind or 'no type'} is no layer that dlaconv knows",
            remedy=f"{hint}a plugin can read it (register_layers)",
        )

    def _broken(self, layer: Layer, why: str, remedy: str = "") -> None:
        self._graph.diagnostics.error(
            "DLA134",
            "caffe-network",
            why,
            location=layer.location(self._graph.file),
            help=remedy or "mend the prototxt; Caffe refuses it, too",
        )

    def _name(self, read: set[str]) -> None:
        """Names values after blobs, and makes outputs of those that nothing reads."""
        graph = self._graph
        given = {value.name: value for value in graph.inputs}
        made = {value for node in graph.nodes for value in node.outputs}
        named: set[ir.Value] = set(graph.inputs)
        left = [name for name in self._values if name not in read]
        for name in left:
            value = self._values[name]
            if (
                value is None
                or value.shape is None
                or (value in graph.inputs and value.name == name)
            ):
                continue  # an input that nothing reads
            if value not in made or value in named:
                copy = CaffeLayer(self._maker[name], graph, [value])
                value = copy.op("Identity", [value], shape_of(value))
            if name not in given:
                value.name = name
            named.add(value)
            graph.outputs.append(value)
        for name, held in self._values.items():
            if held is not None and held in made and held not in named and name not in given:
                held.name = name
                named.add(held)


def _model(graph: CaffeGraph, net: Message, weights: Path | None = None) -> ir.Model:
    model = graph.model(net.text("name") or "network", weights)
    inputs = model.graph.inputs
    inputs[:] = [value for value in inputs if value.uses()]
    return model
