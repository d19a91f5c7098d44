"""Biases: float, of 8, 16 or 32 bits, on scales of their own, of a width that nodes compute."""

import numpy as np
import pytest
from onnx import helper

from tests.frontends.builders import network, parameters, quant, random
from tests.frontends.qonnx.reference import int_quant
from tests.traps.support import IMAGE, assert_computes, conv2d, grid, hardware

STEP, WEIGHT, RESULT = 2.0**-5, 2.0**-10, 2.0**-3
UNIT = STEP * WEIGHT
"""What one unit of the accumulator is worth: 16 bits of it reach one."""
WEIGHTS = random(4, 3, 3, 3, seed=1, spread=0.03)
KEPT = int_quant(WEIGHTS, WEIGHT, 0, 8, narrow=1)
X = grid(4, 3, 8, 8, step=STEP, seed=9)


def convolution(bias, *nodes, **more):
    """A network whose third convolution input is ``bias``."""
    made = [
        quant("x", "xq"),
        quant("w", "wq", "ws", narrow=1),
        *nodes,
        ("Conv", ["xq", "wq", bias], ["c"]),
        quant("c", "y", "ys"),
    ]
    given = {"w": WEIGHTS, "ws": np.float32(WEIGHT), "ys": np.float32(RESULT), **more}
    return network(made, parameters(scale=STEP) | given, IMAGE)


def result(bias):
    return int_quant(conv2d(X, KEPT, bias).astype(np.float32), RESULT, 0, 8)


def quantised(values, step, bits):
    nodes = [quant("v", "vq", "vs", bits="vb")]
    more = {"v": np.float32(values), "vs": np.asarray(step, np.float32), "vb": np.float32(bits)}
    return convolution("vq", *nodes, **more)


VALUES = (0.5, -0.26, 0.125, -0.777)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_bias_at_the_scale_of_the_accumulator_is_kept(tmp_path, bits, per_channel):
    """Int16Bias and Int32Bias: weight scale times input scale, of shape [1] or [O]."""
    step = np.full(4 if per_channel else 1, UNIT, np.float32)
    model = quantised(VALUES, step, bits)
    got = hardware(tmp_path, model, x=X)
    assert got.classes("bias") == {"conv_c/bias": "exact"}
    assert np.array_equal(got.outputs["y"], result(int_quant(np.float32(VALUES), UNIT, 0, bits)))


def test_a_bias_on_a_power_of_two_of_its_own_is_kept_where_the_accumulator_is_finer(tmp_path):
    """Int8Bias with internal scaling: its step has nothing to do with weights and input."""
    model = quantised(VALUES, 2.0**-7, 8)
    got = hardware(tmp_path, model, x=X)
    assert got.classes("bias") == {"conv_c/bias": "exact"}
    kept = int_quant(np.float32(VALUES), 2.0**-7, 0, 8)
    assert kept[3] == -0.7734375
    assert np.array_equal(got.outputs["y"], result(kept))


def test_a_bias_finer_than_the_accumulator_is_rounded_to_it_and_said_so(tmp_path):
    """A third of a unit has no place in an integer bias."""
    model = quantised(np.float32(VALUES), UNIT / 3, 32)
    got = hardware(tmp_path, model, x=X)
    assert got.classes("bias") == {"conv_c/bias": "rescaled"}
    wanted = result(int_quant(np.float32(VALUES), UNIT / 3, 0, 32))
    assert (got.outputs["y"] != wanted).mean() < 0.01


def test_a_16_bit_bias_that_saturates_in_training_saturates_here(tmp_path):
    """Brevitas' Int16Bias clips at 32767 units; the clipped value is what was trained."""
    model = quantised((0.5, -2.0, 1.5, 0.0), UNIT, 16)
    kept = int_quant(np.float32((0.5, -2.0, 1.5, 0.0)), UNIT, 0, 16)
    assert kept.tolist() == pytest.approx([0.5, -32768 * UNIT, 32767 * UNIT, 0])
    got = hardware(tmp_path, model, x=X)
    assert got.classes("bias") == {"conv_c/bias": "exact"}
    assert got.classes("weight") == {"conv_c/weights": "exact"}
    assert np.array_equal(got.outputs["y"], result(kept))


