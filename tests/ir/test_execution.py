"""Running models of the pipeline."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.execution import Executor, executable_proto, run, split_samples
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
