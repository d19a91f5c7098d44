"""What calls of layers and ends of models hold beside lists of tensors."""

import numpy as np
import pytest

from tests.frontends.keras.files import L, functional, given, load, outputs_of, save_keras
from tests.frontends.keras.test_keras_network import BOTH, close, values


@BOTH
def test_named_inputs_and_outputs_are_in_the_order_of_their_names(tmp_path, generation):
    """Keras sorts them, whatever order the file has: model.inputs and model.outputs are so."""
    layers = [given("a", (3,)), given("b", (3,)), L("ReLU", "r", ["a"]), L("ReLU", "s", ["b"])]
    config = functional(layers, ["r", "s"], generation=generation)
    config["config"]["input_layers"] = {"y": ["a", 0, 0], "x": ["b", 0, 0]}
    config["config"]["output_layers"] = {"q": ["r", 0, 0], "p": ["s", 0, 0]}
    graph = load(save_keras(tmp_path / "m.keras", layers, config, generation)).model.graph
    assert [value.name for value in graph.inputs] == ["b", "a"]
    assert [value.name for value in graph.outputs] == ["s", "r"]


def test_a_constant_may_be_the_first_argument_of_a_function(tmp_path):
    """``tf.subtract(2.0, x)``: Keras 2 writes a constant where a tensor would be."""
    x = values(2, 3)
    layers = [given("x", (3,)), L("TFOpLambda", "f", [["x"]], {"function": "math.subtract"})]
    config = functional(layers, ["f"], generation=2)
    node = [["_CONSTANT_VALUE", -1, 2.0, {"y": ["x", 0, 0]}]]
    config["config"]["layers"][1]["inbound_nodes"] = node
    path = save_keras(tmp_path / "m.keras", layers, config, 2)
    close(outputs_of(path, x=x)[0], 2 - x)


@pytest.mark.parametrize("items", ["items", "config"])
def test_tuples_among_arguments_are_lists(tmp_path, items):
    x, module = values(2, 3, 4), "keras.src.ops.numpy"
    layers = [given("x", (3, 4)), L("Transpose", "f", ["x"], module=module)]
    config = functional(layers, ["f"])
    [node] = config["config"]["layers"][1]["inbound_nodes"]
    node["args"].append({"class_name": "__tuple__", items: [0, 2, 1]})
    path = save_keras(tmp_path / "m.keras", layers, config)
    close(outputs_of(path, x=x)[0], x.transpose(0, 2, 1))
    numpy = {"class_name": "__numpy__", "config": {"value": [1.0, 2.0, 3.0, 4.0]}}
    layers[1].kind = "Multiply"
    config = functional(layers, ["f"])
    [node] = config["config"]["layers"][1]["inbound_nodes"]
    node["args"].append(numpy)
    path = save_keras(tmp_path / "n.keras", layers, config)
    close(outputs_of(path, x=x)[0], x * np.float32([1, 2, 3, 4]))
