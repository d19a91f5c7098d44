"""Graphs of layers: how Keras 2 and 3 write them, models in models, and what is no graph."""

import json

import h5py
import numpy as np
import pytest

from dlaconv.frontends.keras import load_keras
from tests.frontends.keras.files import (
    L,
    T,
    findings,
    functional,
    given,
    load,
    outputs_of,
    save,
    save_h5,
    save_keras,
    sequential,
)

RNG = np.random.default_rng(7)
BOTH = pytest.mark.parametrize("generation", [2, 3])
FILES = pytest.mark.parametrize("ending", [".keras", ".h5"])


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def dense(name, reads, kernel, **more):
    config = {"units": kernel.shape[1], "use_bias": False}
    return L("Dense", name, reads, config, {"kernel": kernel}, **more)


def close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@BOTH
@FILES
def test_several_inputs_and_outputs_keep_their_order_and_names(tmp_path, generation, ending):
    a, b, kernel = values(2, 3), values(2, 3), values(3, 2)
    layers = [
        given("b", (3,)),
        given("a", (3,)),
        L("Subtract", "s", [["a", "b"]]),
        dense("d", ["s"], kernel),
    ]
    path = save(tmp_path / f"m{ending}", layers, ["d", "s"], generation)
    graph = load(path).model.graph
    assert [value.name for value in graph.inputs] == ["b", "a"]
    assert [value.name for value in graph.outputs] == ["d", "s"]
    found = outputs_of(path, a=a, b=b)
    close(found[0], (a - b) @ kernel)
    close(found[1], a - b)


@BOTH
@FILES
def test_a_shared_layer_is_called_several_times_with_one_kernel(tmp_path, generation, ending):
    a, b, kernel = values(2, 3), values(2, 3), values(3, 2)
    shared = dense("d", [], kernel, calls=[(["a"], {}), (["b"], {})])
    join = L("Subtract", "s", [[T("d", 1), T("d", 0)]])
    path = save(
        tmp_path / f"m{ending}",
        [given("a", (3,)), given("b", (3,)), shared, join],
        ["s"],
        generation,
    )
    [found] = outputs_of(path, a=a, b=b)
    close(found, (b - a) @ kernel)
    assert len(load(path).model.graph.initializers) == 1


@BOTH
@FILES
@pytest.mark.parametrize("first", [0, 1])
def test_a_model_in_a_model_is_called_twice(tmp_path, generation, ending, first):
    """Keras counts calls of a model from 1, since its making is a call as well."""
    a, b = values(2, 3), values(2, 3)
    kernel, other, last = values(3, 4), values(4, 3), values(3, 2)
    inner = L(
        "Functional",
        "tower",
        module="keras.src.models.functional",
        layers=[given("in", (3,)), dense("d", ["in"], kernel), dense("e", ["d"], other)],
        outputs=["e"],
        calls=[(["a"], {}), (["b"], {})],
    )
    layers = [
        given("a", (3,)),
        given("b", (3,)),
        inner,
        L("Subtract", "s", [[T("tower", first), T("tower", first + 1)]]),
        dense("d", ["s"], last),
    ]
    path = save(tmp_path / f"m{ending}", layers, ["d"], generation)
    [found] = outputs_of(path, a=a, b=b)
    close(found, (a - b) @ kernel @ other @ last)


@FILES
def test_keras_3_counts_the_calls_of_a_model_from_1_in_the_list_of_outputs_only(tmp_path, ending):
    a, b, kernel = values(2, 3), values(2, 3), values(3, 3)
    inner = L(
        "Functional",
        "tower",
        module="keras.src.models.functional",
        layers=[given("in", (3,)), dense("d", ["in"], kernel)],
        outputs=["d"],
        calls=[(["a"], {}), (["b"], {})],
    )
    join = L("Subtract", "s", [[T("tower", 0), T("tower", 1)]])
    layers = [given("a", (3,)), given("b", (3,)), inner, join]
    path = save(tmp_path / f"m{ending}", layers, [T("tower", 1), "s", T("tower", 2)])
    first, difference, second = outputs_of(path, a=a, b=b)
    close(first, a @ kernel)
    close(second, b @ kernel)
    close(difference, (a - b) @ kernel)


