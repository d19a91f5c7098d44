"""Activations: the same name means other functions in other places and versions."""

import json
import math

import numpy as np
import pytest

from tests.frontends.keras.files import (
    L,
    T,
    findings,
    functional,
    given,
    one_layer,
    outputs_of,
    save,
    save_h5,
)

X = np.linspace(-8, 8, 65, dtype=np.float32).reshape(1, 65)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def erf(x):
    return np.vectorize(math.erf)(x)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (None, X),
        ("linear", X),
        ("relu", np.maximum(X, 0)),
        ("relu6", np.clip(X, 0, 6)),
        ("leaky_relu", np.where(X > 0, X, 0.2 * X)),
        ("elu", np.where(X > 0, X, np.expm1(X))),
        ("selu", 1.05070098 * np.where(X > 0, X, 1.67326324 * np.expm1(X))),
        ("sigmoid", sigmoid(X)),
        ("tanh", np.tanh(X)),
        ("softplus", np.log1p(np.exp(X))),
        ("softsign", X / (1 + abs(X))),
        ("exponential", np.exp(X)),
        ("swish", X * sigmoid(X)),
        ("silu", X * sigmoid(X)),
        ("hard_silu", X * np.clip(X + 3, 0, 6) / 6),
        ("hard_swish", X * np.clip(X + 3, 0, 6) / 6),
        ("mish", X * np.tanh(np.log1p(np.exp(X)))),
        ("gelu", X / 2 * (1 + erf(X / np.sqrt(2)))),
        ("softmax", np.exp(X) / np.exp(X).sum()),
        ("log_softmax", X - np.log(np.exp(X).sum())),
        ({"class_name": "LeakyReLU", "config": {"negative_slope": 0.5}}, np.where(X > 0, X, X / 2)),
        ({"class_name": "LeakyReLU", "config": {}}, np.where(X > 0, X, 0.3 * X)),
        ({"class_name": "ReLU", "config": {"max_value": 2.0}}, np.clip(X, 0, 2)),
        ({"class_name": "function", "config": "tanh"}, np.tanh(X)),
    ],
)
@pytest.mark.parametrize("generation", [2, 3])
def test_a_function_by_its_name(tmp_path, name, wanted, generation):
    layer = L("Activation", "a", config={"activation": name})
    close(one_layer(tmp_path, layer, X, generation=generation), wanted)


@pytest.mark.parametrize(
    ("generation", "wanted"), [(2, np.clip(0.2 * X + 0.5, 0, 1)), (3, np.clip(X / 6 + 0.5, 0, 1))]
)
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_hard_sigmoid_is_another_function_since_keras_3(tmp_path, generation, wanted, ending):
    layer = L("Activation", "a", config={"activation": "hard_sigmoid"})
    close(one_layer(tmp_path, layer, X, generation=generation, ending=ending), wanted)


@pytest.mark.parametrize(
    ("generation", "wanted"), [(2, np.clip(0.2 * X + 0.5, 0, 1)), (3, np.clip(X / 6 + 0.5, 0, 1))]
)
def test_a_description_without_a_version_is_told_by_its_shapes(tmp_path, generation, wanted):
    """``to_json`` of Keras 2 before 2.3 notes no version; its inputs have a batch_input_shape."""
    layers = [given("x", (65,)), L("Activation", "a", ["x"], {"activation": "hard_sigmoid"})]
    save_h5(tmp_path / "w.h5", layers, functional(layers, ["a"]))
    described = functional(layers, ["a"], generation=generation)
    (tmp_path / "m.json").write_text(json.dumps(described))
    [found] = outputs_of(tmp_path / "m.json", tmp_path / "w.h5", x=X)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_softmax_is_over_channels_by_default(tmp_path, name):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    wanted = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    wanted = np.log(wanted) if name == "log_softmax" else wanted
    found = one_layer(tmp_path, L("Activation", "a", config={"activation": name}), x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    found = one_layer(tmp_path, L("Softmax", "a", config={"axis": 1}), x)
    np.testing.assert_allclose(found, np.exp(x) / np.exp(x).sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, np.maximum(X, 0)),
        ({"max_value": 6.0}, np.clip(X, 0, 6)),
        ({"negative_slope": 0.25}, np.where(X > 0, X, X / 4)),
        ({"negative_slope": [0.25]}, np.where(X > 0, X, X / 4)),
        ({"max_value": 2.0, "negative_slope": 0.5}, np.where(X > 0, np.minimum(X, 2), X / 2)),
        ({"threshold": 1.5}, np.where(X > 1.5, X, 0)),
        ({"threshold": 1.0, "max_value": 4.0}, np.where(X > 1, np.minimum(X, 4), 0)),
        ({"threshold": 1.0, "negative_slope": 0.5}, np.where(X > 1, X, (X - 1) / 2)),
        (
            {"threshold": 1.0, "negative_slope": 0.5, "max_value": 3.0},
            np.where(X > 1, np.minimum(X, 3), (X - 1) / 2),
        ),
        ({"threshold": -2.0}, np.where(X > -2, X, 0)),
    ],
)
def test_a_relu_may_have_a_slope_a_threshold_and_a_largest_value(tmp_path, config, wanted):
    close(one_layer(tmp_path, L("ReLU", "a", config=config), X), wanted)


@pytest.mark.parametrize(
    ("config", "slope"),
    [
        ({}, 0.3),
        ({"alpha": 0.125}, 0.125),
        ({"negative_slope": 0.5}, 0.5),
        ({"alpha": {"class_name": "__numpy__", "config": {"value": 0.25}}}, 0.25),
    ],
)
def test_the_slope_of_a_leaky_layer(tmp_path, config, slope):
    layer = L("LeakyReLU", "a", config=config)
    close(one_layer(tmp_path, layer, X), np.where(X > 0, X, slope * X))


