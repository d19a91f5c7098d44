"""Weights as files have them: chains of constants, shared, repeated, dead, of few bits, shifted."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.frontends.builders import QONNX, network, parameters, quant, random
from tests.frontends.qonnx.reference import int_quant
from tests.traps.support import IMAGE, assert_computes, conv2d, grid, hardware, refusals

STEP, RESULT = 2.0**-5, 2.0**-3


def convolution(*nodes, weights="wq", bias=(), **attributes):
    """Quant -> Conv -> Quant around whatever makes the weights."""
    conv = ("Conv", ["xq", weights, *bias], ["c"], attributes)
    return [quant("x", "xq"), *nodes, conv, quant("c", "y", "ys")]


def constants(**more):
    return parameters(scale=STEP) | {"ys": np.float32(RESULT)} | more


def assert_kept(tmp_path, model, x, weights, bias=None, **window):
    """The hardware has the weights' integers, and computes what they say."""
    got = hardware(tmp_path, model, x=x)
    summed = conv2d(x, weights, bias, **window).astype(np.float32)
    assert got.classes("weight") == {"conv_c/weights": "exact"}
    assert np.array_equal(got.outputs["y"], int_quant(summed, RESULT, 0, 8))
    return got


X = grid(4, 3, 8, 8, step=STEP, seed=9)


def test_weights_behind_constant_cast_and_slice(tmp_path):
    """An export without optimisation takes the weights apart and puts them together again."""
    weights = random(4, 3, 3, 3, seed=1, spread=0.2)
    whole = np.concatenate([weights, random(2, 3, 3, 3)]).astype(np.float64)
    nodes = [
        helper.make_node("Constant", [], ["w0"], value=numpy_helper.from_array(whole)),
        ("Cast", ["w0"], ["w1"], {"to": 1}),
        ("Slice", ["w1", "from", "to", "axis"], ["w2"]),
        ("Identity", ["w2"], ["w"]),
        quant("w", "wq", "ws", narrow=1),
    ]
    ends = {"from": np.array([0]), "to": np.array([4]), "axis": np.array([0])}
    model = network(convolution(*nodes), constants(ws=np.float32(2.0**-7), **ends), IMAGE)
    assert_kept(tmp_path, model, X, int_quant(weights, 2.0**-7, 0, 8, narrow=1))


def test_constants_repeated_as_graph_inputs_are_no_inputs(tmp_path):
    """Both Brevitas exporters keep initializers as inputs; the host feeds x alone."""
    weights = random(4, 3, 3, 3, seed=1, spread=0.2)
    model = network(
        convolution(quant("w", "wq", "ws", narrow=1)),
        constants(w=weights, ws=np.float32(2.0**-7)),
        IMAGE,
        constants_as_inputs=True,
    )
    got = assert_kept(tmp_path, model, X, int_quant(weights, 2.0**-7, 0, 8, narrow=1))
    assert [port["name"] for port in got.report["io"]["inputs"]] == ["x"]


def test_one_constant_with_many_roles_is_changed_in_none(tmp_path):
    """Exporters merge equal constants: a scale, batch norm gamma and a zero point share a name.

    What is folded here changes gamma and the bias; neither may reach the others.
    """
    weights = random(4, 3, 3, 3, seed=1, spread=0.2)
    nodes = [
        quant("x", "xq", "two"),
        quant("w", "wq", "c1.bias_quant.scale", "nought", narrow=1),
        ("Conv", ["xq", "wq", "noughts"], ["c"]),
        (
            "BatchNormalization",
            ["c", "ones", "noughts", "noughts", "ones"],
            ["n"],
            {"epsilon": 0.0},
        ),
        ("Clip", ["n", "nought", ""], ["r"]),
        quant("r", "m", "c1.bias_quant.scale", "nought"),
        ("Conv", ["m", "v"], ["d"], {"group": 4}),
        ("Mul", ["d", "ones4"], ["e"]),
        quant("e", "y", "c1.bias_quant.scale", "nought"),
    ]
    shared = {
        "two": np.float32(2.0**-5),
        "z": np.float32(0),
        "nought": np.float32(0),
        "b": np.float32(8),
        "c1.bias_quant.scale": np.float32(2.0**-4),
        "ones": np.ones(4, np.float32),
        "noughts": np.zeros(4, np.float32),
        "ones4": np.full((1, 4, 1, 1), 2.0, np.float32),
        "v": np.full((4, 1, 1, 1), 0.5, np.float32),
        "w": weights,
    }
    model = network(nodes, shared, IMAGE)
    middle = conv2d(X, int_quant(weights, 2.0**-4, 0, 8, narrow=1)).astype(np.float32)
    middle = int_quant(np.maximum(middle, 0), 2.0**-4, 0, 8)
    assert_computes(tmp_path, model, int_quant(middle, 2.0**-4, 0, 8), x=X)