def test_a_variable_within_a_model_may_be_stored_without_the_name_of_its_layer(tmp_path):
    """Keras 2 does so for what was made outside of the layer's call, as Normalization's is."""
    x, mean, kernel = values(2, 3), values(3), values(3, 2)
    weights = {"mean": mean, "variance": np.float32([1, 4, 9]), "count": np.int64(3)}
    inner = L(
        "Functional",
        "tower",
        ["x"],
        layers=[
            given("in", (3,)),
            L("Normalization", "n", ["in"], {"axis": [-1]}, weights),
            dense("d", ["n"], kernel),
        ],
        outputs=["d"],
    )
    path = save(tmp_path / "m.h5", [given("x", (3,)), inner], [T("tower", 1)], 2)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/tower"]
        for name in weights:
            group.move(f"n/{name}:0", f"{name}:0")
        listed = [name.removeprefix("n/") for name in group.attrs["weight_names"].astype(str)]
        group.attrs["weight_names"] = [name.encode() for name in listed]
    close(outputs_of(path, x=x)[0], (x - mean) / np.float32([1, 2, 3]) @ kernel)


def test_names_within_a_model_do_not_clash_with_those_outside(tmp_path):
    x, one, two = values(2, 3), values(3, 3), values(3, 3)
    inner = L(
        "Functional",
        "tower",
        ["x"],
        layers=[given("x", (3,)), dense("d", ["x"], one)],
        outputs=["d"],
    )
    layers = [given("x", (3,)), inner, dense("d", [T("tower", 1)], two)]
    [found] = outputs_of(save(tmp_path / "m.keras", layers, ["d"]), x=x)
    close(found, x @ one @ two)


@BOTH
@pytest.mark.parametrize("has_input", [True, False])
def test_a_sequential_is_a_chain(tmp_path, generation, has_input):
    x, one, two = values(2, 3), values(3, 4), values(4, 2)
    layers = [dense("a", [], one), L("ReLU", "r"), dense("b", [], two)]
    if has_input:
        layers.insert(0, given("x", (3,)))
    else:
        layers[0].config |= {"batch_input_shape": [None, 3]}
    config = sequential(layers, generation)
    for write, ending in ((save_keras, ".keras"), (save_h5, ".h5")):
        path = write(tmp_path / f"m{ending}", layers, config, generation)
        name = "x" if has_input else "a_input"
        [found] = outputs_of(path, **{name: x})
        close(found, np.maximum(x @ one, 0) @ two)
        assert load(path).model.graph.outputs[0].name == "b"


def test_a_sequential_may_only_say_what_it_was_built_for(tmp_path):
    x, kernel = values(2, 3), values(3, 4)
    config = sequential([dense("a", [], kernel)], build_input_shape=[None, 3])
    path = save_keras(tmp_path / "m.keras", [dense("a", [], kernel)], config)
    close(outputs_of(path, a_input=x)[0], x @ kernel)
    del config["config"]["build_input_shape"]
    config["build_config"] = {"input_shape": [None, 3]}
    path = save_keras(tmp_path / "n.keras", [dense("a", [], kernel)], config)
    close(outputs_of(path, a_input=x)[0], x @ kernel)


def test_an_old_sequential_is_a_bare_list(tmp_path):
    x, kernel = values(2, 3), values(3, 4)
    layers = [dense("a", [], kernel)]
    layers[0].config |= {"batch_input_shape": [None, 3]}
    config = sequential(layers, 2)
    config["config"] = config["config"]["layers"]
    path = save_keras(tmp_path / "m.keras", layers, config, 2)
    close(outputs_of(path, a_input=x)[0], x @ kernel)


