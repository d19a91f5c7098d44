import numpy as np
import pytest
from harness import Net, context, node_of, ops, run_pass

from dlaconv.ir.passes.channels_first import channels_first
from dlaconv.ir.passes.fully_connected import fully_connected
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.stages import Stage, broken_invariants

RNG = np.random.default_rng(4)
INTEGERS = RNG.integers(-127, 128, size=(5, 4)).astype(np.int8)  # [K, O]
STEPS = np.array([[0.01, 0.02, 0.03, 0.04]])
BIAS = RNG.normal(size=4)


def matrix(net, integers=INTEGERS, steps=STEPS):
    return net.dequantize(net.const(integers, dtype=np.int8), steps, out=f"w{len(net.nodes)}")


def in_form(model):
    words = "fully connected layers are Gemm with transB"
    return words not in "".join(problem for _, problem in broken_invariants(model, Stage.CANONICAL))


@pytest.mark.parametrize("alpha", [1.0, 0.5, -2.0])
@pytest.mark.parametrize("beta", [1.0, 0.25])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("c", [None, (), (1,), (4,), (1, 4)])
def test_every_gemm_takes_the_one_form(alpha, beta, transposed, c):
    net = Net(x=[2, 5])
    weights = matrix(net, INTEGERS.T, STEPS.T) if transposed else matrix(net)
    extra = [] if c is None else [np.resize(BIAS, c)]
    net.op("Gemm", "x", weights, *extra, alpha=alpha, beta=beta, transB=transposed, out="y")
    after = run_pass(fully_connected, net.model("y"))
    assert ops(after) == ["Dequantize", "Gemm"]
    assert in_form(after)
    kept = weights_of(node_of(after, "Gemm"))
    assert np.array_equal(kept.array, INTEGERS.T * int(np.sign(alpha)))
    assert np.allclose(kept.steps, STEPS[0] * abs(alpha))


def test_a_gemm_in_form_is_left_alone():
    net = Net(x=[2, 5])
    net.op("Gemm", "x", matrix(net, INTEGERS.T, STEPS.T), BIAS, transB=1, out="y")
    model = net.model("y")
    after = run_pass(fully_connected, model)
    assert [node.name for node in after.graph] == [node.name for node in model.graph]


def test_a_transposed_input_gets_a_transpose():
    net = Net(x=[5, 2])
    net.op("Gemm", "x", matrix(net), BIAS, transA=1, out="y")
    assert ops(run_pass(fully_connected, net.model("y"))) == ["Dequantize", "Transpose", "Gemm"]


@pytest.mark.parametrize("shape", [(2, 4), (2, 1)])
def test_a_c_per_row_becomes_an_addition(shape):
    net = Net(x=[2, 5])
    net.op("Gemm", "x", matrix(net), np.resize(BIAS, shape), beta=2.0, out="y")
    after = run_pass(fully_connected, net.model("y"))
    assert "Add" in ops(after)
    assert in_form(after)


