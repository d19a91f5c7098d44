import numpy as np
import pytest
from harness import Net, context, ops, run_pass

from dlaconv.ir import dialect
from dlaconv.ir.passes.absorb_scaling import absorb_scaling
from dlaconv.ir.rounding import Rounding

SCALE = np.float32(2.0**-6 / 49)


def truncation(net, x="x", scale=SCALE, drop=64.0):
    """A Trunc as the QONNX frontend writes it."""
    fine = net.quantize(net.op("Div", x, scale), 1.0, bits=14, signed=False)
    coarse = net.quantize(fine, drop, signed=False, rounding=Rounding.FLOOR)
    return net.op("Mul", coarse, scale, out="y")


def steps(model):
    return [
        dialect.quantisation_of(node).scalar_step
        for node in model.graph
        if dialect.is_quantize(node)
    ]


def test_scalings_that_cancel_move_into_the_steps():
    net = Net(x=[1, 4])
    truncation(net)
    where = context()
    after = run_pass(absorb_scaling, net.model("y"), where)
    assert ops(after) == ["QuantizeHalfEven", "QuantizeFloor"]
    assert steps(after) == [float(SCALE), float(np.float32(SCALE * 64))]
    assert after.graph.outputs[0].name == "y"
    assert [rewrite.name for rewrite in where.rewrites] == ["absorb_scaling"]


@pytest.mark.parametrize("scale", [0.25, 2.0**-6])
def test_integers_at_powers_of_two_are_the_same(scale):
    net = Net(x=[1, 2000])
    truncation(net, scale=np.float32(scale))
    model = net.model("y")
    after = run_pass(absorb_scaling, model)
    x = np.arange(2000, dtype=np.float32).reshape(1, -1) * np.float32(scale)
    from dlaconv.ir.execution import run

    assert np.array_equal(run(model, {"x": x})["y"], run(after, {"x": x})["y"])


def test_the_number_may_be_the_first_operand():
    net = Net(x=[1, 4])
    q = net.quantize(net.op("Mul", np.float32(4), "x"), 1.0)
    net.op("Mul", np.float32(0.25), q, out="y")
    after = run_pass(absorb_scaling, net.model("y"))
    assert (ops(after), steps(after)) == (["QuantizeHalfEven"], [0.25])


@pytest.mark.parametrize("readers", ["between", "output"])
def test_a_value_that_others_read_is_kept(readers):
    net = Net(x=[1, 4])
    scaled = net.op("Div", "x", np.float32(0.5), out="s")
    fine = net.quantize(scaled, 1.0, out="q")
    outputs = ["y", "q"] if readers == "output" else ["y"]
    net.op("Mul", fine, np.float32(0.5), out="m")
    net.op("Add", "m", "s" if readers == "between" else "x", out="y")
    assert "Div" in ops(run_pass(absorb_scaling, net.model(*outputs)))


@pytest.mark.parametrize("back", [0.25, -0.5, 0.0])
def test_scalings_that_do_not_cancel_stay(back):
    net = Net(x=[1, 4])
    fine = net.quantize(net.op("Div", "x", np.float32(0.5)), 1.0)
    net.op("Mul", fine, np.float32(back), out="y")
    assert ops(run_pass(absorb_scaling, net.model("y"))) == ["Div", "QuantizeHalfEven", "Mul"]


def test_scalings_without_a_quantisation_between_are_left_to_others():
    net = Net(x=[1, 4])
    net.op("Mul", net.op("Div", "x", np.float32(0.5)), np.float32(0.5), out="y")
    assert ops(run_pass(absorb_scaling, net.model("y"))) == ["Div", "Mul"]


def test_scalings_per_channel_stay():
    net = Net(x=[1, 4])
    by = np.float32([1, 2, 3, 4])
    net.op("Mul", net.quantize(net.op("Div", "x", by), 1.0), by, out="y")
    assert ops(run_pass(absorb_scaling, net.model("y"))) == ["Div", "QuantizeHalfEven", "Mul"]
