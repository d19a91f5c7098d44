"""Running models of the pipeline."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.errors import ConversionError
from dlaconv.ir import dialect
from dlaconv.ir.blocks import BlockTensor
from dlaconv.ir.execution import (
    Executor,
    executable_proto,
    hold_weights,
    run,
    split_samples,
)
from dlaconv.ir.graph import register_constants
from dlaconv.ir.quantisation import Quantisation


def twice_quantised():
    """x -> Quantize(1) -> Quantize(2): an optimiser could take them for one."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1, 3))
    first = dialect.quantize(x, Quantisation.of(1.0), name="a", output="fine")
    second = dialect.quantize(first.outputs[0], Quantisation.of(2.0), name="b", output="coarse")
    graph = ir.Graph([x], second.outputs, nodes=[first, second], opset_imports={"": 18}, name="g")
    register_constants(graph, [first, second])
    return ir.Model(graph, ir_version=10)


FEEDS = {"x": np.array([[0.6, 2.6, 5.4]], np.float32)}


def test_returns_the_graph_outputs():
    got = run(twice_quantised(), FEEDS)
    assert list(got) == ["coarse"]
    assert got["coarse"].tolist() == [[0, 4, 4]]  # 1/2, 3/2, 5/2 to even


def test_returns_any_value_asked_for():
    got = run(twice_quantised(), FEEDS, ["fine", "coarse"])
    assert got["fine"].tolist() == [[1, 3, 5]]
    assert run(twice_quantised(), FEEDS, ["fine"]).keys() == {"fine"}


def test_the_model_keeps_its_outputs():
    model = twice_quantised()
    run(model, FEEDS, ["fine"])
    assert [value.name for value in model.graph.outputs] == ["coarse"]
    assert [value.name for value in executable_proto(model).graph.output] == ["coarse"]


def test_an_executor_runs_many_samples():
    executor = Executor(twice_quantised())
    stacked = {"x": np.array([[1.0, 2, 3], [4, 5, 7]], np.float32)}
    got = [executor.run(feeds)["coarse"].tolist() for feeds in split_samples(stacked)]
    assert got == [[[0, 2, 4]], [[4, 4, 8]]]


def test_samples_are_cut_along_the_first_axis():
    cut = list(split_samples({"a": np.zeros((3, 2)), "b": np.ones((3, 4, 5))}))
    assert [feeds["a"].shape for feeds in cut] == [(1, 2)] * 3
    assert cut[0]["b"].shape == (1, 4, 5)
    assert list(split_samples({})) == []


def test_a_model_that_onnxruntime_rejects_is_a_value_error():
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1,))
    node = ir.node("NoSuchOperator", [x], name="n")
    node.outputs[0].name = "y"
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 18}, name="g")
    with pytest.raises(ValueError, match="NoSuchOperator"):
        Executor(ir.Model(graph, ir_version=10))


def with_weights(*, graph_output=False):
    """x + large constant, and a large constant that nobody reads."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(4096,))
    used, unused = (dialect.constant(name, LARGE) for name in ("used", "unused"))
    node = ir.node("Add", [x, used], name="add")
    total = node.outputs[0]
    total.name, total.dtype, total.shape = "total", ir.DataType.FLOAT, ir.Shape((4096,))
    outputs = [total, used] if graph_output else [total]
    graph = ir.Graph([x], outputs, nodes=[node], opset_imports={"": 18}, name="g")
    graph.register_initializer(used)
    graph.register_initializer(unused)
    return ir.Model(graph, ir_version=10)


LARGE = np.arange(4096, dtype=np.float32)


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize("graph_output", [False, True])
def test_large_weights_take_part_and_stay_in_the_model(optimise, graph_output):
    model = with_weights(graph_output=graph_output)
    executor = Executor(model, optimise=optimise)
    assert executor.inputs == ("x",)
    for value in (1, 2):
        got = executor.run({"x": np.full(4096, value, np.float32)})
        assert np.array_equal(got["total"], LARGE + value)
        assert not graph_output or np.array_equal(got["used"], LARGE)
    assert np.array_equal(model.graph.initializers["used"].const_value.numpy(), LARGE)
    assert list(model.graph.initializers) == ["used", "unused"]
    assert [value.name for value in model.graph.inputs] == ["x"]


def test_a_value_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no value 'nothing'"):
        Executor(twice_quantised(), ["nothing"])


def test_what_the_results_do_not_need_is_not_run():
    proto = executable_proto(with_weights(), ["x"])
    assert not proto.graph.node
    assert not proto.graph.initializer


def test_nothing_is_fetched_if_nothing_is_asked_for():
    assert run(twice_quantised(), FEEDS, []) == {}


def test_a_result_beyond_all_memory_is_a_memory_error():
    shape = ir.val("shape", const_value=ir.tensor(np.array([1 << 55], np.int64)))
    node = ir.node("ConstantOfShape", [shape], name="n")
    node.outputs[0].name = "y"
    graph = ir.Graph([], node.outputs, nodes=[node], opset_imports={"": 18}, name="g")
    register_constants(graph, [node])
    with pytest.raises(MemoryError):
        run(ir.Model(graph, ir_version=10), {})


@pytest.mark.parametrize("shape", [(2, 3), (1, 4), (3,), (1, 1, 3)])
def test_a_sample_of_another_shape_is_told_in_terms_of_the_network(shape):
    executor = Executor(twice_quantised())
    with pytest.raises(ConversionError) as caught:
        executor.run({"x": np.zeros(shape, np.float32)})
    (error,) = caught.value.diagnostics
    assert error.rule == "DLA310"
    assert "'x' takes [1,3]" in error.message
    assert str(list(shape)) in error.message
    assert "--set-shape x=" in error.help


def test_an_open_size_takes_any_sample():
    model = twice_quantised()
    model.graph.inputs[0].shape = ir.Shape(["N", 3])
    assert run(model, {"x": np.ones((5, 3), np.float32)})["coarse"].shape == (5, 3)


@pytest.mark.parametrize("processors", [1, 2, 8])
def test_samples_run_at_once_give_what_they_give_alone_and_in_order(processors, monkeypatch):
    monkeypatch.setattr("dlaconv.ir.execution.processors", lambda: processors)
    feeds = [{"x": np.full((1, 3), i, np.float32)} for i in range(20)]
    executor = Executor(twice_quantised(), samples=len(feeds))
    got = executor.run_each(iter(feeds), lambda results: results["coarse"].tolist())
    assert list(got) == [executor.run(one)["coarse"].tolist() for one in feeds]


def test_a_sample_among_many_that_does_not_fit_is_an_error_of_the_user():
    executor = Executor(twice_quantised(), samples=8)
    feeds = [{"x": np.zeros((1, 3 + (i == 5)), np.float32)} for i in range(8)]
    with pytest.raises(ConversionError):
        list(executor.run_each(feeds, lambda results: None))


def unaligned(array):
    """The same numbers at an address that is no multiple of their size, as in a mapped file."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    memory[1:] = array.reshape(-1).view(np.uint8)
    return memory[1:].view(array.dtype).reshape(array.shape)


