import numpy as np
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.passes.maps.redundant_rounding import redundant_rounding
from dlaconv.ir.pipeline import Context
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net, outputs

WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "ceil_mode": 0}


def average_of(
    first_step, *, first_bits=10, between=(), op_type="AveragePool", signed=True, **window
):
    """Input in steps of 1/16, average of four, a first quantiser, and one of 8 bits."""
    net = Net(3)
    value = net.quantise(net.x, 1 / 16)
    for name in between:
        value = net.op(name, value)
    if op_type == "AveragePool":
        attributes = {**WINDOW, "count_include_pad": 0, **window}
        value = net.op(op_type, value, shape=(1, 16, 4, 4), **attributes)
    else:
        value = net.op(op_type, value, shape=(1, 16, 1, 1))
    value = net.quantise(value, first_step, first_bits, signed=signed)
    return net.output(net.quantise(value, 1 / 8, rounding=Rounding.FLOOR))


def quantisers_after(net):
    """How many are left; the outputs must be what they were."""
    model = net.model.clone()
    redundant_rounding(model, Context(target=Target.load()))
    dialect.install(model)
    np.testing.assert_array_equal(outputs(net.model, net.data), outputs(model, net.data))
    return sum(map(dialect.is_quantize, model.graph))


@pytest.mark.parametrize("step", [1 / 64, 1 / 128])
def test_a_rounding_to_a_step_that_every_average_meets_is_dropped(step):
    assert quantisers_after(average_of(step, first_bits=11)) == 2


def test_operators_that_move_integers_stand_in_between():
    assert quantisers_after(average_of(1 / 64, between=("Relu",))) == 2


def test_a_global_average_counts_every_position():
    wide = average_of(1 / 1024, first_bits=14, op_type="GlobalAveragePool")
    assert quantisers_after(wide) == 2
    assert quantisers_after(average_of(1 / 64, op_type="GlobalAveragePool")) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"first_step": 1 / 32},
        {"first_step": 1 / 96},
        {"first_step": 1 / 64, "first_bits": 8},
        {"first_step": 1 / 64, "signed": False},
        {"first_step": 1 / 64, "pads": [1, 1, 1, 1], "strides": [3, 3]},
        {"first_step": 1 / 64, "between": ("Sigmoid",)},
    ],
    ids=["coarser", "no fraction", "clips", "clips below", "windows of several sizes", "no grid"],
)
def test_a_rounding_that_changes_something_stays(settings):
    assert quantisers_after(average_of(**settings)) == 3
