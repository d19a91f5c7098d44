"""From a stored model to stage IMPORTED."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostics, Location
from dlaconv.errors import UnreadableError
from dlaconv.frontends import Imported
from dlaconv.frontends.building import BATCH, RefusalError, finish_as
from dlaconv.frontends.handlers import Import
from dlaconv.frontends.keras.archive import open_archive
from dlaconv.frontends.keras.building import (
    Handler,
    KerasGraph,
    KerasLayer,
    shape_of,
)
from dlaconv.frontends.keras.calls import Call, TensorRef, references, substituted
from dlaconv.frontends.keras.dialects.detection import dialect_of
from dlaconv.frontends.keras.layers import (
    AMONG,
    CODE,
    HANDLERS,
    NO_FORM,
    QUANTISED,
    REGISTERED,
    REMEDIES,
)
from dlaconv.frontends.keras.network import MOST_LAYERS, Layer, Network, network_of
from dlaconv.frontends.keras.operations import OPERATIONS
from dlaconv.frontends.keras.stored import StoredWeights
from dlaconv.frontends.problems import too_large

_MOST_FINDINGS = 100
_MOST_DIMENSIONS = 8


def import_files(
    path: Path,
    weights: Path | None,
    *,
    layers: Mapping[str, Handler],
    shapes: Mapping[str, tuple[int, ...]],
) -> Imported:
    """Reads a model; see `dlaconv.frontends.keras.load_keras`."""
    archive = open_archive(path, weights)
    found = Diagnostics()
    network = network_of(archive.config, archive.file, found)
    graph = KerasGraph(
        archive.file,
        archive.major,
        StoredWeights(archive.weights),
        shapes=shapes,
        diagnostics=found,
    )
    if network is not None and not found.errors:
        _Importer(graph, layers).run(network)
    state = Import(graph.model("network", archive.weight_file), found)
    if not found.errors:
        finish_as(state, "Keras")
    version = f" {archive.version}" if archive.version else ""
    return Imported(state.model, found, {"producer": f"Keras{version}"})


class _Importer:
    """Calls layer by layer, each with the values that its call reads."""

    def __init__(self, graph: KerasGraph, layers: Mapping[str, Handler]) -> None:
        self._graph, self._added = graph, layers
        self._own = HANDLERS
        self._calls = 0

    def run(self, network: Network) -> None:
        """Adds a network; findings go to the graph's diagnostics, one for each bad layer."""
        self._scan(network)
        if self._graph.diagnostics.errors:
            return
        inputs = {layer.name: layer for layer in network.layers}
        given = [self._input(inputs[tensor.layer]) for tensor in network.inputs]
        if self._graph.diagnostics.errors:
            return
        outputs = self._network(network, given)
        if not self._graph.diagnostics.errors:
            self._name(network, outputs)

    def _scan(self, network: Network) -> None:
        """Reports what is not read at all, wherever it is, before anything is built."""
        for library in {dialect_of(layer) for layer in network.all_layers()} & AMONG.keys():
            self._own = self._own | AMONG[library]
        for layer in network.all_layers():
            if len(self._graph.diagnostics) > _MOST_FINDINGS:
                return
            if layer.model is None and layer.kind != "InputLayer" and self._handler(layer) is None:
                self._graph.diagnostics.add(self._unread(layer).diagnostic)

    def _handler(self, layer: Layer) -> Handler | None:
        added = self._added.get(layer.registered) or self._added.get(layer.kind)
        if added is not None:
            return added
        if library := dialect_of(layer):
            return QUANTISED.get(library, {}).get(layer.kind)
        if layer.is_operation:
            return OPERATIONS.get(layer.kind)
        ours = not layer.module or layer.module.partition(".")[0] in {"keras", "tf_keras"}
        ours = ours or layer.module.startswith(("tensorflow.python.keras", "tensorflow.keras"))
        foreign = ">" in layer.registered and layer.registered not in REGISTERED
        return self._own.get(layer.kind) if ours and not foreign else None

    def _unread(self, layer: Layer) -> RefusalError:
        building = KerasLayer(layer, self._graph, (), {}, [])
        kind = layer.kind
        if kind in CODE:
            return building.refusal(
                "DLA179",
                "code-in-layer",
                f"what a {kind} layer computes is code, which is never run",
                remedy="write it with layers of Keras or keras.ops, and save the model again",
                notes=("code in a file could do anything on this machine",),
            )
        if library := dialect_of(layer):
            return building.refusal(
                "DLA180",
                "unread-quantisation",
                f"{kind} of {library} is not read",
                remedy=REMEDIES.get(library, "give the network in floating point, and --calibrate"),
                notes=("without its quantisers the network would not be the one that was trained",),
            )
        if kind in NO_FORM:
            why, remedy = NO_FORM[kind]
            return building.refusal(
                "DLA178", "unread-layer", f"{kind} is not read: {why}", remedy=remedy
            )
        near = difflib.get_close_matches(kind, [*HANDLERS, *OPERATIONS], 1)
        hint = f"did you mean {near[0]}? " if near and near[0] != kind else ""
        return building.refusal(
            "DLA102",
            "unknown-operator",
            f"{layer.registered or kind} is no layer that dlaconv knows",
            remedy=f"{hint}a plugin can read it (register_layers)",
        )

    def _input(self, layer: Layer) -> ir.Value:
        """A graph input, with the shape that the user gives or the file has."""
        graph = self._graph
        shape = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
        if isinstance(shape, list) and len(shape) > _MOST_DIMENSIONS:
            shape = None
        if isinstance(shape, list) and shape and type(shape[0]) is int and shape[0] > 1:
            shape = [None, *shape[1:]]  # of a model that was built by a call; samples go one by one
        sizes = graph.shapes.get(layer.name, shape)
        name = graph.free_name(layer.name)
        right = isinstance(sizes, (list, tuple)) and all(
            item is None or (type(item) is int and item > 0) for item in sizes
        )
        if not right or not sizes or any(item is None for item in sizes[1:]):
            known = sizes if right and sizes else [None, None, None, 3]
            typical = [1, *[224 if len(known) == 4 else 32] * (len(known) - 1)]
            example = ",".join(
                str(other if size is None else size)
                for size, other in zip(known, typical, strict=True)
            )
            graph.diagnostics.error(
                "DLA311",
                "open-input-shape",
                f"the file does not say which shape {layer.name!r} has: {shape}",
                location=layer.location(graph.file),
                help=f"give it, such as --set-shape {layer.name}={example}, channels last",
                notes=("the accelerator runs a network for one fixed input size",),
            )
            sizes = [None, 1]
        value = ir.val(name, ir.DataType.FLOAT, [BATCH if item is None else item for item in sizes])
        graph.inputs.append(value)
        return value

    def _network(self, network: Network, given: Sequence[ir.Value | None]) -> list[ir.Value | None]:
        """Adds the calls of a network, in an order in which each finds what it reads."""
        values: dict[TensorRef, ir.Value | None] = dict(zip(network.inputs, given, strict=False))
        layers = {layer.name: layer for layer in network.layers}
        if len(given) != len(network.inputs):
            self._broken(network, f"{len(given)} tensors for {len(network.inputs)} inputs")
            return [None] * len(network.outputs)
        for layer, number in self._ordered(network, layers, values):
            if len(self._graph.diagnostics) > _MOST_FINDINGS:
                break  # mending the first ones comes first
            for index, value in enumerate(self._call(layer, layer.calls[number], values)):
                values[TensorRef(layer.name, number + layer.first_call, index)] = value
        missing = [tensor for tensor in network.outputs if tensor not in values]
        if missing and not self._graph.diagnostics.errors:
            self._broken(network, f"nothing makes its output {missing[0].layer!r}")
        return [values.get(tensor) for tensor in network.outputs]

    def _ordered(
        self,
        network: Network,
        layers: Mapping[str, Layer],
        given: Mapping[TensorRef, Any],
    ) -> Iterator[tuple[Layer, int]]:
        """The calls that outputs depend on, each behind those that it reads."""
        made = {(tensor.layer, tensor.call) for tensor in given}
        entered: set[tuple[str, int]] = set()
        pending = [(tensor.layer, tensor.call, False) for tensor in reversed(network.outputs)]
        while pending:
            name, call, ready = pending.pop()
            layer = layers[name]
            number = call - layer.first_call
            if ready:
                made.add((name, call))
                yield layer, number
                continue
            if (name, call) in made:
                continue
            if (name, call) in entered or not 0 <= number < len(layer.calls):
                why = "reads itself" if (name, call) in entered else f"has no call {call}"
                self._broken(network, f"{name!r} {why}")
                return
            entered.add((name, call))
            pending.append((name, call, True))
            read = layer.calls[number]
            tensors = references([*read.arguments, read.keywords])
            pending += [(item.layer, item.call, False) for item in tensors]

    def _call(
        self, layer: Layer, call: Call, values: Mapping[TensorRef, ir.Value | None]
    ) -> Sequence[ir.Value | None]:
        self._calls += 1
        if self._calls > MOST_LAYERS:
            why = f"models in it are called so often that there are more than {MOST_LAYERS} layers"
            raise UnreadableError(too_large(self._graph.file, why))
        tensors = list(references([*call.arguments, call.keywords]))
        if any(tensor not in values for tensor in tensors):
            gone = next(tensor for tensor in tensors if tensor not in values)
            if not self._graph.diagnostics.errors:
                self._unmade(layer, gone)
            return []
        inputs = [values[tensor] for tensor in tensors]
        if layer.model is not None:
            return self._network(layer.model, inputs)
        there = [value for value in inputs if value is not None]
        if len(there) < len(inputs):
            return [None]  # what makes it was refused
        building = KerasLayer(
            layer,
            self._graph,
            substituted(call.arguments, values.__getitem__),
            substituted(call.keywords, values.__getitem__),
            there,
        )
        handler = self._handler(layer)
        assert handler is not None
        before = len(self._graph.nodes)
        try:
            results = handler(building)
        except RefusalError as refusal:
            self._graph.diagnostics.add(refusal.diagnostic)
            return [None]
        made = {value for node in self._graph.nodes[before:] for value in node.outputs}
        for index, value in enumerate(results):
            if value in made:
                stem = f"{building.name}_{index}" if index else building.name
                value.name = self._graph.free_name(stem)
        return results

    def _unmade(self, layer: Layer, tensor: TensorRef) -> None:
        self._graph.diagnostics.error(
            "DLA175",
            "keras-network",
            f"it reads result {tensor.index} of {tensor.layer!r}, which there is not",
            location=layer.location(self._graph.file),
            help="save the model again with model.save('model.keras')",
        )

    def _broken(self, network: Network, why: str) -> None:
        self._graph.diagnostics.error(
            "DLA175",
            "keras-network",
            f"the layers of {network.name!r} do not make a network: {why}",
            location=Location(file=self._graph.file),
            help="save the model again with model.save('model.keras')",
        )

    def _name(self, network: Network, outputs: Sequence[ir.Value | None]) -> None:
        """Names the outputs after their layers; each is a value of its own."""
        graph = self._graph
        made = {value for node in graph.nodes for value in node.outputs}
        layers = {layer.name: layer for layer in network.layers}
        for tensor, output in zip(network.outputs, outputs, strict=True):
            assert output is not None
            value = output
            if value not in made or value in graph.outputs:
                layer = KerasLayer(layers[tensor.layer], graph, (), {}, [value])
                value = layer.op("Identity", [value], shape_of(value))
            stem = f"{tensor.layer}_{tensor.index}" if tensor.index else tensor.layer
            if value.name != stem and not (value.name or "").startswith(f"{stem}."):
                value.name = graph.free_name(stem)  # it passed through layers that do nothing
            graph.outputs.append(value)