@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        ((6, 1, 3, 3), (6, 1, 1, 1)),
        ((3, 1, 3, 3), (3, 1, 1, 1)),
        ((3, 1, 3, 3), ()),
    ],
)
def test_depthwise_weights_with_their_scales(tmp_path, shape, scale):
    """[C * m, 1, k, k] with as many groups as input channels."""
    steps = np.asarray(2.0 ** np.random.default_rng(5).integers(-8, -5, scale), np.float32)
    weights = random(*shape, seed=1, spread=0.2)
    nodes = convolution(quant("w", "wq", "ws", narrow=1), group=3, pads=[1, 1, 1, 1])
    model = network(nodes, constants(w=weights, ws=steps), IMAGE)
    wanted = int_quant(weights, steps, 0, 8, narrow=1)
    assert_kept(tmp_path, model, X, wanted, pads=(1, 1, 1, 1), group=3)


DEAD = np.array([2.0**-7, 7.9e-13, 7.9e-13, 2.0**-6], np.float32)


def test_dead_channels_do_not_disturb_the_others(tmp_path):
    """An output channel without weights gets a scale of 1e-10/127; its bias still counts."""
    weights = random(4, 3, 3, 3, seed=1, spread=0.2)
    weights[1], weights[2] = 0, weights[2] * 1e-12
    bias = np.array([0.5, 0.25, 0, -0.5], np.float32)
    nodes = convolution(
        quant("w", "wq", "ws", narrow=1), quant("v", "vq", "vs", bits="b32"), bias=["vq"]
    )
    steps = {"ws": DEAD.reshape(4, 1, 1, 1), "vs": DEAD * np.float32(STEP), "b32": np.float32(32)}
    model = network(nodes, constants(w=weights, v=bias, **steps), IMAGE)
    wanted = int_quant(weights, DEAD.reshape(4, 1, 1, 1), 0, 8, narrow=1)
    kept = int_quant(bias, DEAD * np.float32(STEP), 0, 32)
    got = hardware(tmp_path, model, x=X)
    summed = conv2d(X, wanted, kept).astype(np.float32)
    assert np.array_equal(got.outputs["y"], int_quant(summed, RESULT, 0, 8))


def test_a_layer_that_is_dead_as_a_whole_is_its_bias(tmp_path):
    """All weights zero with one scale per tensor: nothing to take a step from."""
    bias = np.array([0.5, 0.25, 0, -0.5], np.float32)
    model = network(
        convolution(quant("w", "wq", "ws", narrow=1), bias=["v"]),
        constants(w=np.zeros((4, 3, 3, 3), np.float32), ws=DEAD[1], v=bias),
        IMAGE,
    )
    got = hardware(tmp_path, model, x=X)
    assert np.array_equal(got.outputs["y"], np.broadcast_to(bias.reshape(4, 1, 1), (4, 4, 6, 6)))


SIGNS = {
    "BipolarQuant": lambda: helper.make_node("BipolarQuant", ["w", "ws"], ["wq"], domain=QONNX),
    "Quant of 1 bit": lambda: quant("w", "wq", "ws", bits="b1"),
    "narrow Quant of 1 bit": lambda: quant("w", "wq", "ws", bits="b1", narrow=1),
}


