import numpy as np
import pytest
from harness import Net, ops, run_pass

from dlaconv.ir.passes.pool_activated import pool_activated

WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2]}
SLOPES = np.array([0.5, 0.0, 0.25]).reshape(3, 1, 1)


def swapped(net, *outputs):
    return ops(run_pass(pool_activated, net.model(*outputs)))


@pytest.mark.parametrize(
    ("op_type", "slopes", "attributes"),
    [
        ("Relu", [], {}),
        ("LeakyRelu", [], {"alpha": 0.1}),
        ("LeakyRelu", [], {"alpha": 0.0}),
        ("PRelu", [SLOPES], {}),
        ("PRelu", [0.25], {}),
    ],
)
@pytest.mark.parametrize("pool", ["MaxPool", "GlobalMaxPool"])
def test_an_activation_goes_before_the_pool(op_type, slopes, attributes, pool):
    net = Net(x=[1, 3, 6, 6])
    pooled = net.op(pool, "x", **(WINDOW if pool == "MaxPool" else {}))
    y = net.op(op_type, pooled, *slopes, out="y", **attributes)
    assert swapped(net, y) == [op_type, pool]


def test_it_goes_before_all_of_several_pools():
    net = Net(x=[1, 3, 8, 8])
    pooled = net.op("MaxPool", net.op("MaxPool", "x", **WINDOW), **WINDOW)
    assert swapped(net, net.op("Relu", pooled, out="y")) == ["Relu", "MaxPool", "MaxPool"]


@pytest.mark.parametrize(
    ("op_type", "slopes", "attributes"),
    [
        ("LeakyRelu", [], {"alpha": -0.1}),
        ("PRelu", [-SLOPES], {}),
        ("PRelu", [np.array([0.1, 0.2, 0.3])], {}),  # along the columns
        ("Tanh", [], {}),
    ],
)
def test_what_does_not_commute_stays(op_type, slopes, attributes):
    net = Net(x=[1, 3, 6, 6])
    y = net.op(op_type, net.op("MaxPool", "x", **WINDOW), *slopes, out="y", **attributes)
    assert swapped(net, y) == ["MaxPool", op_type]


def test_an_average_is_no_maximum():
    net = Net(x=[1, 3, 6, 6])
    y = net.op("Relu", net.op("AveragePool", "x", **WINDOW), out="y")
    assert swapped(net, y) == ["AveragePool", "Relu"]


def test_a_pool_that_others_read_stays():
    net = Net(x=[1, 3, 6, 6])
    pooled = net.op("MaxPool", "x", out="p", **WINDOW)
    assert swapped(net, pooled, net.op("Relu", pooled, out="y")) == ["MaxPool", "Relu"]


def test_a_layer_that_others_read_stays():
    net = Net(x=[1, 3, 6, 6])
    z = net.op("Neg", "x", out="z")
    y = net.op("Relu", net.op("MaxPool", z, **WINDOW), out="y")
    assert swapped(net, z, y) == ["Neg", "MaxPool", "Relu"]
