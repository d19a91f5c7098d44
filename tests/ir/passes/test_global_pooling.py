import numpy as np
import pytest
from harness import Net, ops, run_pass

from dlaconv.ir.passes.global_pooling import global_pooling


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_space_becomes_global_pooling(axes, keepdims):
    net = Net(x=[1, 3, 7, 5])
    net.op("ReduceMean", "x", np.array(axes), keepdims=keepdims, out="y")
    after = run_pass(global_pooling, net.model("y"))
    assert ops(after) == ["GlobalAveragePool", *([] if keepdims else ["Reshape"])]
    names = [node.outputs[0].name for node in after.graph]
    assert names == (["y"] if keepdims else [after.graph[0].name, "y"])
    assert all(name and not name.startswith("val_") for name in names)


def test_one_dimensional_maps_work_too():
    net = Net(x=[1, 3, 7])
    net.op("ReduceMean", "x", np.array([2]), out="y")
    assert ops(run_pass(global_pooling, net.model("y"))) == ["GlobalAveragePool"]


@pytest.mark.parametrize("axes", [[1, 2], [3], [1, 2, 3], [0]])
def test_other_means_stay(axes):
    net = Net(x=[1, 3, 7, 5])
    net.op("ReduceMean", "x", np.array(axes), out="y")
    assert ops(run_pass(global_pooling, net.model("y"))) == ["ReduceMean"]


def test_a_mean_over_everything_stays():
    net = Net(x=[1, 3, 7, 5])
    net.op("ReduceMean", "x", out="y")
    assert ops(run_pass(global_pooling, net.model("y"))) == ["ReduceMean"]


def test_a_mean_over_the_columns_of_a_matrix_stays():
    net = Net(x=[2, 3])
    net.op("ReduceMean", "x", np.array([1]), out="y")
    assert ops(run_pass(global_pooling, net.model("y"))) == ["ReduceMean"]


def test_an_average_pool_over_the_whole_map_stays():
    net = Net(x=[1, 3, 7, 5])
    net.op("AveragePool", "x", kernel_shape=[7, 5], out="y")
    assert ops(run_pass(global_pooling, net.model("y"))) == ["AveragePool"]