def test_weights_are_found_by_the_name_that_keras_3_notes(tmp_path):
    import zipfile

    import h5py

    x, one, two = values(2, 3), values(3, 3), values(3, 3)
    layers = [given("x", (3,)), dense("a", ["x"], one), dense("b", ["a"], two)]
    path = save(tmp_path / "m.keras", layers, ["b"])
    with h5py.File(tmp_path / "swapped.h5", "w") as file:
        for group, name, array in (("dense", "b", two), ("dense_1", "a", one)):
            held = file.create_group(f"layers/{group}/vars")
            held.attrs["name"] = name
            held.create_dataset("0", data=array)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(functional(layers, ["b"])))
        archive.write(tmp_path / "swapped.h5", "model.weights.h5")
    close(outputs_of(path, x=x)[0], x @ one @ two)


def test_an_input_that_is_an_output_is_copied(tmp_path):
    x = values(2, 3)
    layers = [given("x", (3,)), L("ReLU", "r", ["x"]), L("Dropout", "d", ["r"])]
    path = save(tmp_path / "m.keras", layers, ["x", "r", "d"])
    found = outputs_of(path, x=x)
    assert len({value.name for value in load(path).model.graph.outputs}) == 3
    close(found[0], x)
    close(found[1], np.maximum(x, 0))
    close(found[2], np.maximum(x, 0))


def test_open_sizes_are_asked_for(tmp_path):
    layers = [given("x", (None, None, 3)), L("MaxPooling2D", "p", ["x"], {"pool_size": [2, 2]})]
    path = save(tmp_path / "m.keras", layers, ["p"])
    [(rule, message)] = findings(path)
    assert (rule, "[None, None, None, 3]" in message) == ("DLA311", True)
    [error] = load_keras(path).diagnostics.errors
    assert "--set-shape x=1,224,224,3" in error.help
    graph = load(path, shapes={"x": (2, 6, 4, 3)}).model.graph
    assert list(graph.outputs[0].shape) == [2, 3, 2, 3]


@pytest.mark.parametrize(("stored", "batch"), [(3, "batch"), (1, 1)])
def test_the_batch_that_a_model_was_built_with_is_free(tmp_path, stored, batch):
    x, kernel = values(2 if stored > 1 else 1, 3), values(3, 4)
    config = {"batch_shape": [stored, 3]}
    path = save(
        tmp_path / "m.keras",
        [L("InputLayer", "x", config=config), dense("d", ["x"], kernel)],
        ["d"],
    )
    close(outputs_of(path, x=x)[0], x @ kernel)
    assert [str(item) for item in load(path).model.graph.inputs[0].shape] == [str(batch), "3"]


def test_a_layer_of_a_plugin_is_read(tmp_path):
    def twice(layer):
        return [layer.op("Add", [layer.x, layer.x], (None, 3))]

    layers = [given("x", (3,)), L("Twice", "t", ["x"], module="mine", registered="mine>Twice")]
    path = save(tmp_path / "m.keras", layers, ["t"])
    assert findings(path)[0][0] == "DLA102"
    for name in ("Twice", "mine>Twice"):
        assert not findings(path, layers={name: twice})


def test_a_subclassed_model_has_no_layers(tmp_path):
    config = {"module": "mine", "class_name": "MyModel", "config": {"name": "m"}}
    [(rule, message)] = findings(save_keras(tmp_path / "m.keras", [], config))
    assert (rule, message.startswith("MyModel is a model of a class of its own")) == (
        "DLA174",
        True,
    )