@pytest.mark.parametrize("form", SIGNS)
@pytest.mark.parametrize("scale", [0.5, [[[[0.5]]], [[[0.25]]], [[[2.0]]], [[[1.0]]]]])
def test_binary_weights_are_plus_and_minus_one(tmp_path, form, scale):
    """One signed bit is a sign, not {-1, 0}; zero counts as positive, whatever its scale."""
    weights = random(4, 3, 3, 3, seed=1)
    weights[0, 0, 0] = [0.0, -0.0, 1e-30]
    steps = np.asarray(scale, np.float32)
    nodes = [*convolution(SIGNS[form]())[:-1], quant("c", "y", "two")]
    more = {"w": weights, "ws": steps, "b1": np.float32(1), "two": np.float32(2)}
    model = network(nodes, constants(**more), IMAGE)
    wanted = np.where(weights >= 0, 1, -1) * steps
    got = hardware(tmp_path, model, x=X)
    assert got.classes("weight") == {"conv_c/weights": "exact"}
    summed = conv2d(X, wanted).astype(np.float32)
    assert np.array_equal(got.outputs["y"], int_quant(summed, 2.0, 0, 8))
    written = onnx.load(tmp_path / "net.dla.onnx").graph
    stored = numpy_helper.to_array(next(t for t in written.initializer if t.dims == [4, 3, 3, 3]))
    assert np.array_equal(stored, wanted)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("signed", [0, 1])
def test_weights_of_few_bits_clip_at_their_own_range(tmp_path, bits, narrow, signed):
    """Two narrow bits are ternary; unsigned and narrow leaves the largest code out."""
    weights = random(4, 3, 3, 3, seed=1)
    nodes = convolution(quant("w", "wq", "ws", bits="few", narrow=narrow, signed=signed))
    model = network(
        nodes, constants(w=weights, ws=np.float32(2.0**-3), few=np.float32(bits)), IMAGE
    )
    wanted = int_quant(weights, 2.0**-3, 0, bits, signed=signed, narrow=narrow)
    assert_kept(tmp_path, model, X, wanted)


@pytest.mark.parametrize(
    ("zero", "signed"),
    [(128, 0), (100, 0), (3, 1), (-7, 1), ([[[[128]]], [[[120]]], [[[60]]], [[[0]]]], 0)],
)
def test_weights_with_a_zero_point_are_shifted(tmp_path, zero, signed):
    """(q - zero point) is an integer like any other, as long as it fits."""
    zero = np.asarray(zero, np.float32)
    weights = random(4, 3, 3, 3, seed=1, spread=0.25)
    weights[3] = np.abs(weights[3])
    nodes = convolution(quant("w", "wq", "ws", "wz", signed=signed))
    model = network(nodes, constants(w=weights, ws=np.float32(2.0**-7), wz=zero), IMAGE)
    wanted = int_quant(weights, 2.0**-7, zero, 8, signed=signed)
    assert np.abs(wanted / 2.0**-7).max() <= 128
    assert_kept(tmp_path, model, X, wanted)


@pytest.mark.parametrize("case", ["zero point 7", "unsigned", "16 bits"])
def test_integers_beyond_8_bits_are_rounded_anew_and_said_so(tmp_path, case):
    """Unsigned weights reach 255, those of zero point 7 reach 248: neither is an int8."""
    zero, bits, signed, step = {
        "zero point 7": (7, 8, 0, 2.0**-7),
        "unsigned": (0, 8, 0, 2.0**-7),
        "16 bits": (0, 16, 1, 2.0**-12),
    }[case]
    weights = random(4, 3, 3, 3, seed=1, spread=0.8)
    nodes = convolution(quant("w", "wq", "ws", "wz", "wb", signed=signed))
    more = {"w": weights, "ws": np.float32(step), "wz": np.float32(zero), "wb": np.float32(bits)}
    model = network(nodes, constants(**more), IMAGE)
    got = hardware(tmp_path, model, x=X)
    assert got.classes("weight") == {"conv_c/weights": "requantised"}
    exact = conv2d(X, int_quant(weights, step, zero, bits, signed=signed)).astype(np.float32)
    wanted = int_quant(exact, RESULT, 0, 8)
    assert np.abs(got.outputs["y"] - wanted).max() <= 2 * RESULT


