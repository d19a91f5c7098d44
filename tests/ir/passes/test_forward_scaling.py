import numpy as np
import pytest
from harness import Net, context, node_of, ops, run_pass

from dlaconv.ir import dialect
from dlaconv.ir.passes.forward_scaling import forward_scaling
from dlaconv.ir.rounding import Rounding

WINDOW = {"kernel_shape": (3, 3), "strides": (3, 3), "pads": (0, 0, 0, 0)}


def classifier(net, x, out="y"):
    """A fully connected layer of integer weights, with a bias that must stay."""
    integers = np.arange(-20, 20, dtype=np.int8).reshape(5, 8)
    weights = net.dequantize(net.const(integers, dtype=np.int8), np.float32(0.5))
    return net.op("Gemm", x, weights, np.arange(5, dtype=np.float32), transB=1, out=out)


def steps(model):
    found = [node for node in model.graph if dialect.is_quantize(node)]
    return [dialect.quantisation_of(node).scalar_step for node in found]


@pytest.mark.parametrize("form", ["factor last", "factor first", "divisor"])
def test_a_factor_goes_into_step_and_weights(form):
    net = Net(x=[1, 8])
    if form == "divisor":
        scaled = net.op("Div", "x", np.float32(0.25))
    else:
        operands = ["x", np.float32(4)]
        scaled = net.op("Mul", *(operands if form == "factor last" else operands[::-1]))
    classifier(net, net.quantize(scaled, 0.5))
    where = context()
    after = run_pass(forward_scaling, net.model("y"), where, tolerance=0.0)
    assert ops(after) == ["QuantizeHalfEven", "Dequantize", "Gemm"]
    assert steps(after) == [0.125]
    assert dialect.step_of(node_of(after, "Dequantize")) == 2.0
    assert [rewrite.name for rewrite in where.rewrites] == ["forward_scaling"]


def test_a_truncated_average_of_an_old_export():
    """Average times 9, drop 4 bits: every integer as before, on maps of other names."""
    net = Net(x=[1, 8, 3, 3])
    x = net.quantize("x", 2.0**-4)
    total = net.op("Mul", net.op("AveragePool", x, **WINDOW), np.float32(9 / 16))
    fine = net.quantize(total, 2.0**-8, bits=12)
    coarse = net.quantize(fine, 2.0**-4, rounding=Rounding.FLOOR, out="coarse")
    classifier(net, net.op("Reshape", coarse, np.array([1, 8]), out="flat"))
    after = run_pass(forward_scaling, net.model("y"), tolerance=1e-6)
    assert "Mul" not in ops(after)
    assert steps(after)[1:] == pytest.approx([2.0**-4 / 9, 2.0**-4 * 16 / 9])
    assert {"coarse", "flat"}.isdisjoint(v.name for node in after.graph for v in node.outputs)


def test_a_convolution_with_padding_takes_a_factor_too():
    net = Net(x=[1, 2, 6, 6])
    scaled = net.op("MaxPool", net.op("Relu", net.op("Mul", "x", np.float32(8))), **WINDOW)
    weights = np.random.default_rng(1).normal(size=(3, 2, 1, 1)).astype(np.float32)
    net.op("Conv", scaled, weights, kernel_shape=(1, 1), pads=(1, 1, 1, 1), out="y")
    after = run_pass(forward_scaling, net.model("y"), tolerance=1e-6)
    assert ops(after) == ["Relu", "MaxPool", "Conv"]


def test_a_zero_point_stays_the_same_integer():
    net = Net(x=[1, 8])
    scaled = net.op("Mul", "x", np.float32(0.5))
    classifier(net, net.quantize(scaled, 0.25, signed=False, zero_point=3))
    after = run_pass(forward_scaling, net.model("y"), tolerance=0.0)
    (node,) = (node for node in after.graph if dialect.is_quantize(node))
    assert dialect.quantisation_of(node).zero_point == 3


def stays(net, out="y"):
    model = net.model(*([out] if isinstance(out, str) else out))
    assert ops(run_pass(forward_scaling, model, tolerance=np.inf)) == ops(model)


def test_a_factor_in_front_of_an_output_stays():
    net = Net(x=[1, 8])
    net.quantize(net.op("Mul", "x", np.float32(4)), 0.5, out="y")
    stays(net)


@pytest.mark.parametrize("place", ["scaled", "quantised"])
def test_what_others_read_keeps_its_scale(place):
    net = Net(x=[1, 8])
    scaled = net.op("Mul", "x", np.float32(4), out="scaled")
    quantised = net.quantize(scaled, 0.5, out="quantised")
    classifier(net, quantised)
    net.op("Tanh", place, out="z")
    stays(net, ["y", "z"])


@pytest.mark.parametrize("factor", [-2.0, 0.0, np.inf, np.arange(1.0, 9.0)])
def test_other_factors_stay(factor):
    net = Net(x=[1, 8])
    classifier(net, net.op("Mul", "x", np.asarray(factor, np.float32)))
    stays(net)


def test_a_function_that_does_not_commute_stops_a_factor():
    net = Net(x=[1, 8])
    classifier(net, net.op("Tanh", net.op("Mul", "x", np.float32(4))))
    stays(net)


def test_steps_per_channel_stop_a_factor():
    net = Net(x=[1, 8])
    scaled = net.op("Mul", "x", np.float32(4))
    classifier(net, net.quantize(scaled, np.arange(1, 9, dtype=np.float32)))
    stays(net)


def test_a_factor_that_leaves_float32_stays():
    net = Net(x=[1, 8])
    classifier(net, net.quantize(net.op("Mul", "x", np.float32(1e-30)), 1e30))
    stays(net)
