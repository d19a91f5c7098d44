"""Keras files made by tests, as Keras 2 and 3 write them."""

import json
import zipfile
from dataclasses import dataclass, field

import h5py
import numpy as np

from dlaconv.frontends.keras import load_keras
from dlaconv.frontends.keras.network import snake_case
from dlaconv.ir.execution import Executor

SAMPLES = 3
VERSIONS = {2: "2.13.1", 3: "3.5.0"}


@dataclass(frozen=True)
class T:
    """A tensor: the result of a call of a layer."""

    layer: str
    call: int = 0
    index: int = 0


@dataclass
class L:
    """A layer: its class, its name, what its calls read, its parameters and its weights.

    ``reads`` are the arguments of the one call; several calls are given as ``calls``, pairs of
    arguments and keywords. A tensor is `T`, or the name of its layer.
    """

    kind: str
    name: str
    reads: list = field(default_factory=list)
    config: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)
    calls: list | None = None
    module: str | None = "keras.layers"
    registered: str | None = None
    layers: list | None = None
    outputs: list | None = None
    inputs: list | None = None

    def all_calls(self):
        if self.calls is not None:
            return self.calls
        return [(self.reads, {})] if self.reads else []


def given(name, shape):
    """An input layer; ``shape`` is without the batch."""
    return L("InputLayer", name, config={"batch_shape": [None, *shape]})


def _tensors(value):
    if isinstance(value, str):
        return T(value)
    if isinstance(value, list):
        return [_tensors(item) for item in value]
    return value


def _argument(value):
    if isinstance(value, T):
        history = [value.layer, value.call, value.index]
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None], "dtype": "float32", "keras_history": history},
        }
    return [_argument(item) for item in value] if isinstance(value, list) else value


def _old_node(arguments, keywords):
    [first] = [_tensors(item) for item in arguments]
    plain = {k: [v.layer, v.call, v.index] if isinstance(v, T) else v for k, v in keywords.items()}
    tensors = first if isinstance(first, list) else [first]
    return [[item.layer, item.call, item.index, plain] for item in tensors]


def is_operation(layer):
    """True for an operation of keras.ops."""
    return (layer.module or "").startswith("keras.src.ops")


def _described(layer, generation):
    config = {"name": layer.name, "trainable": True, "dtype": "float32", **layer.config}
    if is_operation(layer):
        config = {"name": layer.name, **layer.config}
    if generation == 2 and "batch_shape" in config:
        config["batch_input_shape"] = config.pop("batch_shape")
    if layer.layers is not None:
        config = model_config(layer.layers, layer.outputs, layer.inputs, generation, layer.name)
    nodes = layer.all_calls()
    if generation == 3:
        nodes = [
            {
                "args": [_argument(_tensors(item)) for item in arguments],
                "kwargs": {key: _argument(item) for key, item in keywords.items()},
            }
            for arguments, keywords in nodes
        ]
    else:
        nodes = [_old_node(*call) for call in nodes]
    return {
        "module": layer.module,
        "class_name": layer.kind,
        "config": config,
        "registered_name": layer.registered,
        "name": layer.name,
        "inbound_nodes": nodes,
    }


def model_config(layers, outputs, inputs=None, generation=3, name="model"):
    inputs = inputs or [layer.name for layer in layers if layer.kind == "InputLayer"]
    ends = [
        [[item.layer, item.call, item.index] for item in map(_tensors, tensors)]
        for tensors in (inputs, outputs)
    ]
    if generation == 3:
        ends = [item[0] if len(item) == 1 else item for item in ends]
    return {
        "name": name,
        "trainable": True,
        "layers": [_described(layer, generation) for layer in layers],
        "input_layers": ends[0],
        "output_layers": ends[1],
    }


def functional(layers, outputs, inputs=None, generation=3):
    """The description of a functional model."""
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": model_config(layers, outputs, inputs, generation),
        "registered_name": "Functional",
    }