def test_layers_that_are_functions(tmp_path):
    close(
        one_layer(tmp_path, L("ELU", "a", config={"alpha": 0.5}), X),
        np.where(X > 0, X, np.expm1(X) / 2),
    )
    layer = L("ThresholdedReLU", "a", config={"theta": 2.0})
    close(one_layer(tmp_path, layer, X), np.where(X > 2, X, 0))
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4) / 4
    e = np.exp(x)
    for axis in (1, 2, -1):
        found = one_layer(tmp_path, L("Softmax", "a", config={"axis": axis}), x)
        close(found, e / e.sum(axis, keepdims=True))


@pytest.mark.parametrize(
    ("axes", "shape"), [(None, (3, 2, 4)), ([1, 2], (1, 1, 4)), ([1], (1, 2, 4))]
)
def test_slopes_of_prelu_may_be_shared(tmp_path, axes, shape):
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 4)).astype(np.float32)
    slope = np.linspace(0.1, 0.9, math.prod(shape), dtype=np.float32).reshape(shape)
    layer = L("PReLU", "a", config={"shared_axes": axes}, weights={"alpha": slope})
    close(one_layer(tmp_path, layer, x), np.where(x > 0, x, x * slope))


def test_an_activation_within_a_layer_comes_last(tmp_path):
    kernel = -np.eye(65, dtype=np.float32)
    config = {"units": 65, "activation": "relu6", "use_bias": False}
    layer = L("Dense", "d", config=config, weights={"kernel": kernel})
    close(one_layer(tmp_path, layer, X), np.clip(-X, 0, 6))


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("Relu", np.maximum(X, 0)),
        ("HardSilu", X * np.clip(X + 3, 0, 6) / 6),
        ("Silu", X * sigmoid(X)),
        ("Tanh", np.tanh(X)),
        ("Negative", -X),
        ("Absolute", abs(X)),
        ("Square", X * X),
    ],
)
def test_operations_of_keras_are_layers_without_weights(tmp_path, kind, wanted):
    layers = [given("x", (65,)), L(kind, "o", ["x"], module="keras.src.ops.nn")]
    for ending in (".keras", ".h5"):
        [found] = outputs_of(save(tmp_path / f"m{ending}", layers, ["o"]), x=X)
        close(found, wanted)


def test_an_operation_approximates_gelu_if_it_says_so(tmp_path):
    config = {"approximate": True}
    layers = [given("x", (65,)), L("Gelu", "o", ["x"], config, module="keras.src.ops.nn")]
    inner = np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)
    [found] = outputs_of(save(tmp_path / "m.keras", layers, ["o"]), x=X)
    close(found, X / 2 * (1 + np.tanh(inner)))


@pytest.mark.parametrize(
    ("function", "keywords", "wanted"),
    [
        ("nn.relu6", {}, np.clip(X, 0, 6)),
        ("nn.relu", {"name": None}, np.maximum(X, 0)),
        ("nn.leaky_relu", {"alpha": 0.5}, np.where(X > 0, X, X / 2)),
        ("nn.leaky_relu", {}, np.where(X > 0, X, 0.2 * X)),
        ("math.sigmoid", {}, sigmoid(X)),
        ("__operators__.add", {"y": 1.5}, X + 1.5),
        ("__operators__.add", {"y": T("x")}, 2 * X),
        ("math.multiply", {"y": -2.0}, -2 * X),
        ("math.subtract", {"y": 3.0}, X - 3),
        ("math.truediv", {"y": 4.0}, X / 4),
        ("clip_by_value", {"clip_value_min": -1.0, "clip_value_max": 2.0}, np.clip(X, -1, 2)),
        ("math.reduce_mean", {"axis": [1], "keepdims": True}, X.mean(1, keepdims=True)),
    ],
)
def test_functions_of_tensorflow_take_tensors_as_keywords(tmp_path, function, keywords, wanted):
    layer = L("TFOpLambda", "f", config={"function": function}, calls=[(["x"], keywords)])
    layers = [given("x", (65,)), layer]
    for ending in (".keras", ".h5"):
        [found] = outputs_of(save(tmp_path / f"m{ending}", layers, ["f"], 2), x=X)
        close(found, wanted)


@pytest.mark.parametrize(
    ("layer", "rule", "why"),
    [
        (L("Activation", "a", config={"activation": "my_relu"}), "DLA102", "'my_relu'"),
        (L("Activation", "a", config={"activation": 3}), "DLA108", "activation 3"),
        (L("TFOpLambda", "a", config={"function": "io.read_file"}), "DLA102", "tf.io.read_file"),
        (L("LeakyReLU", "a", config={"alpha": "steep"}), "DLA108", "no number"),
        (L("ReLU", "a", config={"max_value": -1.0}), "DLA108", "max_value -1"),
        (L("Softmax", "a", config={"axis": [1, 2]}), "DLA178", "several axes"),
        (L("Softmax", "a", config={"axis": 5}), "DLA108", "axis 5 of 2 dimensions"),
    ],
)
def test_what_is_no_activation_is_refused(tmp_path, layer, rule, why):
    layer.reads = ["x"]
    [(found, message)] = findings(save(tmp_path / "m.keras", [given("x", (65,)), layer], ["a"]))
    assert found == rule
    assert why in message


def test_a_softmax_with_a_mask_is_refused(tmp_path):
    layers = [
        given("x", (4,)),
        given("m", (4,)),
        L("Softmax", "s", calls=[(["x"], {"mask": T("m")})]),
    ]
    [(rule, message)] = findings(save(tmp_path / "m.keras", layers, ["s"]))
    assert (rule, "reads one tensor, not 2" in message) == ("DLA108", True)