@pytest.mark.parametrize("optimise", [False, True])
def test_held_weights_are_the_same_and_lie_where_numbers_may(optimise):
    model = with_weights()
    initializers = model.graph.initializers
    computed = BlockTensor(lambda rows: 2 * LARGE[rows], ir.DataType.FLOAT, (4096,), "unused")
    initializers["used"].const_value = ir.Tensor(unaligned(LARGE), name="used")
    initializers["unused"].const_value = computed
    hold_weights(model)
    for name, wanted in (("used", LARGE), ("unused", 2 * LARGE)):
        array = initializers[name].const_value.numpy()
        assert np.array_equal(array, wanted)
        assert array.flags.aligned
        assert initializers[name].const_value.numpy() is array
    got = Executor(model, optimise=optimise).run({"x": np.ones(4096, np.float32)})
    assert np.array_equal(got["total"], LARGE + 1)


def test_held_weights_are_not_copied_again():
    model = with_weights()
    hold_weights(model)
    held = model.graph.initializers["used"].const_value.numpy()
    executor = Executor(model)
    assert any(np.shares_memory(array, held) for array in executor._fed.values())


@pytest.mark.parametrize("optimise", [False, True])
def test_weights_that_are_used_once_a_sample_stay_inputs_and_count_all_the_same(optimise):
    """A convolution over a map, one down to a single value, and a matrix product."""
    rng = np.random.default_rng(0)

    def drawn(name, shape):
        return dialect.constant(name, rng.integers(-3, 4, shape).astype(np.float32))

    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1, 8, 6, 6))
    nodes = [ir.node("Conv", [x, drawn("w0", (32, 8, 3, 3))], name="map")]
    nodes.append(ir.node("Conv", [nodes[-1].outputs[0], drawn("w1", (64, 32, 4, 4))], name="one"))
    nodes.append(ir.node("Flatten", nodes[-1].outputs, {"axis": 1}, name="flat"))
    nodes.append(
        ir.node("Gemm", [nodes[-1].outputs[0], drawn("w2", (32, 64))], {"transB": 1}, name="gemm")
    )
    shapes = [(1, 32, 4, 4), (1, 64, 1, 1), (1, 64), (1, 32)]
    for node, shape in zip(nodes, shapes, strict=True):
        node.outputs[0].name, node.outputs[0].shape = f"{node.name}/out", ir.Shape(shape)
        node.outputs[0].dtype = ir.DataType.FLOAT
    graph = ir.Graph([x], nodes[-1].outputs, nodes=nodes, opset_imports={"": 18}, name="g")
    register_constants(graph, nodes)
    executor = Executor(ir.Model(graph, ir_version=10), optimise=optimise)
    feed = rng.integers(-3, 4, (1, 8, 6, 6)).astype(np.float32)
    got = executor.run({"x": feed})["gemm/out"]
    w0, w1, w2 = (graph.initializers[name].const_value.numpy() for name in ("w0", "w1", "w2"))
    windows = np.lib.stride_tricks.sliding_window_view(feed[0], (3, 3), (1, 2))
    first = np.einsum("cijkl,ockl->oij", windows, w0)
    assert np.array_equal(got[0], w2 @ np.einsum("cij,ocij->o", first, w1))
    assert executor.inputs == ("x",)
    assert set(executor._fed) == ({"w1", "w2"} if optimise else {"w0", "w1", "w2"})
