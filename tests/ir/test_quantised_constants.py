"""Integers of quantised constants: what they are, and that they are computed once."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import quantised_constants
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.quantised_constants import constant_integers
from dlaconv.ir.rounding import Rounding

RNG = np.random.default_rng(0)
REALS = RNG.standard_normal((40, 30)).astype(np.float32) * 3


def test_the_integers_are_those_of_the_quantisation_in_the_smallest_type():
    for bits, dtype in ((4, np.int8), (8, np.int8), (12, np.int16), (20, np.int32)):
        quantisation = Quantisation.of(2.0 ** (3 - bits), bits, rounding=Rounding.HALF_AWAY)
        found = constant_integers(ir.Tensor(REALS), quantisation)
        assert found.dtype == dtype
        assert np.array_equal(found, quantisation.integers(REALS))
    few = Quantisation.of(1.0, 16)
    assert constant_integers(ir.Tensor(REALS), few).dtype == np.int8


def test_zero_points_are_taken_off_and_steps_may_differ_by_row():
    steps = RNG.uniform(0.01, 0.1, (40, 1)).astype(np.float32)
    points = RNG.integers(0, 20, (40, 1)).astype(np.float32)
    quantisation = Quantisation.of(steps, 8, signed=False, zero_point=points)
    found = constant_integers(ir.Tensor(REALS), quantisation)
    assert np.array_equal(found, quantisation.integers(REALS) - points)


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_what_is_no_integer_of_float32_has_none(value):
    reals = REALS.copy()
    reals[17, 3] = value
    assert constant_integers(ir.Tensor(reals), Quantisation.of(1.0, 31)) is None
    point = Quantisation.of(1.0, 8, zero_point=0.5)
    assert constant_integers(ir.Tensor(REALS), point) is None


@pytest.mark.parametrize("shape", [(), (0, 3), (1,)])
def test_constants_of_any_shape_have_integers_of_that_shape(shape):
    found = constant_integers(ir.Tensor(np.full(shape, 2.6, np.float32)), Quantisation.of(1.0))
    assert found.shape == shape
    assert (found == 3).all()


def test_they_are_computed_once_while_somebody_holds_them(monkeypatch):
    count = []
    compute = quantised_constants._quantised
    monkeypatch.setattr(
        quantised_constants, "_quantised", lambda *args: count.append(1) or compute(*args)
    )
    tensor = ir.Tensor(REALS)
    first = constant_integers(tensor, Quantisation.of(0.5))
    again = constant_integers(tensor, Quantisation.of(0.5))
    assert np.shares_memory(first, again)
    assert len(count) == 1
    other = constant_integers(tensor, Quantisation.of(0.25))
    constant_integers(ir.Tensor(REALS), Quantisation.of(0.5))
    assert len(count) == 3
    gone = weakref.ref(first.base if first.base is not None else first)
    del first, again
    gc.collect()
    assert gone() is None
    assert np.array_equal(
        constant_integers(tensor, Quantisation.of(0.5)), Quantisation.of(0.5).integers(REALS)
    )
    assert len(count) == 4
    assert other.dtype == np.int8
