import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

from dlaconv.ir import dialect, provenance
from dlaconv.ir.execution import Executor
from dlaconv.ir.graph import register_constants
from dlaconv.ir.lowering import lowered
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding


def run_bodies(model: ir.Model, x: np.ndarray) -> np.ndarray:
    """The model as it is, its functions evaluated by onnxruntime."""
    dialect.install(model)
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, {"x": x})[0]


def model_of(*nodes: ir.Node, x: ir.Value) -> ir.Model:
    graph = ir.Graph([x], [nodes[-1].outputs[0]], nodes=[], opset_imports={"": 18}, name="g")
    graph.extend(nodes)
    register_constants(graph, nodes)
    return ir.Model(graph, ir_version=10)


@given(
    rounding=st.sampled_from(Rounding),
    bits=st.sampled_from([1, 2, 4, 8, 16, 32]),
    signed=st.booleans(),
    step=st.floats(2.0**-10, 2.0**4, width=32),
    zero_point=st.sampled_from([0.0, 3.0, 128.0]),
    seed=st.integers(0, 1000),
)
def test_written_out_quantiser_equals_its_function_bit_by_bit(
    rounding, bits, signed, step, zero_point, seed
):
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[200])
    quantisation = Quantisation.of(
        step, bits, signed=signed, rounding=rounding, zero_point=zero_point
    )
    model = model_of(dialect.quantize(x, quantisation, name="q"), x=x)
    random = np.random.default_rng(seed)
    values = (random.integers(-600, 600, 200) / 4 * np.float32(step)).astype(np.float32)
    values[100:] *= random.uniform(0, 2, 100).astype(np.float32)
    got = Executor(model).run({"x": values})["q/out"]
    assert np.array_equal(got, run_bodies(model, values))


@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.FLOOR])
@pytest.mark.parametrize("ends", [(-128, 127), (0, 255), (-127, 127)])
@pytest.mark.parametrize("step", [2.0**-6, 0.0173, 3e-38, 1e30])
def test_a_quantiser_whose_step_is_fed_equals_its_function(rounding, ends, step):
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[2000])
    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    quantise = dialect.quantize(x, Quantisation(one, zero, *ends, rounding), name="q")
    fed = ir.val("step", dtype=ir.DataType.FLOAT, shape=[])
    quantise.replace_input_with(1, fed)
    model = model_of(quantise, x=x)
    model.graph.inputs.append(fed)
    ops = {node.op_type for node in lowered(model).graph}
    compact = rounding is Rounding.HALF_EVEN and ends != (-127, 127)
    assert ops == ({"QuantizeLinear", "DequantizeLinear"} if compact else ops | {"Div", "Clip"})
    step = np.array(step, np.float32)
    values = (np.random.default_rng(0).integers(-1200, 1200, 2000) / 4 * step).astype(np.float32)
    values[::3] *= np.float32(1.0001)
    values[:2] = np.inf, -np.inf
    got = Executor(model).run({"x": values, "step": step})["q/out"]
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[2000])
    known = dialect.quantize(x, Quantisation(step, zero, *ends, rounding), name="q")
    wanted = run_bodies(model_of(known, x=x), values)
    assert np.array_equal(got, wanted)


@pytest.mark.parametrize("rounding", Rounding)
def test_constant_quantiser_is_computed_once_and_equals_its_function(rounding):
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[4, 50])
    weights = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    steps = np.array([[0.011], [0.02], [0.5], [1e-9]], np.float32)
    quantised = dialect.quantize(
        dialect.constant("w", weights), Quantisation.of(steps, rounding=rounding), name="q"
    )
    add = ir.node("Add", [x, quantised.outputs[0]], name="add")
    add.outputs[0].name = "sum"
    model = model_of(quantised, add, x=x)
    assert [node.op_type for node in lowered(model).graph] == ["Add"]
    zero = np.zeros((4, 50), np.float32)
    assert np.array_equal(Executor(model).run({"x": zero})["sum"], run_bodies(model, zero))


def test_constants_of_dequantize_and_bipolar_are_computed():
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[3])
    integers = dialect.constant("i", np.array([-128, 0, 127], np.int8))
    held = dialect.dequantize(integers, np.float32(0.1), name="d", output="d_out")
    sign = dialect.bipolar(dialect.constant("w", np.float32([-1, 0, 2])), np.float32(0.5), name="b")
    first = ir.node("Add", [x, held.outputs[0]], name="first")
    second = ir.node("Add", [first.outputs[0], sign.outputs[0]], name="second")
    first.outputs[0].name, second.outputs[0].name = "first_out", "second_out"
    model = model_of(held, sign, first, second, x=x)
    assert [node.op_type for node in lowered(model).graph] == ["Add", "Add"]
    values = np.float32([1, 2, 3])
    assert np.array_equal(
        Executor(model).run({"x": values})["second_out"], run_bodies(model, values)
    )


def test_the_model_itself_is_not_changed():
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[3])
    model = model_of(dialect.quantize(x, Quantisation.of(0.5), name="q"), x=x)
    Executor(model).run({"x": np.float32([1, 2, 3])})
    assert [node.op_type for node in model.graph] == ["QuantizeHalfEven"]


def test_what_is_written_out_belongs_to_the_layer_of_its_quantiser():
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[3])
    node = provenance.mark(
        dialect.quantize(x, Quantisation.of(0.5), name="q"), "act", "QActivation"
    )
    written = lowered(model_of(node, x=x))
    assert [item.op_type for item in written.graph] == ["Div", "Round", "Clip", "Mul"]
    assert {provenance.location(item).layer for item in written.graph} == {"act"}


@pytest.mark.parametrize("kind", ["quantise", "bipolar"])
def test_a_constant_of_no_dimensions_is_computed(kind):
    """A quantised scalar, such as the operand of an Add."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[4])
    number = dialect.constant("number", np.float32(-0.6))
    if kind == "quantise":
        made = dialect.quantize(number, Quantisation.of(0.25), name="q")
    else:
        made = dialect.bipolar(number, np.float32(0.5), name="q")
    added = ir.node("Add", [x, made.outputs[0]], name="add")
    added.outputs[0].name, added.outputs[0].dtype = "y", ir.DataType.FLOAT
    (got,) = Executor(model_of(made, added, x=x)).run({"x": np.zeros(4, np.float32)}).values()
    assert got.tolist() == [-0.5] * 4
