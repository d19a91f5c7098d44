import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.pipeline import Context
from dlaconv.ir.scales.centred import centred_bias
from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.weights import LinearScaling, scale_reals
from dlaconv.ir.target import Target

SCALING = LinearScaling(1.0, 0.25, 1.0, 2.0)


def layer(weights, shape, *, group=1, moving=None):
    """A convolution or fully connected layer on ``x``, or on what is moved from it."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=shape)
    if moving is not None:
        moving.outputs[0].shape = ir.Shape((1, int(np.prod(shape))))
        moving.replace_input_with(0, x)
        x = moving.outputs[0]
    op = "Conv" if weights.ndim == 4 else "Gemm"
    return ir.node(op, [x, dialect.constant("w", weights)], {"group": group} if group > 1 else {})


def rounded(node, weights, bias, centre):
    context = Context(Target.load())
    context.centres["x"] = centre
    grid = WeightGrid("guide")
    scaled = scale_reals(weights, bias, SCALING, context.target, grid)
    found = centred_bias(node, weights, bias, scaled, SCALING, context)
    return scaled, found


@pytest.mark.parametrize("group", [1, 3])
def test_a_layer_computes_the_same_at_the_centre_of_its_input(group):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(6, 3 // group, 3, 3))
    bias = rng.normal(size=6)
    centre = np.array([-128.0, 30.0, 5.0]).reshape(1, 3, 1, 1)
    scaled, found = rounded(layer(weights, (1, 3, 8, 8), group=group), weights, bias, centre)
    kept = scaled.integers * (scaled.steps / SCALING.ratio).reshape(-1, 1, 1, 1)
    channels = np.arange(6)[:, None] // 2 if group == 3 else np.arange(3)[None, :]
    fed = centre.reshape(-1)[channels]
    wanted = (weights.sum((2, 3)) * fed).sum(1) + bias
    assert np.allclose((kept.sum((2, 3)) * fed).sum(1) + found, wanted)
    assert np.abs((kept.sum((2, 3)) * fed).sum(1) + bias - wanted).max() > 0.1


def test_what_is_moved_before_a_layer_has_the_centre_of_what_it_was():
    rng = np.random.default_rng(1)
    weights, centre = rng.normal(size=(4, 12)), np.array([3.0, -9.0, 40.0]).reshape(1, 3, 1, 1)
    target = dialect.constant("shape", np.array([1, 12]))
    node = layer(weights, (1, 3, 2, 2), moving=ir.node("Reshape", [None, target]))
    scaled, found = rounded(node, weights, None, centre)
    fed = np.broadcast_to(centre, (1, 3, 2, 2)).reshape(-1)
    kept = scaled.integers * (scaled.steps / SCALING.ratio)[:, None]
    assert np.allclose(kept @ fed + found, weights @ fed)


def test_without_a_centre_the_bias_stays():
    weights = np.random.default_rng(2).normal(size=(4, 3, 1, 1))
    bias = np.ones(4)
    node = layer(weights, (1, 3, 2, 2))
    assert rounded(node, weights, bias, np.zeros((1, 3, 1, 1)))[1] is bias
    scaled = rounded(node, weights, bias, np.zeros((1, 3, 1, 1)))[0]
    assert centred_bias(node, weights, None, scaled, SCALING, Context(Target.load())) is None