@pytest.mark.parametrize(
    ("layers", "outputs", "why"),
    [
        ([L("ReLU", "a", ["b"]), L("ReLU", "b", ["a"])], ["b"], "reads itself"),
        ([L("ReLU", "a", ["a"])], ["a"], "reads itself"),
        ([L("ReLU", "a", ["z"])], ["a"], "no layer 'z'"),
        ([L("ReLU", "a", ["x"])], ["z"], "no layer 'z'"),
        ([L("ReLU", "a", [T("x", 3)])], ["a"], "has no call 3"),
        ([L("ReLU", "a", [T("x", 0, 2)])], ["a"], "result 2 of 'x'"),
        ([L("ReLU", "a", ["x"]), L("ReLU", "a", ["x"])], ["a"], "two layers have the name 'a'"),
        ([L("ReLU", "", ["x"])], ["x"], "a ReLU without a name"),
        ([L("ReLU", "a")], ["a"], "has no call 0"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path, layers, outputs, why):
    path = save_keras(tmp_path / "m.keras", [], functional([given("x", (3,)), *layers], outputs))
    found = findings(path)
    assert {rule for rule, _ in found} == {"DLA175"}
    assert why in found[0][1]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model["layers"].append(3),
        lambda model: model["layers"].append({"class_name": "ReLU"}),
        lambda model: model["layers"].append({"class_name": "ReLU", "config": 3, "name": "q"}),
        lambda model: model["layers"][1].update(inbound_nodes=3),
        lambda model: model["layers"][1].update(inbound_nodes=[3]),
        lambda model: model["layers"][1].update(inbound_nodes=[{"args": 3}]),
        lambda model: model["layers"][1].update(inbound_nodes=[[["x", -1, 0, {}]]]),
        lambda model: model["layers"][1].update(inbound_nodes=[[[3, 0, 0, {}]]]),
        lambda model: model["layers"][1].update(inbound_nodes=[[["x"]]]),
        lambda model: model.update(output_layers=3),
        lambda model: model.update(output_layers=[]),
        lambda model: model.update(output_layers=[["a", 0]]),
        lambda model: model.update(input_layers=[3]),
    ],
)
def test_a_damaged_description_is_one_finding(tmp_path, change):
    config = functional([given("x", (3,)), L("ReLU", "a", ["x"])], ["a"])
    change(config["config"])
    [(rule, _)] = findings(save_keras(tmp_path / "m.keras", [], config))
    assert rule == "DLA175"


def test_models_in_models_are_bounded(tmp_path):
    """A model that calls another twice, which calls another twice, and so on."""
    inner = functional([given("x", (3,)), L("ReLU", "r", ["x"])], ["r"], generation=2)["config"]
    for depth in range(14):
        inner = {
            "name": f"m{depth}",
            "layers": [
                {"class_name": "InputLayer", "name": "x", "config": {}, "inbound_nodes": []},
                {
                    "class_name": "Functional",
                    "name": "f",
                    "config": inner,
                    "inbound_nodes": [[["x", 0, 0, {}]]]
                    + [[["f", call, 0, {}]] for call in range(8)],
                },
            ],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["f", 8, 0]],
        }
    inner["layers"][0]["config"] = {"batch_shape": [None, 3]}
    path = save_keras(tmp_path / "m.keras", [], {"class_name": "Functional", "config": inner})
    [(rule, message)] = findings(path)
    assert (rule, "65536" in message) == ("DLA407", True)


def test_the_depth_of_models_is_bounded(tmp_path):
    inner = functional([given("x", (3,)), L("ReLU", "r", ["x"])], ["r"])
    for _ in range(20):
        inner = {
            "class_name": "Sequential",
            "name": "s",
            "config": {"name": "s", "layers": [inner | {"name": "f"}]},
        }
    [(rule, _)] = findings(save_keras(tmp_path / "m.keras", [], inner))
    assert rule == "DLA175"


def test_values_are_called_after_their_layers(tmp_path):
    kernel = values(3, 3, 3, 4)
    config = {"filters": 4, "kernel_size": [3, 3], "use_bias": False}
    layers = [
        given("x", (6, 6, 3)),
        L("Conv2D", "c", ["x"], config, {"kernel": kernel}),
        L("MaxPooling2D", "p", ["c"], {"pool_size": [2, 2]}),
        L("Flatten", "f", ["p"]),
        L("Softmax", "s", calls=[(["f"], {}), ([T("s")], {})]),
    ]
    graph = load(save(tmp_path / "m.keras", layers, [T("s", 1), "f"])).model.graph
    names = [node.outputs[0].name for node in graph]
    assert names[0] == "x/layout_0_3_1_2"
    assert {"p", "f", "s", "s.1"} <= set(names)
    assert [value.name for value in graph.outputs] == ["s.1", "f"]
    # between the convolution and the pool the map keeps the order of both
    assert [node.op_type for node in graph][:4] == ["Transpose", "Conv", "MaxPool", "Transpose"]
