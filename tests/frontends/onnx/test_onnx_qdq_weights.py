"""Weights, biases and constants behind DequantizeLinear: their integers are kept."""

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper

from dlaconv.ir import dialect
from tests.frontends.builders import random
from tests.frontends.onnx.pairs import numbers, qdq, ties
from tests.frontends.onnx.plain import (
    assert_same,
    canonical,
    load,
    operators,
    plain,
)

WEIGHTS = np.random.default_rng(1).integers(-128, 128, (5, 3, 3, 3)).astype(np.int8)


def conv(constants, nodes=(), weights="w", more=(), **attributes):
    """A quantised input, a convolution, and whatever stands around its weights."""
    made = [*qdq("x", "a"), *nodes, ("Conv", ["a", weights, *more], ["y"], attributes)]
    return plain(made, numbers(0.25, 3) | constants)


def weight_values(model):
    """Integers and steps of the weights of the only convolution or fully connected layer."""
    node = next(node for node in model.graph if node.op_type in {"Conv", "Gemm"})
    holder = node.inputs[1].producer()
    assert dialect.is_dequantize(holder)
    return dialect.array_of(holder.inputs[0]), dialect.step_of(holder)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("zero", [None, 0, 100])
@pytest.mark.parametrize("scales", ["tensor", "channel"])
def test_weights_of_integers_are_kept(tmp_path, kind, zero, scales):
    integers = (WEIGHTS.astype(int) + (128 if kind is np.uint8 else 0)).astype(kind)
    scale = np.float32(0.01) if scales == "tensor" else np.float32([0.01, 0.02, 0.03, 0.04, 0.05])
    inputs = ["wq", "ws"] if zero is None else ["wq", "ws", "wz"]
    constants = {"wq": integers, "ws": scale}
    if zero is not None:
        constants["wz"] = np.full(scale.shape, zero, kind)
    nodes = [("DequantizeLinear", inputs, ["w"], {"axis": 0})]
    model = conv(constants, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, step = weight_values(canonical(load(tmp_path, model)))
    assert np.array_equal(array, integers.astype(int) - (zero or 0))
    assert np.array_equal(step.reshape(-1), scale.reshape(-1))


def test_weights_with_zero_points_per_channel_are_kept(tmp_path):
    scales, zeros = np.float32([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0, 1, -5, 100, -128], np.int8)
    nodes = [("DequantizeLinear", ["wq", "ws", "wz"], ["w"], {"axis": 0})]
    model = conv({"wq": WEIGHTS, "ws": scales, "wz": zeros}, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, _ = weight_values(canonical(load(tmp_path, model)))
    assert np.array_equal(array, WEIGHTS.astype(int) - zeros.reshape(-1, 1, 1, 1))


@pytest.mark.parametrize("zeros", [np.zeros(5), np.full(5, 3), [0, 1, 2, 3, 4]])
def test_float_weights_that_are_quantised_in_the_graph_get_their_integers(tmp_path, zeros):
    """As PyTorch exports quantisation-aware training."""
    weights, scales = random(5, 3, 3, 3, seed=4), np.float32([0.05, 0.04, 0.03, 0.02, 0.01])
    constants = {"wf": weights, "ws": scales, "wz": np.asarray(zeros, np.int8)}
    nodes = [
        ("QuantizeLinear", ["wf", "ws", "wz"], ["wq"], {"axis": 0}),
        ("DequantizeLinear", ["wq", "ws", "wz"], ["w"], {"axis": 0}),
    ]
    model = conv(constants, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, _ = weight_values(canonical(load(tmp_path, model)))
    column = np.asarray(zeros).reshape(-1, 1, 1, 1)
    integers = np.rint(weights / scales.reshape(-1, 1, 1, 1))
    assert np.array_equal(array, np.clip(integers + column, -128, 127) - column)


@pytest.mark.parametrize("between", ["Transpose", "Reshape", "Identity"])
def test_weights_are_found_through_layout_operators(tmp_path, between):
    """PyTorch's Linear: DequantizeLinear, Transpose, MatMul."""
    integers = np.random.default_rng(2).integers(-128, 128, (5, 48)).astype(np.int8)
    change = {
        "Transpose": ("Transpose", ["d"], ["w"], {"perm": [1, 0]}),
        "Reshape": ("Reshape", ["d", "target"], ["w"]),
        "Identity": ("Identity", ["d"], ["w"]),
    }[between]
    stored = integers if between == "Transpose" else integers.reshape(48, 5)
    axis = 0 if between == "Transpose" else 1
    nodes = [
        *qdq("x", "a"),
        ("Flatten", ["a"], ["f"]),
        ("DequantizeLinear", ["wq", "ws"], ["d"], {"axis": axis}),
        change,
        ("MatMul", ["f", "w"], ["y"]),
    ]
    constants = {"wq": stored, "ws": np.float32([1, 2, 3, 4, 5]), "target": np.array([48, 5])}
    model = plain(nodes, numbers(0.25, 3) | constants)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, step = weight_values(canonical(load(tmp_path, model)))
    assert step.reshape(-1).tolist() == [1, 2, 3, 4, 5]
    assert np.array_equal(array, integers if between == "Transpose" else stored.T)


@pytest.mark.parametrize("kind", [np.int32, np.int8])
def test_a_bias_of_integers_is_read(tmp_path, kind):
    limit = 10**6 if kind is np.int32 else 100
    bias = np.random.default_rng(5).integers(-limit, limit, 5).astype(kind)
    nodes = [
        ("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 0}),
        ("DequantizeLinear", ["bq", "bs"], ["b"], {"axis": 0}),
    ]
    scales = np.float32([0.01, 0.02, 0.03, 0.04, 0.05])
    constants = {"wq": WEIGHTS, "ws": scales, "bq": bias, "bs": scales / 4}
    model = conv(constants, nodes, more=["b"])
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())


def test_quantised_constants_that_are_no_weights_become_values(tmp_path):
    nodes = [
        *qdq("x", "a"),
        ("DequantizeLinear", ["cq", "cs", "cz"], ["c"]),
        ("Add", ["a", "c"], ["d"]),
        ("Mul", ["d", "c"], ["y"]),
    ]
    constants = {"cq": np.array([[[200]], [[3]], [[7]]], np.uint8), "cs": np.float32(0.5),
                 "cz": np.uint8(9)}  # fmt: skip
    model = plain(nodes, numbers(0.25, 3) | constants)
    assert_same(tmp_path, model, x=ties())
    after = canonical(load(tmp_path, model))
    assert "Dequantize" not in operators(after)


def test_weights_with_a_step_along_the_wrong_axis_become_floats_with_a_word(tmp_path):
    from dlaconv.ir.passes import CANONICAL
    from dlaconv.ir.pipeline import Context, Pipeline
    from dlaconv.ir.stages import Stage
    from dlaconv.ir.target import Target

    nodes = [("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 1})]
    model = conv({"wq": WEIGHTS, "ws": np.float32([0.1, 0.2, 0.3])}, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    context = Context(Target.load())
    imported = load(tmp_path, model)
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(imported.model, context)
    (rewrite,) = [item for item in context.rewrites if item.name == "integer_weights"]
    assert not rewrite.exact
    assert "no single step per output channel" in rewrite.detail


def test_weights_only_are_integers_in_a_float_network(tmp_path):
    nodes = [
        ("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 0}),
        ("Conv", ["x", "w"], ["a"]),
        ("Relu", ["a"], ["y"]),
    ]
    scales = np.float32([0.01, 0.02, 0.03, 0.04, 0.05])
    before = assert_same(
        tmp_path, plain(nodes, {"wq": WEIGHTS, "ws": scales}), tolerance=1e-6, x=ties()
    )
    assert operators(before) == ["Dequantize", "Conv", "Relu"]


def test_a_clip_of_weights_is_computed(tmp_path):
    nodes = [
        ("Clip", ["wq", "lo", "hi"], ["wc"]),
        ("DequantizeLinear", ["wc", "ws"], ["w"], {"axis": 0}),
    ]
    constants = {"wq": WEIGHTS, "ws": np.float32(0.1), "lo": np.int8(-8), "hi": np.int8(7)}
    model = conv(constants, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, _ = weight_values(canonical(load(tmp_path, model)))
    assert (array.min(), array.max()) == (-8, 7)


def test_int4_weights_are_read(tmp_path):
    integers = np.random.default_rng(0).integers(-8, 8, (5, 3, 3, 3))
    packed = numpy_helper.from_array(integers.astype(ml_dtypes.int4), "wq")
    nodes = [("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 0})]
    made = [*qdq("x", "a"), *nodes, ("Conv", ["a", "w"], ["y"])]
    model = plain(made, numbers(0.25, 3) | {"ws": np.float32(0.5)}, opset=21)
    model.graph.initializer.append(packed)
    array, _ = weight_values(canonical(load(tmp_path, model)))
    assert np.array_equal(array, integers)


def test_weights_far_from_their_zero_point_saturate_at_int32(tmp_path):
    nodes = [*qdq("x", "a"), ("DequantizeLinear", ["bq", "bs"], ["b"]), ("Add", ["a", "b"], ["y"])]
    constants = {"bq": np.array([-(2**31), 2**31 - 1, 0], np.int32).reshape(3, 1, 1),
                 "bs": np.float32(2.0**-20)}  # fmt: skip
    model = plain(nodes, numbers(0.25, 3) | constants)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
