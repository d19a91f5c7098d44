"""Networks that qonnx-to-channels-last has turned: every operator back to channels first.

Maps are [N, H, W, C]; the weights of a convolution are [O, kh, kw, I] or, in some files, as ever.
"""

import numpy as np
import pytest
from onnx import helper

from tests.frontends.builders import network, parameters, quant, random
from tests.frontends.qonnx.reference import int_quant
from tests.traps.support import assert_computes, conv2d, grid, hardware

LAST = "qonnx.custom_op.channels_last"
STEP, WEIGHT, RESULT = 2.0**-5, 2.0**-7, 2.0**-3
SHAPE = {"x": [1, 8, 10, 3]}
X = grid(4, 8, 10, 3, step=STEP, seed=9)
WEIGHTS = random(4, 3, 3, 3, seed=1, spread=0.2)
KEPT = int_quant(WEIGHTS, WEIGHT, 0, 8)
CONVOLVED = int_quant(
    conv2d(np.moveaxis(X, -1, 1), KEPT, pads=(1, 1, 1, 1)).astype(np.float32), RESULT, 0, 8
)
"""The quantised result of the first convolution, channels first."""


DEFAULTS = {
    "Conv": {"dilations": [1, 1], "group": 1},
    "MaxPool": {"dilations": [1, 1], "ceil_mode": 0},
    "AveragePool": {},
}


def last(op, inputs, output, **attributes):
    """A channels-last node; windows are written out, as qonnx wants them."""
    if "kernel_shape" in attributes:
        window = {"strides": [1, 1], "pads": [0] * 4, **DEFAULTS[op]}
        attributes = {**window, **attributes}
    return helper.make_node(op, inputs, [output], name=f"{op}_{output}", domain=LAST, **attributes)


def to_last(array):
    return np.moveaxis(array, 1, -1)


