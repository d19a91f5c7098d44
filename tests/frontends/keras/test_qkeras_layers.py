"""Layers of QKeras: what is quantised, in which order, and where the parameters lie."""

import numpy as np
import pytest

from dlaconv.ir import dialect
from tests.frontends.keras import reference
from tests.frontends.keras.files import (
    L,
    findings,
    given,
    load,
    one_layer,
    save,
)

RNG = np.random.default_rng(19)
FIXED = {"class_name": "quantized_bits", "config": {"bits": 8, "integer": 0, "alpha": 1.0}}
WIDE = {"class_name": "quantized_bits", "config": {"bits": 16, "integer": 4, "alpha": 1.0}}
FILES = pytest.mark.parametrize("ending", [".keras", ".h5"])


def values(*shape):
    return (RNG.standard_normal(shape) / 2).astype(np.float32)


def fixed(x, bits=8, integer=0):
    m = 2 ** (bits - 1)
    return np.clip(np.rint(x * m / 2**integer), -m, m - 1) / m * 2**integer


def qkeras(kind, name="q", config=None, weights=None, reads=()):
    return L(kind, name, list(reads), config or {}, weights or {}, module="qkeras.qlayers")


def close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@FILES
@pytest.mark.parametrize("generation", [2, 3])
def test_kernel_bias_and_activation_have_quantisers_of_their_own(tmp_path, ending, generation):
    x, kernel, bias = values(2, 5, 5, 3), values(3, 3, 3, 4), values(4) * 4
    config = {
        "filters": 4,
        "kernel_size": [3, 3],
        "padding": "same",
        "kernel_quantizer": FIXED,
        "bias_quantizer": WIDE,
        "activation": "quantized_relu(6,1)"
        if generation == 2
        else {
            "class_name": "quantized_relu",
            "config": {"bits": 6, "integer": 1},
        },
    }
    layer = qkeras("QConv2D", "q", config, {"kernel": kernel, "bias": bias})
    found = one_layer(tmp_path, layer, x, ending=ending, generation=generation)
    inner = reference.convolution(x, fixed(kernel), (1, 1), (1, 1), "same") + fixed(bias, 16, 4)
    wanted = np.clip(np.rint(inner * 32), 0, 63) / 32
    close(found, wanted)


def test_weights_reach_the_graph_as_the_integers_that_were_trained(tmp_path):
    kernel = values(3, 3, 3, 4)
    config = {"filters": 4, "kernel_size": [3, 3], "use_bias": False, "kernel_quantizer": FIXED}
    layer = qkeras("QConv2D", "q", config, {"kernel": kernel}, ["x"])
    model = load(save(tmp_path / "m.keras", [given("x", (5, 5, 3)), layer], ["q"])).model
    [node] = [node for node in model.graph if dialect.is_dequantize(node)]
    integers = dialect.array_of(node.inputs[0])
    assert integers.dtype == np.int8
    wanted = np.clip(np.rint(kernel * 128), -128, 127).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(integers, wanted)
    assert dialect.step_of(node) == np.float32(2**-7)


def test_scales_by_channel_turn_with_the_kernel(tmp_path):
    x = values(2, 5, 5, 3)
    kernel = values(3, 3, 3, 4) * np.float32([0.1, 1, 3, 10])
    auto = {"class_name": "quantized_bits", "config": {"bits": 8, "alpha": "auto"}}
    config = {"filters": 4, "kernel_size": [3, 3], "use_bias": False, "kernel_quantizer": auto}
    layer = qkeras("QConv2D", "q", config, {"kernel": kernel})
    step = abs(kernel).max((0, 1, 2)) / 127
    rounded = np.sign(kernel) * np.floor(abs(kernel) / step + 0.5) * step
    wanted = reference.convolution(x, rounded, (1, 1), (1, 1), "valid")
    np.testing.assert_allclose(one_layer(tmp_path, layer, x), wanted, rtol=1e-4, atol=1e-4)


def test_dense_and_depthwise_kernels(tmp_path):
    x, kernel = values(3, 6), values(6, 2)
    config = {"units": 2, "use_bias": False, "kernel_quantizer": FIXED, "activation": "linear"}
    close(
        one_layer(tmp_path, qkeras("QDense", "q", config, {"kernel": kernel}), x), x @ fixed(kernel)
    )
    x, kernel, bias = values(2, 5, 5, 3), values(3, 3, 3, 1), values(3)
    config = {
        "kernel_size": [3, 3],
        "padding": "same",
        "depthwise_quantizer": FIXED,
        "bias_quantizer": None,
    }
    layer = qkeras("QDepthwiseConv2D", "q", config, {"depthwise_kernel": kernel, "bias": bias})
    wanted = reference.depthwise(x, fixed(kernel), (1, 1), (1, 1), "same") + bias
    close(one_layer(tmp_path, layer, x), wanted)


