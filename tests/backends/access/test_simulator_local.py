"""Every layer on given inputs: integers, half-integers, reals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import random_feeds, random_networks
from scaled_net import Net

from dlaconv.backends.access.reference import run_reference
from dlaconv.backends.access.semantics.layer import MOVES, evaluate
from dlaconv.backends.access.semantics.tables import rounded_function
from dlaconv.backends.access.simulator import LocalSimulator, local_outputs
from dlaconv.ir.layers import TABLES, network_of
from dlaconv.ir.rounding import Rounding, round_exact


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=random_networks(), seed=st.integers(0, 999), mode=st.sampled_from(Rounding))
def test_fed_with_its_own_integers_a_network_repeats_itself(model, seed, mode):
    network = network_of(model)
    expected = run_reference(network, random_feeds(network, seed), rounding=mode)
    got = local_outputs(network, expected, rounding=mode)
    for layer in network.layers:
        np.testing.assert_array_equal(got[layer.output.name], expected[layer.output.name])


def on_half_units(layer, doubled, mode):
    """A layer on half units by the reference: an input step half as large, integers doubled."""
    output = layer.output
    if layer.op in MOVES or layer.rectifier is layer.node:
        wide = replace(output, qmin=-600, qmax=600)
        below = tuple(replace(source, qmin=-600) for source in layer.inputs)
        moved = replace(layer, output=wide, inputs=below)
        if layer.rectifier is layer.node:
            slopes = np.zeros(1) if layer.slopes is None else layer.slopes
            slopes = np.broadcast_to(slopes, doubled[0].shape)
            halves = [
                Fraction(int(n), 2) * (1 if n >= 0 else Fraction(float(s)))
                for n, s in zip(doubled[0].flat, slopes.flat, strict=True)
            ]
        else:
            halves = [Fraction(int(n), 2) for n in evaluate(moved, doubled, rounding=mode).flat]
        rounded = [round_exact(half, mode) for half in halves]
        return np.clip(rounded, output.qmin, output.qmax).reshape(output.shape)
    if layer.op in TABLES:
        steps = layer.inputs[0].step, output.step
        low = max(output.qmin, 0) if layer.activation else output.qmin
        entry = [rounded_function(layer.op, steps[0] * int(n) / 2, steps[1], mode)
                 for n in doubled[0].flat]  # fmt: skip
        return np.clip(entry, low, output.qmax).reshape(output.shape)
    inputs = tuple(replace(source, exponent=source.exponent - 1) for source in layer.inputs)
    weights = layer.weights
    if weights is not None and weights.bias is not None:
        weights = replace(weights, bias=weights.bias * 2)
    return evaluate(replace(layer, inputs=inputs, weights=weights), doubled, rounding=mode)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=random_networks(), seed=st.integers(0, 999), mode=st.sampled_from(Rounding))
def test_half_units_are_exact(model, seed, mode):
    network = network_of(model)
    rng = np.random.default_rng(seed)
    doubled = {
        name: rng.integers(2 * stored.qmin, 2 * stored.qmax + 2, stored.shape)
        for name, stored in network.maps.items()
    }
    got = local_outputs(network, {name: n / 2 for name, n in doubled.items()}, rounding=mode)
    for layer in network.layers:
        inputs = [doubled[source.name] for source in layer.inputs]
        expected = on_half_units(layer, inputs, mode)
        np.testing.assert_array_equal(got[layer.output.name], expected, err_msg=layer.op)


def chain():
    net = Net()
    x = net.input((1, 4), 0)
    a = net.gemm(x, np.eye(4), [0.5] * 4, 0)
    b = net.gemm(a, np.eye(4) * 3, [0.5] * 4, 0)
    return net.model(b), a.name, b.name


def test_a_given_map_hides_what_its_layer_computed():
    model, a, b = chain()
    got = local_outputs(network_of(model), {"in0": [[2, 4, 6, 8]], a: [[1, 1, 3, 100]]})
    assert got[a].tolist() == [[1, 2, 3, 4]]  # still reported
    assert got[b].tolist() == [[2, 2, 4, 127]]  # 1.5, 1.5, 4.5, 150


def test_a_map_without_values_is_computed_from_those_before_it():
    model, a, b = chain()
    got = local_outputs(network_of(model), {"in0": [[2, 4, 6, 8]]})
    assert got[b].tolist() == [[2, 3, 4, 6]]  # 1.5, 3, 4.5, 6
    assert got[a].tolist() == [[1, 2, 3, 4]]


def test_half_units_double_the_bound_and_the_bias():
    net = Net()
    x = net.input((1, 1000))
    w = np.full((2, 1000), 100)
    y = net.gemm(x, w, [Fraction(1, 255 * 2**9)] * 2, 0, bias=[2_000_000, 1])
    network = network_of(net.model(y))
    for units in (0.5, 100.5, 127.5):  # one kernel for the first, else more than 2^24
        acc = 1000 * 100 * Fraction(units) + np.array([2_000_000, 1])
        expected = [min(127, round_exact(n / (255 * 2**9), Rounding.HALF_EVEN)) for n in acc]
        got = local_outputs(network, {"in0": np.full((1, 1000), units)})
        assert got[y.name].tolist() == [expected]


def test_half_units_reach_half_a_unit_past_the_range():
    model, a, b = chain()
    got = local_outputs(network_of(model), {"in0": np.zeros((1, 4)), a: [[127.5, 0.5, -0.5, 1.5]]})
    assert got[b].tolist() == [[127, 1, -1, 2]]  # 191.25, 0.75, -0.75, 2.25


def test_other_reals_are_evaluated_as_they_are():
    model, a, b = chain()
    got = local_outputs(network_of(model), {"in0": np.zeros((1, 4)), a: [[0.3, 0.7, 40.1, 300.0]]})
    assert got[b].tolist() == [[0, 1, 60, 127]]  # 0.45, 1.05, 60.15, 450


@pytest.mark.parametrize("op_type", TABLES)
def test_tables_take_reals(op_type):
    net = Net()
    x = net.input((1, 3), -3)
    y = net.unary(op_type, x, -7)
    reals = np.array([[3.3, -9.7, 12.01]])
    got = local_outputs(network_of(net.model(y)), {"in0": reals})
    real = reals / 8
    exact = {
        "Tanh": np.tanh(real),
        "Sigmoid": 1 / (1 + np.exp(-real)),
        "HardSwish": real * np.clip(real / 6 + 0.5, 0, 1),
    }[op_type]
    assert np.abs(got[y.name] - np.clip(exact * 128, -128, 127)).max() <= 0.6


def test_a_session_serves_integers_after_half_units():
    model, a, b = chain()
    simulator = LocalSimulator(network_of(model))
    zero = np.zeros((1, 4))
    for given_, expected in (([1, 2, 3, 4], [2, 3, 4, 6]), ([1.5, 2, 3, 4], [2, 3, 4, 6]),
                             ([5, 6, 7, 8], [8, 9, 10, 12])):  # fmt: skip
        assert simulator.run({"in0": zero, a: np.array([given_])})[b].tolist() == [expected]


def test_refuses_missing_inputs_unknown_names_and_wrong_shapes():
    model, a, _ = chain()
    network = network_of(model)
    with pytest.raises(ValueError, match="no values for graph input 'in0'"):
        local_outputs(network, {a: np.zeros((1, 4))})
    with pytest.raises(ValueError, match="no map is called 'b'"):
        local_outputs(network, {"in0": np.zeros((1, 4)), "b": np.zeros(1)})
    with pytest.raises(ValueError, match="has shape"):
        local_outputs(network, {"in0": np.zeros((1, 5))})