def test_a_bias_beyond_16_bits_widens_its_channel_only_and_is_never_clipped(tmp_path):
    """32-bit biases must not be squeezed: a clipped one loses whole networks."""
    values = np.float32((0.5, -2.0, 1.5, 0.0))
    model = quantised(values, UNIT, 32)
    got = hardware(tmp_path, model, x=X)
    assert got.row("conv_c/weights")["channels"] == [1, 2]
    wanted = result(int_quant(values, UNIT, 0, 32))
    assert np.abs(got.outputs["y"] - wanted).max() <= RESULT
    untouched = [0, 3]
    assert np.array_equal(got.outputs["y"][:, untouched], wanted[:, untouched])


def test_a_float_bias_needs_no_quantiser(tmp_path):
    """Brevitas' default: bias_quant=None leaves plain float numbers."""
    model = convolution("v", v=np.float32(VALUES))
    got = hardware(tmp_path, model, x=X)
    assert (got.outputs["y"] != result(np.float32(VALUES))).mean() < 0.01


def test_the_width_of_a_bias_may_be_computed_by_nodes(tmp_path):
    """Ceil(Log(range) / Log(2)): 22.98 bits become 23 by folding constants."""
    nodes = [
        helper.make_node("Log", ["range"], ["log"]),
        helper.make_node("Div", ["log", "log2"], ["raw"]),
        helper.make_node("Ceil", ["raw"], ["vb"]),
        quant("v", "vq", "vs", bits="vb"),
    ]
    more = {
        "v": np.float32(VALUES), "vs": np.float32(UNIT),
        "range": np.float32(8.3e6), "log2": np.float32(np.log(2)),
    }  # fmt: skip
    model = convolution("vq", *nodes, **more)
    kept = int_quant(np.float32(VALUES), UNIT, 0, 23)
    assert_computes(tmp_path, model, result(kept), x=X)
    got = hardware(tmp_path, model, x=X)
    assert np.array_equal(got.outputs["y"], result(kept))


@pytest.mark.parametrize("step", [2.0**-40, 1e-30])
def test_a_bias_of_zeros_has_any_scale(tmp_path, step):
    """An all-zero bias was seen to get 2^-40; it must bound no exponent."""
    got = hardware(tmp_path, quantised(np.zeros(4), step, 8), x=X)
    assert np.array_equal(got.outputs["y"], result(np.zeros(4)))


@pytest.mark.parametrize("order", ["bias first", "bias last"])
@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_a_bias_behind_the_convolution_on_either_side_is_its_bias(tmp_path, order, shape):
    """The exporters differ in the order of an Add's operands."""
    operands = ["vq", "m"] if order == "bias first" else ["m", "vq"]
    nodes = [
        quant("x", "xq"),
        quant("w", "wq", "ws", narrow=1),
        quant("v", "vq", "vs", bits="vb"),
        ("Conv", ["xq", "wq"], ["m"]),
        ("Add", operands, ["c"]),
        quant("c", "y", "ys"),
    ]
    given = {
        "w": WEIGHTS, "ws": np.float32(WEIGHT), "ys": np.float32(RESULT), "vb": np.float32(16),
        "v": np.float32(VALUES).reshape(shape), "vs": np.float32(UNIT),
    }  # fmt: skip
    got = hardware(tmp_path, network(nodes, parameters(scale=STEP) | given, IMAGE), x=X)
    assert list(got.classes()) == ["xq", "y"]
    assert np.array_equal(got.outputs["y"], result(int_quant(np.float32(VALUES), UNIT, 0, 16)))
