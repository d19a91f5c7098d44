import numpy as np
import pytest
from onnx import helper

from tests.frontends.builders import (
    QONNX,
    execute,
    load,
    network,
    onnxruntime_outputs,
    parameters,
    quant,
    random,
    rules,
)

DOMAIN = "qonnx.custom_op.channels_last"


def last(op, inputs, **attributes):
    return helper.make_node(op, inputs, ["y"], name="layer", domain=DOMAIN, **attributes)


def to_last(array):
    return np.moveaxis(array, 1, -1)


def both(tmp_path, op, shape, constants, attributes, stored=None):
    """The result of the channels-last file, and of the standard operator on turned maps."""
    x = random(*shape)
    names = list(constants)
    plain = network([(op, ["x", *names], ["y"], attributes)], constants, {"x": list(shape)})
    (expected,) = onnxruntime_outputs(plain, x=x)
    node = last(op, ["x", *names], **attributes)
    turned = to_last(x)
    inputs = {"x": list(turned.shape)}
    model = network([node], stored or constants, inputs, domains=[(DOMAIN, 1), (QONNX, 2)])
    (got,) = execute(load(tmp_path, model), x=turned)
    return got, to_last(expected)


@pytest.mark.parametrize("layout", ["OHWI", "OIHW"])
@pytest.mark.parametrize("bias", [False, True])
def test_conv(tmp_path, layout, bias):
    weights = random(4, 2, 3, 5, seed=1)
    constants = {"w": weights} | ({"bias": random(4, seed=2)} if bias else {})
    stored = constants | ({"w": to_last(weights)} if layout == "OHWI" else {})
    attributes = {"kernel_shape": [3, 5], "strides": [2, 1], "pads": [1, 0, 1, 2], "group": 2}
    got, expected = both(tmp_path, "Conv", (1, 4, 8, 9), constants, attributes, stored)
    assert np.array_equal(got, expected)


def test_conv_of_one_dimension(tmp_path):
    weights = random(4, 3, 5, seed=1)
    attributes = {"kernel_shape": [5]}
    stored = {"w": to_last(weights)}
    got, expected = both(tmp_path, "Conv", (1, 3, 16), {"w": weights}, attributes, stored)
    assert np.array_equal(got, expected)


def test_depthwise_conv_of_as_many_channels_as_its_kernel_is_wide(tmp_path):
    """[3, 3, 3, 1] could be read both ways but for the kernel's shape."""
    weights = random(3, 1, 3, 3, seed=1)
    attributes = {"kernel_shape": [3, 3], "group": 3}
    stored = {"w": to_last(weights)}
    got, expected = both(tmp_path, "Conv", (1, 3, 8, 8), {"w": weights}, attributes, stored)
    assert np.array_equal(got, expected)


def test_max_pool(tmp_path):
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]}
    got, expected = both(tmp_path, "MaxPool", (1, 3, 8, 9), {}, attributes)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 3, 8), (1, 3)])
def test_batch_normalization_of_any_rank(tmp_path, shape):
    constants = {
        "gamma": random(3, seed=1),
        "beta": random(3, seed=2),
        "mean": random(3, seed=3),
        "var": np.abs(random(3, seed=4)) + 0.1,
    }
    got, expected = both(tmp_path, "BatchNormalization", shape, constants, {"epsilon": 1e-3})
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("declared", [True, False])
def test_a_chain_with_and_without_declared_shapes(tmp_path, declared):
    """The batch norm's rank follows from that of the pool, through a quantiser."""
    constants = {name: np.full(2, 0.5, np.float32) for name in ("g", "a", "m", "v")}
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], name="p", domain=DOMAIN, kernel_shape=[2, 2]),
        quant("p", "q"),
        ("Relu", ["q"], ["r"]),
        last("BatchNormalization", ["r", "g", "a", "m", "v"]),
    ]
    model = network(
        nodes, constants | parameters(), {"x": [1, 4, 4, 2]}, domains=[(DOMAIN, 1)],
        value_info=[("p", [1, 3, 3, 2])] if declared else (),
    )  # fmt: skip
    x = random(1, 4, 4, 2)
    (y,) = execute(load(tmp_path, model), x=x)
    pooled = np.max([x[:, i : i + 3, j : j + 3] for i in (0, 1) for j in (0, 1)], axis=0)
    rounded = np.maximum(np.rint(pooled * 4) / 4, 0)
    assert np.allclose(y, (rounded - 0.5) / np.sqrt(0.5 + 1e-5) * 0.5 + 0.5, rtol=1e-5)


def test_an_input_of_unknown_rank_is_refused(tmp_path):
    constants = {name: np.ones(2, np.float32) for name in ("g", "a", "m", "v")}
    node = last("BatchNormalization", ["x", "g", "a", "m", "v"])
    model = network([node], constants, {"x": None}, domains=[(DOMAIN, 1)])
    assert rules(load(tmp_path, model).diagnostics) == ["DLA116"]


def test_quantised_weights_turn_with_their_scales(tmp_path):
    weights = random(4, 3, 3, 2, seed=1)  # [O, kh, kw, I]
    scale = np.array([0.1, 0.2, 0.3, 0.4], np.float32).reshape(4, 1, 1, 1)
    nodes = [quant("w", "q"), last("Conv", ["x", "q"], kernel_shape=[3, 3])]
    model = network(
        nodes, {"w": weights, **parameters(scale=scale)}, {"x": [1, 6, 6, 2]}, domains=()
    )
    x = random(1, 6, 6, 2, seed=2)
    (y,) = execute(load(tmp_path, model), x=x)
    rounded = np.clip(np.round(weights / scale), -128, 127) * scale
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))  # [1, h, w, I, kh, kw]
    expected = np.einsum("bhwcij,oijc->bhwo", windows.astype(np.float64), rounded)
    assert np.allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_weights_that_fit_no_layout_are_refused(tmp_path):
    node = last("Conv", ["x", "w"], kernel_shape=[3, 5])
    model = network([node], {"w": random(4, 2, 4, 7)}, {"x": [1, 8, 8, 2]}, domains=())
    assert rules(load(tmp_path, model).diagnostics) == ["DLA116"]


@pytest.mark.parametrize("name", ["kernel_shape", "pads", "strides"])
def test_attributes_of_another_type_are_refused(tmp_path, name):
    attributes = {"kernel_shape": [3, 3], name: 1.5}
    node = last("Conv", ["x", "w"], **attributes)
    model = network([node], {"w": random(4, 3, 3, 2)}, {"x": [1, 8, 8, 2]}, domains=())
    assert rules(load(tmp_path, model).diagnostics) == ["DLA108"]
