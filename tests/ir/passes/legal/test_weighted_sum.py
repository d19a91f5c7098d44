"""Sums, differences and means of maps as one layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes.legal.weighted_sum import weighted_sum
from tests.ir.passes.harness import Net, context, run_pass
from tests.ir.passes.legal.support import integers_of_conv, operators

NAMES = "abcde"


def maps(count, shape):
    return Net(**dict.fromkeys(NAMES[:count], shape))


def integers(count, shape, seed, spread=60):
    rng = np.random.default_rng(seed)
    return {
        name: (np.rint(rng.normal(0, spread, shape)) / 4).astype(np.float32)
        for name in NAMES[:count]
    }


@given(
    op_type=st.sampled_from(["Sum", "Mean"]),
    count=st.integers(2, 5),
    channels=st.integers(1, 4),
    size=st.lists(st.integers(1, 6), max_size=3),
)
def test_floats_are_added_in_one_layer(op_type, count, channels, size):
    net = maps(count, [1, channels, *size])
    after = run_pass(weighted_sum.as_pass(), net.model(net.op(op_type, *NAMES[:count])))
    linear = "Conv" if size else "Gemm"
    wanted = ["Concat", linear] if len(size) in {0, 2} else ["Concat", "Reshape", linear, "Reshape"]
    assert operators(after) == (["Add"] if op_type == "Sum" and count == 2 else wanted)


@settings(max_examples=30)
@given(
    tree=st.lists(
        st.sampled_from(["Add", "Sub", "Sum", "Mul", "Neg", "Offset"]), min_size=2, max_size=4
    ),
    swap=st.booleans(),
    size=st.sampled_from([[], [5, 4]]),
    seed=st.integers(0, 99),
)
def test_integers_on_one_grid_are_rounded_once(tree, swap, size, seed):
    shape = [1, 4, *size]
    net = maps(5, shape)
    stored = iter([net.quantize(name) for name in NAMES])
    value = net.op("Sub", next(stored), next(stored))
    for op_type in tree[:3]:
        if op_type == "Neg":
            value = net.op("Neg", value)
        elif op_type in {"Mul", "Offset"}:
            factors = np.float32([0.5, -0.5, 1, 2]).reshape(4, *(1 for _ in size))
            value = net.op("Mul" if op_type == "Mul" else "Add", value, factors)
        else:
            other = next(stored)
            value = net.op(op_type, *((other, value) if swap else (value, other)))
    model = net.model(net.quantize(net.op("Relu", value), 1.0))
    after = run_pass(weighted_sum.as_pass(), model, feeds=integers(5, shape, seed), tolerance=0)
    assert not {"Add", "Sub", "Sum", "Mul", "Neg"} & set(operators(after))
    assert operators(after).count("Concat") == 1


def test_a_difference_of_one_grid_is_a_layer_of_ones():
    net = maps(2, [1, 3, 2, 2])
    value = net.op("Sub", net.quantize("a"), net.quantize("b"))
    feeds = {name: np.full((1, 3, 2, 2), -99, np.float32) for name in "ab"}  # -128 units
    feeds["a"][:] = 99
    model = net.model(net.quantize(value, 1.0))
    after = run_pass(weighted_sum.as_pass(), model, feeds=feeds, tolerance=0)
    found, steps = integers_of_conv(after)
    assert np.array_equal(found[:, :, 0, 0], np.hstack([np.eye(3), -np.eye(3)]))
    assert (steps == 1).all()


def test_a_difference_that_a_smaller_layer_computes_is_left_to_it():
    net = maps(2, [1, 3, 2, 2])
    value = net.op("Sub", net.quantize("a", narrow=True), net.quantize("b", narrow=True))
    assert "Sub" in operators(run_pass(weighted_sum.as_pass(), net.model(net.quantize(value))))


def test_an_add_of_two_stored_maps_stays():
    net = maps(2, [1, 3, 2, 2])
    value = net.op("Add", net.quantize("a"), net.quantize("b"))
    model = net.model(net.quantize(net.op("Relu", value)))
    assert operators(run_pass(weighted_sum.as_pass(), model)) == operators(model)


def test_sums_of_floats_in_a_row_stay():
    net = maps(3, [1, 3, 2, 2])
    model = net.model(net.op("Add", net.op("Add", "a", "b"), "c"))
    assert operators(run_pass(weighted_sum.as_pass(), model)) == ["Add", "Add"]


def test_a_sum_that_others_read_is_a_map_of_its_own():
    net = maps(3, [1, 3, 2, 2])
    inner = net.op("Add", net.quantize("a"), net.quantize("b"))
    outer = net.op("Add", inner, net.quantize("c"))
    model = net.model(net.quantize(outer), net.quantize(inner))
    assert operators(run_pass(weighted_sum.as_pass(), model, tolerance=0)).count("Add") == 2


@pytest.mark.parametrize("op_type", ["Sum", "Mean"])
def test_maps_of_different_grids_are_told(op_type):
    net = maps(3, [1, 3, 2, 2])
    stored = [net.quantize(name, 0.25 * (i + 1)) for i, name in enumerate("abc")]
    noted = context()
    model = net.model(net.quantize(net.op(op_type, *stored)))
    assert op_type in operators(run_pass(weighted_sum.as_pass(), model, noted))
    assert "not stored on one grid" in next(iter(noted.blocked.values()))[0]


def test_factors_that_are_no_multiples_are_told():
    net = maps(2, [1, 3, 2, 2])
    net.op("Mean", net.quantize("a"), net.op("Mul", net.quantize("b"), np.float32(0.3)), out="y")
    noted = context()
    run_pass(weighted_sum.as_pass(), net.model(net.quantize("y")), noted)
    assert "no small multiples" in next(iter(noted.blocked.values()))[0]


@pytest.mark.parametrize(("channels", "joined"), [(512, True), (528, False)])
@pytest.mark.parametrize("op_type", ["Sum", "Mean"])
def test_more_channels_than_the_hardware_has_are_added_two_by_two(channels, joined, op_type):
    net, noted = maps(4, [1, channels, 1, 1]), context()
    model = net.model(net.op(op_type, *"abcd"))
    after = operators(run_pass(weighted_sum.as_pass(), model, noted))
    if joined:
        assert after == ["Concat", "Conv"]
    elif op_type == "Sum":
        assert after == ["Add"] * 3
    else:
        assert "4 maps of 528 channels" in noted.blocked[model.graph.outputs[0].name][0]


def test_constants_become_the_bias():
    net = maps(2, [1, 3, 2, 2])
    constant = np.float32([1, 2, 3]).reshape(3, 1, 1)
    after = run_pass(weighted_sum.as_pass(), net.model(net.op("Sum", "a", constant, "b", "a")))
    assert operators(after) == ["Concat", "Conv"]


@pytest.mark.parametrize("other", [[1, 3, 1, 1], [1, 3, 2, 1]])
def test_broadcasting_is_told(other):
    net, noted = Net(a=[1, 3, 2, 2], b=other), context()
    model = net.model(net.op("Sum", "a", "b", "a"))
    assert operators(run_pass(weighted_sum.as_pass(), model, noted)) == ["Sum"]
    assert "another shape" in next(iter(noted.blocked.values()))[0]


def test_the_report_counts_the_multiplications():
    net, noted = maps(3, [1, 4, 2, 5]), context()
    run_pass(weighted_sum.as_pass(), net.model(net.op("Sum", *"abc")), noted)
    assert [rewrite.macs for rewrite in noted.rewrites] == [3 * 4 * 4 * 10]


@pytest.mark.parametrize(("op_type", "factor"), [("Sum", 3), ("Mean", 1)])
@pytest.mark.parametrize("quantised", [False, True])
def test_a_map_with_itself_is_a_multiple(op_type, factor, quantised):
    net = maps(1, [1, 16, 4, 5])
    a = net.quantize("a") if quantised else "a"
    value = net.op(op_type, a, a, a)
    model = net.model(net.quantize(value) if quantised else value)
    after = run_pass(weighted_sum.as_pass(), model)
    assert [op for op in operators(after) if "Quantize" not in op] == ["Conv"]
    assert integers_of_conv(after)[1].reshape(-1)[0] == pytest.approx(factor)


def test_a_map_with_itself_that_is_not_rounded_yet_is_told():
    net, noted = maps(1, [1, 16, 4, 5]), context()
    model = net.model(net.quantize(net.op("Sum", "a", "a", "a")))
    assert "Sum" in operators(run_pass(weighted_sum.as_pass(), model, noted))
    assert "not rounded yet" in next(iter(noted.blocked.values()))[0]