def sequential(layers, generation=3, **more):
    """The description of a Sequential."""
    described = [_described(layer, generation) for layer in layers]
    for item in described:
        del item["inbound_nodes"], item["name"]
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "sequential", "layers": described, **more},
    }


def counted(group, layers):
    """Weights as a .keras file has them."""
    counts = {}
    for layer in layers:
        if is_operation(layer):
            continue
        stem = snake_case(layer.kind)
        number = counts[stem] = counts.get(stem, -1) + 1
        own = group.require_group(f"layers/{stem}_{number}" if number else f"layers/{stem}")
        held = own.create_group("vars")
        for index, (name, array) in enumerate(layer.weights.items()):
            if "/" in name:  # of an object within the layer
                own.create_dataset(name, data=array)
            else:
                held.create_dataset(str(index), data=array)
        if layer.layers is not None:
            counted(own, layer.layers)


def named(group, layers, generation):
    """Weights as a .h5 file has them."""
    suffix = ":0" if generation == 2 else ""
    group.attrs["layer_names"] = [layer.name.encode() for layer in layers]
    for layer in layers:
        own = group.create_group(layer.name)
        names = []
        for inner in [layer] if layer.layers is None else layer.layers:
            for name, array in inner.weights.items():
                names.append(f"{inner.name}/{name}{suffix}")
                own.create_dataset(names[-1], data=array)
        own.attrs["weight_names"] = [name.encode() for name in names]


def save_keras(path, layers, config, generation=3, compression=zipfile.ZIP_STORED, more=()):
    """Writes a .keras file."""
    weights = path.with_suffix(".weights.h5")
    with h5py.File(weights, "w") as file:
        counted(file, layers)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": VERSIONS[generation]}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(weights, "model.weights.h5")
        for name, data in more:
            archive.writestr(name, data)
    return path


def save_h5(path, layers, config, generation=3):
    """Writes a .h5 file."""
    bare = json.loads(json.dumps(config))
    for item in [bare, *bare["config"]["layers"]]:
        item.pop("module", None)
        item.pop("registered_name", None)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = VERSIONS[generation]
        file.attrs["model_config"] = json.dumps(bare)
        named(file.create_group("model_weights"), layers, generation)
    return path


def save(path, layers, outputs, generation=3):
    """Writes a functional model in the form of the path's ending."""
    config = functional(layers, outputs, None, generation)
    write = save_h5 if path.suffix == ".h5" else save_keras
    return write(path, layers, config, generation)


def load(path, weights=None, **more):
    """Reads a file without findings of severity error."""
    imported = load_keras(path, weights=weights, **more)
    assert not imported.diagnostics.errors, imported.diagnostics
    return imported


def outputs_of(path, weights=None, **inputs):
    """What a model makes of inputs: its outputs in their order."""
    model = load(path, weights).model
    found = Executor(model).run({name: array.astype(np.float32) for name, array in inputs.items()})
    return [found[value.name] for value in model.graph.outputs]


def one_layer(tmp_path, layer, *arrays, generation=3, ending=".keras"):
    """What one layer makes of arrays with a batch."""
    names = [f"x{index}" for index in range(len(arrays))]
    inputs = [given(n, a.shape[1:]) for n, a in zip(names, arrays, strict=True)]
    layer.reads = layer.reads or ([names] if len(names) > 1 else names)
    path = save(tmp_path / f"model{ending}", [*inputs, layer], [layer.name], generation)
    [found] = outputs_of(path, **dict(zip(names, arrays, strict=True)))
    return found


def findings(path, weights=None, **more):
    """Rule ids and messages of the errors in a file, raised or returned."""
    from dlaconv.errors import UserError

    try:
        found = load_keras(path, weights=weights, **more).diagnostics.errors
    except UserError as error:
        found = error.diagnostics.errors
    return [(item.rule, item.message) for item in found]