def test_weights_with_a_fractional_zero_point_are_rounded_anew_and_said_so(tmp_path):
    """Half-quadratic quantisers leave the zero point between two integers."""
    weights = random(4, 3, 3, 3, seed=1, spread=0.2)
    nodes = convolution(quant("w", "wq", "ws", "wz", bits="b4", signed=0))
    more = {"w": weights, "ws": np.float32(0.05), "wz": np.float32(7.5), "b4": np.float32(4)}
    model = network(nodes, constants(**more), IMAGE)
    exact = conv2d(X, int_quant(weights, 0.05, 7.5, 4, signed=0)).astype(np.float32)
    got = hardware(tmp_path, model, x=X)
    (said,) = got.rewrites("integer_weights")
    assert "zero point" in said["detail"]
    assert not said["exact"]
    assert np.abs(got.outputs["y"] - int_quant(exact, RESULT, 0, 8)).max() <= RESULT


def test_one_weight_tensor_read_by_two_layers_serves_both(tmp_path):
    """Tied weights, one of them behind a Transpose."""
    weights = random(16, 16, seed=1, spread=0.1)
    nodes = [
        quant("x", "xq"),
        quant("w", "wq", "ws", narrow=1),
        ("Gemm", ["xq", "wq"], ["g"], {"transB": 1}),
        quant("g", "m", "ys"),
        ("Transpose", ["wq"], ["wt"], {"perm": [1, 0]}),
        ("Gemm", ["m", "wt"], ["h"], {"transB": 1}),
        quant("h", "y", "ys"),
    ]
    model = network(nodes, constants(w=weights, ws=np.float32(2.0**-8)), {"x": [1, 16]})
    x, kept = grid(4, 16, step=STEP), int_quant(weights, 2.0**-8, 0, 8, narrow=1)
    middle = int_quant((x.astype(np.float64) @ kept.T).astype(np.float32), RESULT, 0, 8)
    wanted = int_quant((middle.astype(np.float64) @ kept).astype(np.float32), RESULT, 0, 8)
    assert np.array_equal(hardware(tmp_path, model, x=x).outputs["y"], wanted)


def test_transposed_convolutions_have_their_scales_on_axis_1(tmp_path):
    """[1, O, 1, 1] on weights [I, O, k, k]; a convolution of 2x2 phases has them on axis 0."""
    weights = random(3, 4, 2, 2, seed=1, spread=0.2)
    steps = np.array([2.0**-6, 2.0**-7, 2.0**-5, 2.0**-6], np.float32).reshape(1, 4, 1, 1)
    nodes = [
        quant("x", "xq"),
        quant("w", "wq", "ws", narrow=1),
        ("ConvTranspose", ["xq", "wq"], ["c"], {"strides": [2, 2]}),
        quant("c", "y", "ys"),
    ]
    model = network(nodes, constants(w=weights, ws=steps), IMAGE)
    spread = np.einsum("nihw,iojk->nohjwk", X, int_quant(weights, steps, 0, 8, narrow=1))
    wanted = int_quant(spread.reshape(4, 4, 16, 16).astype(np.float32), RESULT, 0, 8)
    assert_computes(tmp_path, model, wanted, x=X)
    got = hardware(tmp_path, model, x=X)
    assert np.array_equal(got.outputs["y"], wanted)
    assert got.rewrites("conv_transpose")


def test_a_scale_per_input_channel_is_read_right_and_rounded_anew(tmp_path):
    """[1, I, 1, 1] on weights of a convolution has no place in one step per output channel."""
    weights = random(4, 3, 3, 3, seed=1, spread=0.2)
    steps = np.array([2.0**-7, 2.0**-6, 2.0**-5], np.float32).reshape(1, 3, 1, 1)
    model = network(convolution(quant("w", "wq", "ws")), constants(w=weights, ws=steps), IMAGE)
    wanted = int_quant(conv2d(X, int_quant(weights, steps, 0, 8)).astype(np.float32), RESULT, 0, 8)
    assert_computes(tmp_path, model, wanted, x=X)
    got = hardware(tmp_path, model, x=X)
    assert [item["exact"] for item in got.rewrites("integer_weights")] == [False]
    assert np.abs(got.outputs["y"] - wanted).max() <= RESULT


def test_a_scale_without_a_place_in_the_weights_is_refused(tmp_path):
    """Two scales on four output channels."""
    scales = np.array([0.1, 0.2], np.float32).reshape(2, 1, 1, 1)
    model = network(
        convolution(quant("w", "wq", "ws")), constants(w=np.ones((4, 3, 3, 3)), ws=scales)
    )
    assert [error.rule for error in refusals(tmp_path, model)] == ["DLA118"]