def test_a_c_that_is_a_map_becomes_an_addition():
    net = Net(x=[2, 5], c=[2, 4])
    net.op("Gemm", "x", matrix(net), "c", out="y")
    assert ops(run_pass(fully_connected, net.model("y"))) == ["Dequantize", "Gemm", "Add"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_of_two_maps_becomes_matmul(transposed):
    net = Net(x=[2, 5], w=[4, 5] if transposed else [5, 4], c=[4])
    net.op("Gemm", "x", "w", "c", alpha=0.5, beta=2.0, transB=transposed, out="y")
    after = run_pass(fully_connected, net.model("y"))
    assert "MatMul" in ops(after)
    assert "Gemm" not in ops(after)


@pytest.mark.parametrize("addition", [None, "after", "before", "sub"])
@pytest.mark.parametrize("shape", [(1, 5), (3, 5), (1, 1, 5), (1, 1, 1, 5), (5,)])
def test_matmul_with_a_constant_becomes_gemm(addition, shape):
    net = Net(x=shape)
    value = net.op("MatMul", "x", matrix(net), out="y" if addition is None else None)
    operands = {"after": (value, BIAS), "before": (BIAS, value), "sub": (value, BIAS)}.get(addition)
    if operands:
        net.op("Sub" if addition == "sub" else "Add", *operands, out="y")
    after = run_pass(fully_connected, net.model("y"))
    around = [] if len(shape) == 2 else ["Reshape"]
    assert ops(after) == ["Dequantize", *around, "Gemm", *around]
    assert len(node_of(after, "Gemm").inputs) == (2 if addition is None else 3)


def test_matmul_with_float_weights_becomes_gemm():
    net = Net(x=[1, 5])
    net.op("MatMul", "x", RNG.normal(size=(5, 4)), out="y")
    assert ops(run_pass(fully_connected, net.model("y"))) == ["Gemm"]


@pytest.mark.parametrize(
    ("x", "w"), [((5,), (5,)), ((1, 5), (5,)), ((1, 5), (1, 5, 4)), ((1, 1, 5), (1, 5, 4))]
)
def test_vectors_and_matrices_in_a_stack_of_one_work(x, w):
    net = Net(x=x)
    net.op("MatMul", "x", RNG.normal(size=w), out="y")
    assert "Gemm" in ops(run_pass(fully_connected, net.model("y")))


@pytest.mark.parametrize("x", [(5, 1), (5,), (1, 5, 1)])
@pytest.mark.parametrize("bias", [None, (4, 1)])
def test_a_constant_left_operand_is_the_same_row_transposed(x, bias):
    net = Net(x=x)
    weights = matrix(net, INTEGERS.T, STEPS.T)
    value = net.op("MatMul", weights, "x", out="y" if bias is None else None)
    if bias is not None:
        net.op("Add", value, np.resize(BIAS, bias), out="y")
    assert "Gemm" in ops(run_pass(fully_connected, net.model("y")))


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 2, 5)])
def test_matmul_of_several_rows_in_more_dimensions_stays(shape):
    net = Net(x=shape)
    net.op("MatMul", "x", matrix(net), out="y")
    assert "MatMul" in ops(run_pass(fully_connected, net.model("y")))


def test_matmul_of_two_maps_stays():
    net = Net(x=[2, 5], w=[5, 4])
    net.op("Add", net.op("MatMul", "x", "w"), BIAS, out="y")
    assert ops(run_pass(fully_connected, net.model("y"))) == ["MatMul", "Add"]


@pytest.mark.parametrize("shape", [(3, 1), (3, 4), (2, 3, 4)])
def test_an_added_constant_that_is_no_bias_stays(shape):
    net = Net(x=[3, 5])
    net.op("Add", net.op("MatMul", "x", matrix(net)), np.resize(BIAS, shape), out="y")
    assert "Add" in ops(run_pass(fully_connected, net.model("y")))


def test_a_product_that_is_a_graph_output_keeps_its_addition():
    net = Net(x=[3, 5])
    net.op("MatMul", "x", matrix(net), out="m")
    net.op("Add", "m", BIAS, out="y")
    assert ops(run_pass(fully_connected, net.model("m", "y"))) == ["Dequantize", "Gemm", "Add"]


def test_shared_weights_are_transposed_once():
    net = Net(x=[2, 5], z=[1, 5])
    weights = matrix(net)
    net.op("MatMul", "x", weights, out="a")
    net.op("Gemm", "z", weights, BIAS, out="b")
    assert ops(run_pass(fully_connected, net.model("a", "b"))) == ["Dequantize", "Gemm", "Gemm"]


def test_weights_shared_with_other_readers_stay_for_them():
    net = Net(x=[1, 5], z=[5, 4])
    weights = matrix(net)
    net.op("MatMul", "x", weights, out="a")
    net.op("Add", "z", weights, out="b")
    assert ops(run_pass(fully_connected, net.model("a", "b"))).count("Dequantize") == 2


@pytest.mark.parametrize(("turned", "x"), [("transA", [5, 2]), ("transB", [2, 5])])
def test_the_transposes_that_are_made_survive_the_layout_pass(turned, x):
    """A Transpose without a shape was taken for one that moves nothing."""
    net = Net(x=x, w=[4, 5] if turned == "transB" else [5, 4])
    net.op("Gemm", "x", "w", BIAS, **{turned: 1}, out="y")
    after = run_pass([fully_connected, channels_first], net.model("y"))
    assert "Transpose" in ops(after)


def test_a_transpose_of_unknown_shape_stays_as_it_is():
    net = Net(x=[2, 3, 4, 5])
    net.op("Relu", net.op("Transpose", "x", perm=[0, 3, 1, 2]), out="y")
    model = net.model("y")
    for node in model.graph:
        node.outputs[0].shape = None
    channels_first(model, context())
    assert ops(model) == ["Transpose", "Relu"]
    assert list(node_of(model, "Transpose").attributes["perm"].as_ints()) == [0, 3, 1, 2]
