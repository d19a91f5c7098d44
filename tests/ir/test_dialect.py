"""The dialect's function bodies in onnxruntime, against exact numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.element_grids import ElementGrids
from dlaconv.ir.execution import Executor
from dlaconv.ir.graph import register_constants
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding, round_exact


def model_of(make, shape):
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=shape)
    node = make(x)
    graph = ir.Graph([x], list(node.outputs), nodes=[node], opset_imports={"": 18}, name="g")
    register_constants(graph, [node])
    return ir.Model(graph, ir_version=10)


def run(make, values):
    model = model_of(make, values.shape)
    (result,) = Executor(model).run({"x": values}).values()
    return result


def quantised(values, quantisation):
    return run(lambda x: dialect.quantize(x, quantisation, name="q"), values)


def ties(limit):
    """Values on, and next to, every half up to ``limit``; both signs, and zero."""
    halves = np.arange(0, limit, 0.5, dtype=np.float32)
    near = [np.nextafter(halves, np.float32(end)) for end in (-np.inf, np.inf)]
    values = np.concatenate([halves, *near])
    return np.concatenate([values, -values])


@pytest.mark.parametrize("mode", Rounding)
def test_every_mode_rounds_right_on_and_next_to_ties(mode):
    values = ties(140)
    got = quantised(values, Quantisation.of(1.0, 8, rounding=mode))
    expected = [min(127, max(-128, round_exact(Fraction(float(v)), mode))) for v in values]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("mode", Rounding)
def test_the_largest_float_below_one_half_is_not_one_half(mode):
    values = np.array([0.49999997, -0.49999997], np.float32)
    got = quantised(values, Quantisation.of(1.0, 8, rounding=mode)).tolist()
    assert got == [round_exact(Fraction(float(v)), mode) for v in values]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-400, 400, width=32), min_size=1, max_size=30),
    mode=st.sampled_from(Rounding),
    step=st.sampled_from([2.0**-3, 0.1, 1 / 3, 2.0]),
    bits=st.integers(2, 12),
    signed=st.booleans(),
    narrow=st.booleans(),
    zero_point=st.integers(-4, 4),
)
def test_the_body_computes_what_the_value_says(
    values, mode, step, bits, signed, narrow, zero_point
):
    quantisation = Quantisation.of(
        step, bits, signed=signed, narrow=narrow, zero_point=zero_point, rounding=mode
    )
    x = np.array(values, np.float32)
    expected = quantisation.reals(quantisation.integers(x))
    np.testing.assert_array_equal(quantised(x, quantisation), expected)


@pytest.mark.parametrize("mode", Rounding)
def test_steps_per_channel(mode):
    step = np.array([0.5, 0.25, 0.1], np.float32).reshape(1, 3, 1, 1)
    quantisation = Quantisation.of(step, 8, rounding=mode)
    x = np.random.default_rng(0).normal(0, 20, (2, 3, 4, 4)).astype(np.float32)
    expected = quantisation.reals(quantisation.integers(x))
    np.testing.assert_array_equal(quantised(x, quantisation), expected)


@pytest.mark.parametrize("mode", Rounding)
@pytest.mark.parametrize("bits", [24, 25, 32])
def test_wide_integers_are_clipped_in_double(mode, bits):
    largest = 2 ** (bits - 1) - 1
    quantisation = Quantisation.of(2.0**-8, bits, rounding=mode)
    x = np.array([2.0**30, -(2.0**30), 1.5, 1.001953125], np.float32)
    got = quantised(x, quantisation)
    exact = [Fraction(float(v)) * 256 for v in x]
    integers = [min(largest, max(-largest - 1, round_exact(value, mode))) for value in exact]
    np.testing.assert_array_equal(got, (np.array(integers) / 256).astype(np.float32))


def test_wide_nodes_have_an_operator_of_their_own():
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1,))
    names = [
        dialect.quantize(x, Quantisation.of(1.0, bits), name=f"q{bits}").op_type
        for bits in (24, 25)
    ]
    assert names == ["QuantizeHalfEven", "QuantizeHalfEvenWide"]


def test_bipolar_is_the_step_from_zero_on():
    x = np.array([-1.0, -0.0, 0.0, 1e-30, -1e-30, 5.0], np.float32)
    step = np.array(0.25, np.float32)
    got = run(lambda value: dialect.bipolar(value, step, name="b"), x)
    assert got.tolist() == [-0.25, 0.25, 0.25, 0.25, -0.25, 0.25]


def test_bipolar_steps_may_be_per_channel():
    x = np.array([[-1.0, 2.0]], np.float32)
    step = np.array([[0.5, 3.0]], np.float32)
    got = run(lambda value: dialect.bipolar(value, step, name="b"), x)
    assert got.tolist() == [[-0.5, 3.0]]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_dequantize_gives_integers_their_worth(dtype):
    integers = dialect.constant("w", np.array([[-3], [5]], dtype))
    step = np.array([[0.5], [0.1]], np.float32)
    node = dialect.dequantize(integers, step, name="d", output="real")
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1, 1))
    total = ir.node("Add", [x, node.outputs[0]], name="add")
    total.outputs[0].name = "total"
    graph = ir.Graph([x], total.outputs, nodes=[node, total], opset_imports={"": 18}, name="g")
    register_constants(graph, [node])
    got = Executor(ir.Model(graph, ir_version=10)).run({"x": np.zeros((1, 1), np.float32)})
    np.testing.assert_array_equal(got["total"], np.array([[-3], [5]], np.float32) * step)
    assert dialect.is_dequantize(node)
    np.testing.assert_array_equal(dialect.step_of(node), step)


@pytest.mark.parametrize("mode", Rounding)
def test_a_node_is_read_back_as_it_was_made(mode):
    step = np.array([0.5, 0.25], np.float32).reshape(1, 2)
    quantisation = Quantisation.of(step, 6, narrow=True, zero_point=1.0, rounding=mode)
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1, 2))
    node = dialect.quantize(x, quantisation, name="q")
    back = dialect.quantisation_of(node)
    assert back.same_grid(quantisation)
    assert (back.rounding, back.narrow) == (mode, True)
    assert dialect.is_quantize(node)
    assert node.outputs[0].shape == x.shape


def test_other_nodes_are_not_of_the_dialect():
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1,))
    node = ir.node("Relu", [x], name="r")
    for test in (dialect.is_quantize, dialect.is_dequantize, dialect.is_bipolar):
        assert not test(node)
        assert not test(None)
    with pytest.raises(ValueError, match="'r' is no quantise node"):
        dialect.quantisation_of(node)
    with pytest.raises(ValueError, match="'x' is no constant"):
        dialect.array_of(x)


def test_every_operator_is_a_valid_onnx_function():
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(4,))
    nodes = [
        dialect.quantize(x, Quantisation.of(1.0, bits, rounding=mode), name=f"{mode}{bits}")
        for mode in Rounding
        for bits in (8, 32)
    ]
    ends = np.float32([1, -8, 7])
    nodes += [
        dialect.fixed_point(x, ElementGrids(*ends, mode, wraps), name=f"f{mode}{wraps}")
        for mode in Rounding
        for wraps in (False, True)
    ]
    nodes.append(dialect.bipolar(x, np.float32(1), name="b"))
    nodes.append(
        dialect.dequantize(dialect.constant("w", np.ones(4, np.int8)), 1, name="d", output="w")
    )
    outputs = [node.outputs[0] for node in nodes]
    graph = ir.Graph([x], outputs, nodes=nodes, opset_imports={"": 18}, name="g")
    register_constants(graph, nodes)
    model = ir.Model(graph, ir_version=10)
    dialect.install(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert {function.name for function in proto.functions} == set(dialect.op_types())


def test_models_without_quantisation_do_not_import_the_dialect():
    model = model_of(lambda x: ir.node("Relu", [x], name="r"), (1,))
    dialect.install(model)
    assert dialect.DOMAIN not in model.graph.opset_imports
    assert not model.functions
