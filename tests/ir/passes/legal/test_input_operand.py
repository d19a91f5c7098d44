"""Sums with a graph input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.passes.legal.input_operand import input_operand
from dlaconv.ir.rounding import Rounding
from tests.ir.passes.harness import Net, context, run_pass
from tests.ir.passes.legal.support import operators


@settings(max_examples=30)
@given(
    channels=st.integers(1, 4),
    size=st.lists(st.integers(1, 6), max_size=3),
    quantised=st.booleans(),
    both=st.booleans(),
)
def test_a_graph_input_goes_through_a_layer(channels, size, quantised, both):
    net = Net(x=[1, channels, *size], z=[1, channels, *size])
    x = net.quantize("x", rounding=Rounding.FLOOR) if quantised else "x"
    other = "z" if both else net.quantize(net.op("Relu", "z"))
    y = net.op("Add", other, x)
    after = run_pass(input_operand.as_pass(), net.model(y), tolerance=0)
    layer = "Conv" if size else "Gemm"
    assert operators(after).count(layer) == (2 if both else 1)
    made = [n for n in after.graph if dialect.is_quantize(n) and "stored" in n.name]
    assert [dialect.rounding_of(node) for node in made] == [Rounding.HALF_EVEN] * quantised


def test_one_layer_serves_both_operands():
    net = Net(x=[1, 4, 5, 5])
    after = run_pass(input_operand.as_pass(), net.model(net.op("Add", "x", "x")))
    assert operators(after) == ["Conv", "Add"]


def test_computed_maps_and_constants_are_left_alone():
    net = Net(x=[1, 4, 5, 5])
    value = net.op("Relu", "x")
    model = net.model(net.op("Add", value, value), net.op("Div", "x", np.float32(3)))
    assert operators(run_pass(input_operand.as_pass(), model)) == ["Relu", "Add", "Div"]


@pytest.mark.parametrize(("channels", "possible"), [(2048, True), (2049, False)])
def test_more_channels_than_the_hardware_has_are_told(channels, possible):
    net, noted = Net(x=[1, channels, 1, 1]), context()
    after = run_pass(input_operand.as_pass(), net.model(net.op("Add", "x", "x")), noted)
    assert operators(after) == (["Conv", "Add"] if possible else ["Add"])
    assert bool(noted.blocked) != possible
