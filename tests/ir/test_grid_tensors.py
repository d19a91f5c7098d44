"""Constants on a grid are the same numbers, as floats and as integers with steps."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import dialect, grid_tensors
from dlaconv.ir.execution import Executor
from dlaconv.ir.graph import register_constants
from dlaconv.ir.grid_tensors import GridTensor, grid_tensor, hand_over_integers
from dlaconv.ir.lowering import lowered
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding

RNG = np.random.default_rng(0)
INTEGERS = RNG.integers(-128, 128, (6, 3, 2, 2)).astype(np.int8)
STEPS = 2.0 ** RNG.integers(-6, 1, 6).astype(np.float32)  # with whole inputs all sums are exact


@pytest.mark.parametrize("steps", [np.float32([0.25]), STEPS])
def test_floats_are_integers_times_steps(steps):
    tensor = grid_tensor(INTEGERS, steps, "w")
    expected = INTEGERS.astype(np.float32) * steps.reshape(-1, 1, 1, 1)
    assert np.array_equal(tensor.numpy(), expected)
    assert np.array_equal(tensor.rows(slice(2, 5)), expected[2:5])
    assert np.array_equal(tensor.int8(), INTEGERS)


def test_only_whole_numbers_of_8_bits_are_handed_over():
    assert grid_tensor(INTEGERS.astype(np.int16), STEPS, "w").int8() is None
    assert GridTensor(INTEGERS.__getitem__, lambda: None, STEPS, INTEGERS.shape, "w").int8() is None


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(grid_tensors, "_LARGE", 4)
    monkeypatch.setattr(grid_tensors, "_PART", 24)


def layer(op_type, x_shape, weights, steps, bias=None, **attributes):
    """One layer with weights on a grid."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=x_shape)
    inputs = [x, dialect.constant("w", grid_tensor(weights, steps, "w"))]
    inputs += [] if bias is None else [dialect.constant("b", bias)]
    node = ir.node(op_type, inputs, attributes, name="n")
    node.outputs[0].name = "y"
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 18}, name="g")
    register_constants(graph, [node])
    return ir.Model(graph, ir_version=10)


def operators(model):
    hand_over_integers(model.graph)
    return [node.op_type for node in model.graph]


LINES = RNG.integers(-128, 128, (9, 8)).astype(np.int8)
BIAS = RNG.integers(-99, 99, 9).astype(np.float32)
CASES = {
    "convolution": (("Conv", (1, 3, 5, 5), INTEGERS, STEPS), 3),
    "one step": (("Conv", (1, 3, 5, 5), INTEGERS, STEPS[:1]), 3),
    "dense": (("Gemm", (1, 8), LINES, 2.0 ** RNG.integers(-6, 1, 9).astype(np.float32), BIAS), 3),
    "row of biases": (("Gemm", (1, 8), LINES, STEPS[:1], BIAS.reshape(1, 9)), 3),
    "bias for all": (("Gemm", (1, 8), LINES, STEPS[:1], BIAS[:1]), 1),
    "product": (("MatMul", (1, 9), LINES, STEPS[:1]), 1),
    "sum": (("Add", (9, 8), LINES, STEPS[:1]), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_computes_the_same_with_integers(name):
    (op_type, x_shape, weights, steps, *bias), parts = CASES[name]
    attributes = {"transB": 1, "alpha": 0.5} if op_type == "Gemm" else {}
    model = layer(op_type, x_shape, weights, steps, *bias, **attributes)
    x = RNG.integers(-99, 99, x_shape).astype(np.float32)
    floats, integers = (Executor(model, compact=compact) for compact in (False, True))
    assert np.array_equal(floats.run({"x": x})["y"], integers.run({"x": x})["y"])
    assert isinstance(model.graph.initializers["w"].const_value, GridTensor)
    found = operators(model)
    assert found.count("DequantizeLinear") == found.count(op_type) == parts


def test_groups_stay_together_and_small_layers_whole():
    grouped = layer("Conv", (1, 6, 5, 5), INTEGERS, STEPS, group=2)
    assert operators(grouped) == ["DequantizeLinear", "Conv"]
    small = layer("Conv", (1, 3, 5, 5), INTEGERS[:2], STEPS[:2])
    assert operators(small) == ["DequantizeLinear", "Conv"]


def test_a_constant_of_several_readers_stays_for_all():
    model = layer("Conv", (1, 3, 5, 5), INTEGERS, STEPS)
    first = next(iter(model.graph))
    second = ir.node("Conv", list(first.inputs), name="second")
    second.outputs[0].name = "z"
    model.graph.append(second)
    model.graph.outputs.append(second.outputs[0])
    x = RNG.integers(-99, 99, (1, 3, 5, 5)).astype(np.float32)
    got = Executor(model, compact=True).run({"x": x})
    assert np.array_equal(got["y"], got["z"])
    assert np.array_equal(got["y"], Executor(model).run({"x": x})["y"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of infinity
@pytest.mark.parametrize("mode", Rounding)
@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_quantised_constants_are_handed_over_as_their_integers(monkeypatch, mode, by_row, broken):
    monkeypatch.setattr("dlaconv.ir.lowering._LARGE", 4)
    weights = RNG.standard_normal((6, 4)).astype(np.float32)
    weights[0] = np.nan if broken else [0.375, -0.125, 3e38, -np.inf]
    step = np.full((6, 1), 0.25, np.float32) if by_row else np.float32(0.25)
    quantisation = Quantisation.of(step, 4, rounding=mode)
    constant = dialect.constant("w", weights)
    node = dialect.quantize(constant, quantisation, name="q")
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1, 4))
    gemm = ir.node("Gemm", [x, node.outputs[0]], {"transB": 1}, name="gemm")
    gemm.outputs[0].name = "y"
    graph = ir.Graph([x], gemm.outputs, nodes=[node, gemm], opset_imports={"": 18}, name="g")
    register_constants(graph, [node, gemm])
    model = ir.Model(graph, ir_version=10)
    feed = {"x": np.ones((1, 4), np.float32)}
    got = Executor(model, compact=True).run(feed)["y"]
    expected = quantisation.on_grid(weights).sum(axis=1)
    assert np.array_equal(got[0], expected, equal_nan=True)
    assert ("DequantizeLinear" in operators(lowered(model))) is not broken