@pytest.mark.parametrize("kind", ["QConv2D", "QDepthwiseConv2D", "QDense"])
def test_no_alpha_is_a_power_of_two_for_kernels_and_one_for_biases(tmp_path, kind):
    """google/qkeras#60: kernels get a scale by channel, depthwise ones one for all."""
    plain = {"class_name": "quantized_bits", "config": {"bits": 4, "integer": 0, "alpha": None}}
    name = "depthwise" if kind == "QDepthwiseConv2D" else "kernel"
    shape = {"QConv2D": (3, 3, 3, 3), "QDepthwiseConv2D": (3, 3, 3, 1), "QDense": (48, 3)}[kind]
    config = {"filters": 3, "units": 3, "kernel_size": [3, 3]}
    config |= {f"{name}_quantizer": plain, "bias_quantizer": plain}
    kernel, bias = values(*shape) * 2, np.float32([0.3, -2.0, 0.07])
    weights = {"depthwise_kernel" if name == "depthwise" else "kernel": kernel, "bias": bias}
    x = values(2, 48) if kind == "QDense" else values(2, 5, 5, 3)
    axes = tuple(range(kernel.ndim - 1))
    scale = 2.0 ** np.rint(np.log2(abs(kernel).max(axes, keepdims=True) * 2 / 14))
    for _ in range(6):
        z = np.sign(kernel) * np.minimum(np.floor(abs(kernel) / scale + 0.5), 7)
        rounded = scale * z
        found = (kernel * z).mean(axes, keepdims=True) / (z * z).mean(axes, keepdims=True)
        scale = 2.0 ** np.rint(np.log2(found))
    sums = {
        "QConv2D": lambda: reference.convolution(x, rounded, (1, 1), (1, 1), "valid"),
        "QDepthwiseConv2D": lambda: reference.depthwise(x, rounded, (1, 1), (1, 1), "valid"),
        "QDense": lambda: x @ rounded,
    }[kind]()
    wanted = sums + np.clip(np.rint(bias * 8), -8, 7) / 8
    np.testing.assert_allclose(
        one_layer(tmp_path, qkeras(kind, "q", config, weights), x), wanted, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        ("quantized_bits(4,1,alpha=1)", lambda x: np.clip(np.rint(x * 4), -8, 7) / 4),
        ("quantized_relu(4,1)", lambda x: np.clip(np.rint(x * 8), 0, 15) / 8),
        (
            "quantized_relu(5,1,negative_slope=0.25)",
            lambda x: np.clip(np.rint(np.where(x < 0, x / 4, x) * 8), -4, 15) / 8,
        ),
        ("quantized_tanh(4)", lambda x: np.clip(np.rint(x * 8), -8, 7) / 8),
        (
            "quantized_tanh(4,use_real_tanh=True)",
            lambda x: np.clip(np.rint(np.tanh(x) * 8), -8, 7) / 8,
        ),
        (
            "quantized_sigmoid(4)",
            lambda x: np.clip(np.rint(np.clip(x / 2 + 0.5, 0, 1) * 16), 0, 15) / 16,
        ),
        ("binary(alpha=1)", lambda x: np.where(x < 0, -1, 1)),
        ("quantized_bits(1,0,alpha=0.5)", lambda x: np.where(x < 0, -0.5, 0.5)),
        ("quantized_bits(4,0,alpha=3.0)", lambda x: np.clip(np.rint(x * 8), -8, 7) / 8 * 3),
        ("relu", lambda x: np.maximum(x, 0)),
        ("hard_tanh", lambda x: np.clip(x, -1, 1)),
        ("hard_sigmoid", lambda x: np.clip(x / 2 + 0.5, 0, 1)),
    ],
)
@FILES
def test_activations_are_text_in_one_version_and_objects_in_another(
    tmp_path, function, wanted, ending
):
    x = np.linspace(-3, 3, 97, dtype=np.float32).reshape(1, 97)
    layer = qkeras("QActivation", "q", {"activation": function})
    close(one_layer(tmp_path, layer, x, generation=2, ending=ending), np.float32(wanted(x)))


