"""What a description says: layers, their calls, and what each call reads.

Keras 3 writes calls as ``{"args": [...], "kwargs": {...}}`` with tensors in them, Keras 2 as
``[["name", node, tensor, {kwargs}], ...]`` with tensors in the keywords as well. A Sequential is a
chain. A model is a layer of another one, called once or several times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from dlaconv.diagnostics import Diagnostics, Location
from dlaconv.frontends.keras.calls import (
    BadNetworkError,
    Call,
    TensorRef,
    call_of,
    references,
    tensors_of,
)

MOST_DEPTH = 16
MOST_LAYERS = 1 << 16
_FUNCTIONAL = ("Functional", "Model")


@dataclass(eq=False)
class Layer:
    """A layer.

    Attributes:
        name: its name within its model.
        kind: its class.
        module: the module of the class; empty in ``.h5`` files.
        registered: the name that the class is registered under, empty for Keras's own.
        config: its parameters.
        names: its name behind those of the models that it is in.
        path: where a ``.keras`` file keeps its weights.
        build_shape: the shape that it was built for, as stored; often None.
        calls: what it is called with.
        first_call: the number of its first call.
        model: what is in it if it is a model.
        inner: the layer in it if it is a wrapper, once it was called.
    """

    name: str
    kind: str
    module: str
    registered: str
    config: Mapping[str, Any]
    names: tuple[str, ...]
    path: tuple[str, ...] = ()
    build_shape: Any = None
    calls: list[Call] = field(default_factory=list)
    first_call: int = 0
    model: Network | None = None
    inner: Layer | None = None

    @property
    def is_operation(self) -> bool:
        """True for an operation of ``keras.ops``, which has no weights."""
        if self.module:
            return f"{self.module}.".startswith(("keras.ops.", "keras.src.ops."))
        return not {"dtype", "trainable"} & self.config.keys()

    def location(self, file: str) -> Location:
        """Where the layer is, for findings."""
        return Location(file=file, layer="/".join(self.names), op=self.kind)


@dataclass(eq=False)
class Network:
    """A model.

    Attributes:
        name: its name.
        layers: its layers.
        inputs: the tensors that it takes.
        outputs: the tensors that it gives.
    """

    name: str
    layers: list[Layer]
    inputs: list[TensorRef] = field(default_factory=list)
    outputs: list[TensorRef] = field(default_factory=list)

    def all_layers(self) -> Iterator[Layer]:
        """Every layer, those of models in it among them."""
        for layer in self.layers:
            yield layer
            if layer.model is not None:
                yield from layer.model.all_layers()


def network_of(config: Mapping[str, Any], file: str, found: Diagnostics) -> Network | None:
    """The network that a description stands for.

    Args:
        config: the description of a model, ``class_name`` and ``config``.
        file: the file's path.
        found: takes findings.

    Returns:
        The network; None if it cannot be told, which is reported.
    """
    return _Reader(file, found).model(config, (), ())


def snake_case(name: str) -> str:
    """The name of a class as Keras writes it in the paths of weights."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class _Reader:
    def __init__(self, file: str, found: Diagnostics) -> None:
        self._file, self._found = file, found
        self._count = 0

    def model(
        self, config: Mapping[str, Any], names: tuple[str, ...], path: tuple[str, ...]
    ) -> Network | None:
        """A model, which is all there is or a layer of another one."""
        kind, inner = config.get("class_name"), config.get("config")
        if isinstance(inner, list):  # as Keras before 2.2 wrote a Sequential
            inner = {"name": "sequential", "layers": inner}
        if not isinstance(inner, Mapping) or not isinstance(inner.get("layers"), list):
            self._subclassed(str(kind), names, inner if isinstance(inner, Mapping) else {})
            return None
        if kind != "Sequential" and (kind not in _FUNCTIONAL or "output_layers" not in inner):
            self._subclassed(str(kind), names, inner)
            return None
        try:
            if len(names) > MOST_DEPTH:
                raise BadNetworkError(f"models in models, more than {MOST_DEPTH} deep")
            layers = self._layers(inner["layers"], names, path)
            name = inner.get("name") if isinstance(inner.get("name"), str) else "model"
            network = Network(str(name), layers)
            if kind == "Sequential":
                self._chain(network, inner, config)
            else:
                self._calls(network, inner)
        except BadNetworkError as error:
            self._broken(str(error), names)
            return None
        return network

    def _layers(
        self, items: Sequence[Any], names: tuple[str, ...], path: tuple[str, ...]
    ) -> list[Layer]:
        layers: list[Layer] = []
        counts: dict[str, int] = {}
        taken: set[str] = set()
        self._count += len(items)
        if self._count > MOST_LAYERS:
            raise BadNetworkError(f"more than {MOST_LAYERS} layers")
        for item in items:
            layer = self._layer(item, names)
            if layer.name in taken:
                raise BadNetworkError(f"two layers have the name {layer.name!r}")
            taken.add(layer.name)
            if not layer.is_operation:
                stem = snake_case(layer.kind)
                number = counts[stem] = counts.get(stem, -1) + 1
                layer.path = (*path, "layers", f"{stem}_{number}" if number else stem)
            if layer.kind in {*_FUNCTIONAL, "Sequential"}:
                layer.model = self.model(item, layer.names, layer.path)
            layers.append(layer)
        return layers

    def _layer(self, item: Any, names: tuple[str, ...]) -> Layer:
        if not isinstance(item, Mapping) or not isinstance(item.get("class_name"), str):
            raise BadNetworkError("a layer without a class_name")
        config = item.get("config")
        if isinstance(config, list):
            config = {"name": "sequential", "layers": config}
        if not isinstance(config, Mapping):
            raise BadNetworkError(f"a {item['class_name']} without a config")
        name = item.get("name", config.get("name"))
        if not isinstance(name, str) or not name:
            raise BadNetworkError(f"a {item['class_name']} without a name")
        module, registered = item.get("module"), item.get("registered_name")
        built, kind = item.get("build_config"), item["class_name"]
        if ">" in kind:  # registered, as .h5 files have it
            registered, kind = kind, kind.rpartition(">")[2]
        return Layer(
            name,
            kind,
            module if isinstance(module, str) else "",
            registered if isinstance(registered, str) else "",
            config,
            (*names, name),
            build_shape=built.get("input_shape") if isinstance(built, Mapping) else None,
        )

    def _chain(self, network: Network, inner: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """A Sequential: each layer reads what the one before it gives."""
        layers = network.layers
        if not layers:
            raise BadNetworkError("a Sequential without layers")
        if layers[0].kind != "InputLayer":
            layers.insert(0, _input_of(network, inner, config))
        for before, layer in pairwise(layers):
            layer.calls.append(Call((TensorRef(before.name, 0, 0),), {}))
        network.inputs = [TensorRef(layers[0].name, 0, 0)]
        network.outputs = [TensorRef(layers[-1].name, 0, 0)]

    def _calls(self, network: Network, inner: Mapping[str, Any]) -> None:
        layers = {layer.name: layer for layer in network.layers}
        for layer, item in zip(network.layers, inner["layers"], strict=True):
            nodes = item.get("inbound_nodes", [])
            if not isinstance(nodes, list):
                raise BadNetworkError(f"{layer.name!r} has no list of calls")
            layer.calls = [call_of(node, layer.name, layers.keys()) for node in nodes]
            self._count += len(nodes)
            if self._count > MOST_LAYERS:
                raise BadNetworkError(f"more than {MOST_LAYERS} calls")
        network.inputs = tensors_of(inner.get("input_layers"), "input_layers")
        network.outputs = tensors_of(inner.get("output_layers"), "output_layers")
        if not network.outputs:
            raise BadNetworkError("a model without outputs")
        self._number(network, layers)

    def _number(self, network: Network, layers: Mapping[str, Layer]) -> None:
        """Finds out whether calls of a model are counted from 1: its making counts, too.

        Keras 2 does so everywhere; Keras 3 only in a list of outputs, and only for functional
        models, while arguments count from 0.
        """
        arguments = [
            t
            for x in network.layers
            for c in x.calls
            for t in references([*c.arguments, c.keywords])
        ]
        for tensor in [*network.inputs, *network.outputs, *arguments]:
            if tensor.layer not in layers:
                raise BadNetworkError(f"there is no layer {tensor.layer!r}, which is read")
        apart = {
            name
            for name, x in layers.items()
            if x.kind in _FUNCTIONAL and x.calls and x.calls[0].new
        }
        outputs = [tensor for tensor in network.outputs if tensor.layer not in apart]
        for tensor in [*network.inputs, *outputs, *arguments]:
            layer = layers[tensor.layer]
            if layer.model is not None and layer.calls and tensor.call == len(layer.calls):
                layer.first_call = 1
        network.outputs = [
            replace(tensor, call=max(tensor.call - 1, 0) + layers[tensor.layer].first_call)
            if tensor.layer in apart
            else tensor
            for tensor in network.outputs
        ]

    def _subclassed(self, kind: str, names: tuple[str, ...], inner: Mapping[str, Any]) -> None:
        name = "/".join(names) or str(inner.get("name", ""))
        self._found.error(
            "DLA174",
            "subclassed-model",
            f"{kind} is a model of a class of its own, whose layers the file does not list",
            location=Location(file=self._file, layer=name, op=kind),
            help="rebuild it as a functional model, keras.Model(inputs, model.call(inputs)), copy "
            "the weights with set_weights, and save that",
            notes=("what it computes is code, which is not in the file and never run",),
        )

    def _broken(self, why: str, names: tuple[str, ...]) -> None:
        self._found.error(
            "DLA175",
            "keras-network",
            f"the layers do not make a network: {why}",
            location=Location(file=self._file, layer="/".join(names)),
            help="save the model again with model.save('model.keras')",
        )


def _input_of(network: Network, inner: Mapping[str, Any], config: Mapping[str, Any]) -> Layer:
    """The input of a Sequential that has no layer for it."""
    first = network.layers[0]
    built = config.get("build_config")
    shapes = [
        first.config.get("batch_input_shape"),
        first.config.get("batch_shape"),
        inner.get("build_input_shape"),
        built.get("input_shape") if isinstance(built, Mapping) else None,
        first.build_shape,
    ]
    if first.model is not None:
        shapes.append(first.model.layers[0].config.get("batch_input_shape"))
        shapes.append(first.model.layers[0].config.get("batch_shape"))
    shape = next((item for item in shapes if isinstance(item, list)), None)
    return Layer(
        f"{first.name}_input",
        "InputLayer",
        "keras.layers",
        "",
        {"batch_shape": shape},
        (*first.names[:-1], f"{first.name}_input"),
    )
