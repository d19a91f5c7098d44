"""Grids per element: what they compute, and the one grid that they become."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.element_grids import ElementGrids
from dlaconv.ir.execution import Executor
from dlaconv.ir.graph import register_constants
from dlaconv.ir.rounding import Rounding

F = np.float32


def grids(step, low, high, rounding=Rounding.HALF_UP, wraps=False):
    return ElementGrids(*(np.array(a, F) for a in (step, low, high)), rounding, wraps)


def run(x, wanted):
    value = ir.val("x", dtype=ir.DataType.FLOAT, shape=x.shape)
    node = dialect.fixed_point(value, wanted, name="q")
    graph = ir.Graph([value], list(node.outputs), nodes=[node], opset_imports={"": 18}, name="g")
    register_constants(graph, [node])
    (found,) = Executor(ir.Model(graph, ir_version=10)).run({"x": x}).values()
    return found, node


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("rounding", Rounding)
def test_the_body_computes_what_the_value_says(rounding, wraps):
    step = [[0.25, 0.5, 2.0, 1.0]]
    wanted = grids(step, [[-1, 0, -8, 0]], [[0.75, 3.5, 6, 0]], rounding, wraps)
    x = np.arange(-160, 160, dtype=F).reshape(80, 4) / 8
    found, node = run(x, wanted)
    np.testing.assert_array_equal(found, wanted.on_grid(x))
    assert ((found >= wanted.low) & (found <= wanted.high)).all()
    np.testing.assert_array_equal(found / wanted.step, np.rint(found / wanted.step))
    back = dialect.element_grids_of(node)
    assert (back.rounding, back.wraps) == (rounding, wraps)
    np.testing.assert_array_equal(back.step, wanted.step)


@given(x=st.floats(-100, 100, width=32), signed=st.booleans(), bits=st.integers(1, 7))
def test_what_wraps_comes_in_at_the_other_end(x, signed, bits):
    step, span = 0.25, 0.25 * 2**bits
    low = -span / 2 if signed else 0.0
    found = grids(step, low, low + span - step, wraps=True).on_grid(np.array(x, F))
    exact = np.floor(np.float64(F(x)) / step + 0.5) * step
    assert (exact - found) % span == 0
    assert low <= found < low + span


def test_what_saturates_stays_at_the_end():
    found = grids([0.25, 1.0], [-1.0, 0.0], [0.75, 3.0]).on_grid(np.array([[9, 9], [-9, -9]], F))
    np.testing.assert_array_equal(found, [[0.75, 3], [-1, 0]])


def test_elements_without_a_range_are_zero():
    found = grids([0.25, 1.0], [-1.0, 0.0], [0.75, 0.0])
    np.testing.assert_array_equal(found.live, [True, False])
    for wraps in (False, True):
        one = grids([0.25, 1.0], [-1.0, 0.0], [0.75, 0.0], wraps=wraps)
        assert one.on_grid(np.array([0.5, 7.3], F))[1] == 0


def one(*arguments, **more):
    found = grids(*arguments, **more).one_grid()
    return found.qmin, found.qmax, found.scalar_step


def test_one_grid_is_as_fine_as_the_finest_and_as_wide_as_the_widest():
    assert one([0.125, 1], [-1, 0], [0.875, 7]) == (-64, 63, 0.125)
    assert one([0.25, 0.5], [0, 0], [0.75, 7.5]) == (0, 31, 0.25)
    # elements that are zero do not count
    assert one([0.25, 2.0**-9], [0, 0], [0.75, 0]) == (0, 3, 0.25)


def test_a_format_without_its_smallest_number_stays_one():
    assert one([0.25, 0.25], [-0.75, -1.75], [0.75, 1.75]) == (-7, 7, 0.25)
    assert one([0.25, 0.25], [-0.75, -2], [0.75, 1.75]) == (-8, 7, 0.25)


def test_one_bit_with_a_sign_has_two_numbers():
    assert one(0.5, -0.5, 0) == (-1, 0, 0.5)


def test_one_grid_has_at_most_24_bits():
    found = grids([2.0**-20, 1], [-(2.0**-18), -(2.0**20)], [2.0**-18, 2.0**20 - 1]).one_grid()
    assert (found.bits, found.scalar_step) == (25, 2.0**-4)


def test_nothing_but_zeros_has_no_grid():
    assert grids([1.0, 2.0], [0, 0], [0, 0]).one_grid() is None


def test_steps_and_ends_are_compared_where_elements_are_not_zero():
    found = grids([1, 1, 4], [0, 0, 0], [3, 7, 0])
    assert found.same_step
    assert not found.same_range
    assert found.ends == (0, 7)
    assert not grids([1, 2], [0, 0], [3, 3]).same_step
    assert grids([1, 2], [0, 0], [0, 0]).same_range


def test_other_nodes_have_no_grid_per_element():
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1,))
    node = ir.node("Relu", [x], name="r")
    assert not dialect.is_fixed_point(node)
    assert not dialect.rounds(node)
    assert dialect.ends_of(node) is None
    with pytest.raises(ValueError, match="'r' has no grid per element"):
        dialect.element_grids_of(node)
