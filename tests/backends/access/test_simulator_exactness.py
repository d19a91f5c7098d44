"""Where float arithmetic is closest to going wrong."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scaled_net import Net

from dlaconv.backends.access.engine import precision
from dlaconv.backends.access.engine.precision import DOUBLE, SINGLE, Term
from dlaconv.backends.access.reference import run_reference
from dlaconv.backends.access.simulator import Simulator
from dlaconv.errors import ConversionError
from dlaconv.ir.layers import network_of
from dlaconv.ir.rounding import Rounding, round_exact

MODES = [Rounding.HALF_EVEN, Rounding.HALF_UP, Rounding.HALF_ZERO, Rounding.FLOOR, Rounding.UP]


def assert_exact(model, feeds, rounding=Rounding.HALF_EVEN):
    network = network_of(model)
    simulator = Simulator(model, rounding=rounding, fetch="all")
    got = simulator.run(feeds)
    expected = run_reference(network, feeds, rounding=rounding)
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])
    return simulator


GRIDS = {"2^n/a": lambda a: Fraction(1, 2**10 * a), "a/2^n": lambda a: Fraction(a, 2**25)}


def near_ties(weight, x, taps, steps):
    """Weights of both signs, and biases that bring the sums next to a tie and onto it."""
    weights, bias, used = [], [], []
    for step in steps:
        for sign in (-1, 1):
            for miss in (-1, 0, 1, 2):
                base = weight * x * taps
                tie = (int(base * step) + Fraction(1, 2)) / step
                weights.append(np.full(taps, sign * weight))
                bias.append(sign * (int(tie) + miss - base))
                used.append(step)
    return np.array(weights), bias, used


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("grid", GRIDS)
def test_sums_next_to_2_24_on_both_sides_of_ties(rounding, grid):
    w, bias, steps = near_ties(126, 127, 1024, [GRIDS[grid](a) for a in range(129, 256, 2)])
    net = Net()
    x = net.input((1, 1024))
    y = net.gemm(x, w, steps, 0, bias=bias)
    simulator = assert_exact(net.model(y), {"in0": np.full((1, 1024), 127)}, rounding)
    (margin,) = simulator.margins()
    assert margin.kernels == 1
    assert 1 < margin.ratio < 1.02


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(("weight", "apart"), [(126, True), (1, False)])
def test_a_factor_behind_a_convolution_rounds_no_partial_sum(rounding, weight, apart):
    """onnxruntime multiplies it into the weights, which then need more than 24 bits."""
    numerators = np.repeat(np.arange(129, 256, 2), 6)
    ties = np.tile([-2, -1, 0, 1, 2, 3], 64) + 2**15
    sums = [int(t) * pow(int(a), -1, 2**16) % 2**16 for a, t in zip(numerators, ties, strict=True)]
    w = np.full((len(sums), 200, 1, 1), weight)
    w[:, ::2] *= -1
    net = Net()
    x = net.input((1, 200, 2, 3))
    bias = (np.array(sums) + 2**15) % 2**16 - 2**15
    y = net.conv(x, w, [Fraction(int(a), 2**16) for a in numerators], 0, bias=bias)
    simulator = assert_exact(net.model(y), {"in0": np.full((1, 200, 2, 3), 127)}, rounding)
    nodes = [node.op_type for node in simulator.graph.graph]
    assert (nodes[:3] == ["Conv", "Clip", "Mul"]) is apart
    assert (nodes[:2] == ["Conv", "Mul"]) is not apart


@pytest.mark.parametrize("rounding", MODES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("slope", [0.01, 0.1, 26 / 256, 0.9999999])
def test_slopes_next_to_ties(rounding, grid, slope):
    slope = np.float32(slope)
    steps = [GRIDS[grid](a) for a in range(129, 256, 2)]
    exact = [step * Fraction(float(slope)) for step in steps]
    w, bias, _ = near_ties(126, 127, 1024, exact)
    net = Net()
    x = net.input((1, 1024))
    y = net.gemm(x, w, np.repeat(steps, 8), 0, bias=bias, activation=("LeakyRelu", slope))
    assert_exact(net.model(y), {"in0": np.full((1, 1024), 127)}, rounding)


@pytest.mark.parametrize("rounding", Rounding)
def test_quotients_just_below_one_half(rounding):
    """N / D = 0.49999997: adding 0.5 in float32 gives 1."""
    divisor = 255 * 2**17
    base = 126 * 127 * 1024
    misses = np.array([-1, 0, 1])
    bias = [*(divisor // 2 - base + misses), *(base - divisor // 2 + misses)]
    w = np.repeat([[126], [-126]], 3, axis=0) * np.ones((1, 1024), int)
    net = Net()
    x = net.input((1, 1024), 0, (-127, 127))
    y = net.gemm(x, w, [Fraction(1, divisor)] * 6, 0, bias=bias)
    simulator = assert_exact(net.model(y), {"in0": np.full((1, 1024), 127)}, rounding)
    (margin,) = simulator.margins()
    assert not margin.double
    assert margin.ratio > 1


def test_layers_past_the_bound_are_cut_at_input_channels():
    rng = np.random.default_rng(2)
    net = Net()
    x = net.input((1, 600, 3, 3))
    w = rng.integers(100, 128, (3, 600, 3, 3)) * rng.choice([-1, 1], (3, 1, 1, 1))
    steps = [Fraction(1, 2**11 * a) for a in (255, 251, 249)]
    y = net.conv(x, w, steps, 0, pads=(1, 0, 0, 1), bias=[5, -7, 2**24 + 1])
    x_int = rng.integers(100, 128, (1, 600, 3, 3))
    simulator = assert_exact(net.model(y), {"in0": x_int})
    (margin,) = simulator.margins()
    assert margin.kernels > 4
    assert margin.double
    assert "Slice" in {node.op_type for node in simulator.graph.graph}


@pytest.mark.parametrize(("channels", "group"), [(2, 2), (1, 1)])
def test_layers_past_the_bound_are_cut_at_taps_where_channels_do_not_do(channels, group):
    rng = np.random.default_rng(3)
    net = Net()
    x = net.input((1, channels, 48, 48))
    w = rng.integers(110, 128, (2, 1, 40, 40))
    y = net.conv(x, w, [Fraction(1, 2**10 * 255)] * 2, 0, group=group)
    feeds = {"in0": rng.integers(110, 128, (1, channels, 48, 48))}
    (margin,) = assert_exact(net.model(y), feeds).margins()
    assert margin.kernels > 1


def test_fully_connected_layers_past_the_bound_are_cut():
    rng = np.random.default_rng(4)
    net = Net()
    x = net.input((1, 9000))
    w = rng.integers(-128, 128, (4, 9000))
    y = net.gemm(x, w, [Fraction(1, 2**8 * 131)] * 4, 0, bias=[1, 2, 3, 4])
    (margin,) = assert_exact(net.model(y), {"in0": np.sign(w[:1]) * 127}).margins()
    assert margin.kernels > 1


@pytest.mark.parametrize(("inner", "double"), [(1024, False), (1025, True), (3000, True)])
def test_products_of_maps_use_double_above_1024_terms(inner, double):
    net = Net()
    a, b = net.input((1, 2, inner), -7), net.input((1, inner, 2), -7)
    y = net.binary("MatMul", a, b, 4)
    feeds = {"in0": np.full((1, 2, inner), -128), "in1": np.full((1, inner, 2), -127)}
    feeds["in0"][0, 0, 0] = 1
    (margin,) = assert_exact(net.model(y), feeds).margins()
    assert margin.double is double


def test_operands_of_an_add_far_apart_use_double():
    net = Net()
    a, b = net.input((1, 3), 0), net.input((1, 3), -20)
    y = net.binary("Add", a, b, 7)
    feeds = {"in0": np.array([[64, -64, 64]]), "in1": np.array([[1, -1, -1]])}
    simulator = assert_exact(net.model(y), feeds)  # 1/2 and a hair: 2^26 + 1 in fine units
    assert simulator.run(feeds)[y.name].tolist() == [[1, -1, 0]]


def big_sum():
    net = Net()
    x = net.input((1, 140_000))
    y = net.gemm(x, np.full((1, 140_000), -128), [Fraction(1, 2**25)], 0)
    return net.model(y)


def test_an_accumulator_past_32_bits_is_an_error():
    model, feeds = big_sum(), {"in0": np.full((1, 140_000), -128)}
    for run in (Simulator(model).run, lambda feeds: run_reference(network_of(model), feeds)):
        with pytest.raises(ConversionError, match=r"DLA910.*2293760000"):
            run(feeds)


def test_a_layer_that_could_overflow_runs_while_it_does_not():
    feeds = {"in0": np.full((1, 140_000), -100)}
    assert_exact(big_sum(), feeds)


def test_an_add_past_32_bits_is_an_error():
    net = Net()
    a, b = net.input((1, 1), 0), net.input((1, 1), -60)
    model = net.model(net.binary("Add", a, b, 0))
    assert_exact(model, {"in0": np.array([[0]]), "in1": np.array([[5]])})
    with pytest.raises(ConversionError, match="DLA910"):
        Simulator(model).run({"in0": np.array([[1]]), "in1": np.array([[5]])})


def test_weight_steps_off_the_grid_stand_for_themselves():
    rng = np.random.default_rng(5)
    net = Net()
    x = net.input((1, 64, 4, 4))
    steps = rng.uniform(0.0005, 0.002, 8).astype(np.float32)
    y = net.conv(x, rng.integers(-128, 128, (8, 64, 1, 1)), steps, 0)
    assert_exact(net.model(y), {"in0": rng.integers(-128, 128, (1, 64, 4, 4))})


def test_grids_may_be_mixed_in_one_layer():
    rng = np.random.default_rng(6)
    net = Net()
    x = net.input((1, 64, 4, 4))
    steps = [Fraction(1, 2**8 * 3), Fraction(3, 2**12), Fraction(1, 2**10), Fraction(1, 2**3 * 251)]
    y = net.conv(x, rng.integers(-128, 128, (4, 64, 1, 1)), steps, 0)
    assert_exact(net.model(y), {"in0": rng.integers(-128, 128, (1, 64, 4, 4))})


def test_multipliers_with_too_many_digits_are_refused():
    net = Net()
    a, b = net.input((1, 1), 40), net.input((1, 1), 0)
    y = net.binary("Div", a, b, 0, activation=("LeakyRelu", 0.1))
    with pytest.raises(ConversionError, match="DLA911"):
        Simulator(net.model(y))


@given(
    st.integers(1, 255), st.integers(-4, 20), st.integers(1, 2**24 - 1), st.sampled_from(Rounding)
)
@settings(max_examples=100, deadline=None)
def test_the_rule_for_float32_holds_next_to_every_threshold(a, m, bound, mode):
    """`rounds_right` may be trusted: no counterexample next to a threshold."""
    factor = Fraction(1, a) / Fraction(2) ** m
    term = Term(bound, factor)
    if not precision.rounds_right(term, 258, SINGLE):
        return
    for h in range(-258 + bound % 7, 259, 7):
        for n in (int(Fraction(h, 2) / factor) + offset for offset in (-1, 0, 1)):
            if abs(n) <= bound:
                quotient = np.float32(n) / np.float32(1 / factor)
                got = round_exact(Fraction(float(quotient)), mode)
                want = round_exact(n * factor, mode)
                assert np.clip(got, -128, 127) == np.clip(want, -128, 127)


def test_the_rule_for_float32_is_no_stricter_than_it_must_be():
    assert precision.rounds_right(Term(2**24 - 1, Fraction(1, 255 * 2)), 258, SINGLE)
    assert precision.rounds_right(Term(2**24, Fraction(1, 255)), 258, SINGLE)  # odd divisor
    assert not precision.rounds_right(Term(2**24, Fraction(1, 255 * 2**9)), 258, SINGLE)
    assert precision.rounds_right(Term(2**24, Fraction(255, 2**16)), 258, SINGLE)
    assert not precision.rounds_right(Term(2**24, Fraction(255, 2**24)), 258, SINGLE)
    assert precision.rounds_right(Term(2**24, Fraction(255, 2**24)), 258, DOUBLE)


def test_trying_every_threshold_accepts_a_division_and_rejects_a_rounded_reciprocal():
    term = Term(2**20, Fraction(1, 49 * 2**5))
    divisor = float(1 / term.factor)
    assert precision.steps_right(lambda n: n / divisor, term, 258)
    assert not precision.steps_right(lambda n: n * (1 / divisor), term, 258)
    assert not precision.steps_right(lambda n: n / divisor * (1 + 1e-9), term, 258)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_onnxruntime_divides_correctly_rounded(dtype, per_channel):
    """The engine stands on this: no reciprocal multiplication, with graph optimisation on."""
    rng = np.random.default_rng(7)
    n = rng.integers(-(2**24), 2**24, (1, 255, 256)).astype(dtype)
    divisors = np.arange(1, 256, dtype=dtype).reshape(1, -1, 1) * dtype(2.0**7)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for divisor in (divisors,) if per_channel else divisors.reshape(-1)[::5]:
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Div", ["n", "d"], ["q"])], "g",
            [onnx.helper.make_tensor_value_info("n", kind, n.shape)],
            [onnx.helper.make_tensor_value_info("q", kind, n.shape)],
            [onnx.numpy_helper.from_array(np.asarray(divisor), "d")],
        )  # fmt: skip
        opset = [onnx.helper.make_opsetid("", 18)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        np.testing.assert_array_equal(session.run(None, {"n": n})[0], n / divisor)