def test_a_quantiser_may_stand_in_a_layer_of_keras(tmp_path):
    x = values(2, 6)
    layer = L("Activation", "a", config={"activation": FIXED})
    close(one_layer(tmp_path, layer, x), fixed(x))


def test_average_pools_may_multiply_by_a_rounded_share(tmp_path):
    x = values(2, 6, 6, 4)
    config = {"pool_size": [3, 3], "padding": "valid", "average_quantizer": "quantized_bits(6,0,1)"}
    mean = reference.average(x, (3, 3), (3, 3), "valid")
    close(one_layer(tmp_path, qkeras("QAveragePooling2D", "q", config), x), mean * 9 * 4 / 32)
    config = {"average_quantizer": None, "activation": "quantized_bits(8,1,1)"}
    found = one_layer(tmp_path, qkeras("QGlobalAveragePooling2D", "q", config), x)
    close(found, np.clip(np.rint(x.mean((1, 2)) * 64), -127, 127) / 64)


def test_padding_would_count_in_a_mean_by_a_rounded_share(tmp_path):
    """QKeras multiplies every sum by one share, and Keras divides by the elements there are."""
    config = {"pool_size": [3, 3], "padding": "same", "average_quantizer": FIXED}
    layers = [given("x", (6, 6, 4)), qkeras("QAveragePooling2D", "q", config, reads=["x"])]
    [(rule, message)] = findings(save(tmp_path / "m.keras", layers, ["q"]))
    assert (rule, "with padding" in message) == ("DLA178", True)


def test_three_libraries_with_one_name_are_told_apart():
    from dlaconv.frontends.keras.dialects.detection import dialect_of
    from dlaconv.frontends.keras.network import Layer

    def library(module, **config):
        return dialect_of(Layer("q", "QConv2D", module, "", config, ("q",)))

    assert library("hgq.layers.conv", kernel_quantizer=None) == "HGQ2"
    assert library("", kq_conf={}, iq_conf={}) == "HGQ2"
    assert library("qkeras.qconvolutional", kernel_quantizer=None) == "QKeras"
    assert library("", kernel_quantizer=FIXED) == "QKeras"
    assert library("mine") == ""


@pytest.mark.parametrize(
    ("layer", "rule", "why"),
    [
        (
            qkeras("QActivation", config={"activation": "quantized_relu_po2(4)"}),
            "DLA178",
            "no grid",
        ),
        (
            qkeras("QActivation", config={"activation": "quantized_bits(8,0,alpha='auto')"}),
            "DLA178",
            "depends on the data",
        ),
        (
            qkeras("QActivation", config={"activation": "quantized_bits(f())"}),
            "DLA178",
            "no quantiser",
        ),
        (qkeras("QAdaptiveActivation"), "DLA180", "QAdaptiveActivation of QKeras"),
        (
            qkeras("QDense", config={"units": 2, "kernel_quantizer": None, "mask": [[1]]}),
            "DLA178",
            "a kernel with a mask",
        ),
        (
            qkeras("QDense", config={"units": 2, "kernel_quantizer": {"class_name": "mine"}}),
            "DLA178",
            "no quantiser of QKeras",
        ),
        (
            qkeras("QBatchNormalization", config={"inverse_quantizer": FIXED}),
            "DLA178",
            "inverse_quantizer",
        ),
    ],
)
def test_what_has_no_integers_is_refused(tmp_path, layer, rule, why):
    layer.reads = ["x"]
    layer.weights = {"kernel": values(4, 2), "bias": values(2)}
    [(found, message)] = findings(save(tmp_path / "m.keras", [given("x", (4,)), layer], ["q"]))
    assert found == rule
    assert why in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    po2 = {"class_name": "quantized_po2", "config": {"bits": 4}}
    auto = {"class_name": "quantized_bits", "config": {"bits": 8, "alpha": "auto"}}
    for quantiser in (FIXED, po2, auto):
        kernel = values(4, 2)
        kernel[0, 0] = value
        config = {"units": 2, "use_bias": False, "kernel_quantizer": quantiser}
        layer = qkeras("QDense", "q", config, {"kernel": kernel}, ["x"])
        path = save(tmp_path / "m.keras", [given("x", (4,)), layer], ["q"])
        assert findings(path) == [("DLA108", "weights that are not finite")]