def net(*nodes, **more):
    """Quant -> channels-last Conv -> Quant ("m") -> ``nodes``."""
    made = [
        quant("x", "xq"),
        quant("w", "wq", "ws"),
        last("Conv", ["xq", "wq"], "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        quant("c", "m", "rs"),
        *nodes,
    ]
    given = {"w": to_last(WEIGHTS), "ws": np.float32(WEIGHT), "rs": np.float32(RESULT), **more}
    domains = [(LAST, 1), ("qonnx.custom_op.general", 2)]
    return network(made, parameters(scale=STEP) | given, SHAPE, domains=domains)


def quantised(values):
    return int_quant(np.asarray(values, np.float32), RESULT, 0, 8)


def assert_through(tmp_path, model, expected, *, relative=0.0):
    """Every stage and the hardware compute ``expected``."""
    assert_computes(tmp_path, model, expected, relative=relative, x=X)
    got = hardware(tmp_path, model, x=X)
    assert np.array_equal(got.outputs["y"], expected)
    return got


def pooled(maps, reduce, size=2):
    n, c, h, w = maps.shape
    windows = maps.reshape(n, c, h // size, size, w // size, size)
    return reduce(windows.astype(np.float64), axis=(3, 5))


def test_a_residual_sum(tmp_path):
    """Conv, Add and pools around it, all in the turned layout."""
    nodes = [
        quant("v", "vq", "ws"),
        last("Conv", ["m", "vq"], "d", kernel_shape=[1, 1]),
        quant("d", "e", "rs"),
        ("Add", ["m", "e"], ["s_"]),
        quant("s_", "y", "rs"),
    ]
    second = random(4, 4, 1, 1, seed=2, spread=0.4)
    branch = quantised(conv2d(CONVOLVED, int_quant(second, WEIGHT, 0, 8)))
    model = net(*nodes, v=to_last(second))
    assert_through(tmp_path, model, to_last(quantised(CONVOLVED + branch)))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_pools(tmp_path, kind):
    """Windows span axes 1 and 2."""
    nodes = [
        last(kind, ["m"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        quant("p", "y", "rs"),
    ]
    reduce = np.max if kind == "MaxPool" else np.mean
    assert_through(tmp_path, net(*nodes), to_last(quantised(pooled(CONVOLVED, reduce))))


def test_a_concatenation_of_channels(tmp_path):
    """Axis 3 or -1 there is axis 1 here."""
    nodes = [
        last("MaxPool", ["m"], "p", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]),
        ("Concat", ["p", "m"], ["j"], {"axis": 3}),
        quant("v", "vq", "ws"),
        last("Conv", ["j", "vq"], "d", kernel_shape=[1, 1]),
        quant("d", "y", "rs"),
    ]
    windows = np.pad(CONVOLVED, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    largest = np.lib.stride_tricks.sliding_window_view(windows, (3, 3), (2, 3)).max((-1, -2))
    second = random(5, 8, 1, 1, seed=2, spread=0.3)
    joined = np.concatenate([largest, CONVOLVED], axis=1)
    expected = quantised(conv2d(joined, int_quant(second, WEIGHT, 0, 8)))
    assert_through(tmp_path, net(*nodes, v=to_last(second)), to_last(expected))


@pytest.mark.parametrize("form", ["Flatten", "Reshape"])
def test_a_flattened_map_counts_its_channels_fastest(tmp_path, form):
    """The classifier's columns go with [H, W, C]; channels first they are permuted."""
    flatten = ("Flatten", ["m"], ["f"]) if form == "Flatten" else ("Reshape", ["m", "to"], ["f"])
    nodes = [
        flatten,
        quant("v", "vq", "ws"),
        ("MatMul", ["f", "vq"], ["g"]),
        ("Add", ["g", "bias"], ["h"]),
        quant("h", "y", "rs"),
    ]
    second = random(8 * 10 * 4, 5, seed=2, spread=0.1)
    bias = grid(5, step=WEIGHT * RESULT, seed=3)
    product = to_last(CONVOLVED).reshape(4, -1).astype(np.float64) @ int_quant(second, WEIGHT, 0, 8)
    model = net(*nodes, v=second, bias=bias, to=np.array([1, -1]))
    assert_through(tmp_path, model, quantised(product + bias))


@pytest.mark.parametrize("form", ["GlobalAveragePool", "ReduceMean"])
def test_a_global_average(tmp_path, form):
    """Over axes 1 and 2; a Reshape leaves [N, C] either way."""
    if form == "ReduceMean":
        pool = ("ReduceMean", ["m", "space"], ["p"], {"keepdims": 0})
    else:
        pool = last("GlobalAveragePool", ["m"], "p")
    nodes = [
        pool,
        quant("p", "q", "rs"),
        ("Reshape", ["q", "to"], ["f"]),
        quant("v", "vq", "ws"),
        ("Gemm", ["f", "vq"], ["g"], {"transB": 1}),
        quant("g", "y", "rs"),
    ]
    second = random(5, 4, seed=2, spread=0.4)
    mean = quantised(CONVOLVED.astype(np.float64).mean((2, 3)))
    expected = quantised(mean.astype(np.float64) @ int_quant(second, WEIGHT, 0, 8).T)
    model = net(*nodes, v=second, to=np.array([1, 4]), space=np.array([1, 2]))
    assert_through(tmp_path, model, expected)


def test_a_batch_norm_and_a_bias_per_channel(tmp_path):
    """Both count channels on the last axis; gammas may be negative."""
    norm = {
        "g": np.array([1, -2, 0.5, 4], np.float32),
        "h": grid(4, step=2.0**-6, seed=5),
        "mean": np.zeros(4, np.float32),
        "var": np.ones(4, np.float32),
    }
    nodes = [
        quant("v", "vq", "ws"),
        last("Conv", ["m", "vq"], "d", kernel_shape=[1, 1]),
        ("Add", ["d", "bias"], ["e"]),
        last("BatchNormalization", ["e", "g", "h", "mean", "var"], "n", epsilon=0.0),
        ("Relu", ["n"], ["r"]),
        quant("r", "y", "rs"),
    ]
    second, bias = random(4, 4, 1, 1, seed=2, spread=0.3), grid(4, step=2.0**-6, seed=6)
    values = conv2d(CONVOLVED, int_quant(second, WEIGHT, 0, 8), bias)
    values = values * norm["g"].reshape(4, 1, 1) + norm["h"].reshape(4, 1, 1)
    model = net(*nodes, v=to_last(second), bias=bias, **norm)
    got = assert_through(tmp_path, model, to_last(quantised(np.maximum(values, 0))))
    assert set(got.classes("weight").values()) == {"exact"}


def test_padding_in_front_of_a_convolution(tmp_path):
    """Pads of axes 1 and 2 become the convolution's."""
    nodes = [
        ("Pad", ["m", "pads", "z"], ["p"]),
        quant("v", "vq", "ws"),
        last("Conv", ["p", "vq"], "d", kernel_shape=[3, 3], strides=[2, 2]),
        quant("d", "y", "rs"),
    ]
    second = random(4, 4, 3, 3, seed=2, spread=0.2)
    expected = conv2d(CONVOLVED, int_quant(second, WEIGHT, 0, 8), stride=2, pads=(0, 0, 1, 1))
    pads = np.array([0, 0, 0, 0, 0, 1, 1, 0])
    model = net(*nodes, v=to_last(second), pads=pads)
    assert_through(tmp_path, model, to_last(quantised(expected)))


def test_a_quantiser_per_channel_of_the_weights_turns_with_them(tmp_path):
    """[O, 1, 1, 1] fits either layout; the integers must be those of the right channel."""
    steps = np.array([2.0**-7, 2.0**-6, 2.0**-5, 2.0**-8], np.float32).reshape(4, 1, 1, 1)
    kept = int_quant(WEIGHTS, steps, 0, 8)
    expected = quantised(conv2d(np.moveaxis(X, -1, 1), kept, pads=(1, 1, 1, 1)))
    model = net(("Identity", ["m"], ["y"]), ws=steps)
    got = assert_through(tmp_path, model, to_last(expected))
    assert got.classes("weight") == {"Conv_c/weights": "exact"}


def test_upsampling_is_read_right_and_copies_integers(tmp_path):
    """Resize keeps its layout: scales of 1, 2, 2, 1."""
    nearest = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    model = net(
        ("Resize", ["m", "", "scales"], ["y"], nearest), scales=np.array([1, 2, 2, 1], np.float32)
    )
    expected = to_last(CONVOLVED).repeat(2, axis=1).repeat(2, axis=2)
    got = assert_through(tmp_path, model, expected)
    assert got.rewrites("resize_nearest")


def test_the_report_says_in_which_layout_the_host_feeds(tmp_path):
    """Inputs and outputs of the source's layout stay so."""
    got = hardware(tmp_path, net(("Identity", ["m"], ["y"])), x=X)
    (fed,), (read,) = (got.report["io"][end] for end in ("inputs", "outputs"))
    assert (fed["layout"], fed["shape"]) == ("NHWC", [1, 8, 10, 3])
    assert (read["layout"], read["shape"]) == ("NHWC", [1, 8, 10, 4])
