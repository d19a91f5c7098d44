"""Factors and offsets behind a layer with weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes.legal.backward_affine import backward_affine
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.support import constants, integers_of_conv


def convolution(net, x, channels, *, quantised=False, size=1):
    weights, bias = constants(
        net, np.random.default_rng(1), (channels, 3, size, size), channels, quantised=quantised
    )
    return net.op(
        "Conv", x, weights, bias, kernel_shape=[size, size], strides=[1, 1], pads=[0] * 4,
        dilations=[1, 1], group=1,
    )  # fmt: skip


def powers(shape, seed):
    rng = np.random.default_rng(seed)
    return (np.exp2(rng.integers(-2, 3, shape)) * rng.choice([-1, 1], shape)).astype(np.float32)


@settings(max_examples=30)
@given(
    chain=st.lists(st.sampled_from(["Mul", "Div", "Add", "Sub", "Neg"]), min_size=1, max_size=3),
    moved=st.booleans(),
    quantised=st.booleans(),
    per_channel=st.booleans(),
    seed=st.integers(0, 99),
)
def test_constants_go_through_what_moves_data(chain, moved, quantised, per_channel, seed):
    net = Net(x=[1, 3, 4, 5])
    value = convolution(net, net.quantize("x") if quantised else "x", 4, quantised=quantised)
    if moved:  # tokens: the channels are the last axis
        value = net.op("Reshape", value, np.array([1, 4, 20]))
        value = net.op("Transpose", value, perm=[0, 2, 1])
    for index, op_type in enumerate(chain):
        shape = () if not per_channel else (4,) if moved else (4, 1, 1)
        operands = [] if op_type == "Neg" else [powers(shape, seed + index)]
        value = net.op(op_type, value, *operands)
    model = net.model(net.quantize(value, 2.0**-9) if quantised else value)
    after = run_pass(backward_affine.as_pass(), model, tolerance=0 if quantised else None)
    wanted = ["Conv", *(["Reshape", "Transpose"] if moved else [])]
    assert [op for op in ops(after) if op[-5:] not in {"ntize", "fEven"}] == wanted
    if quantised:
        assert np.array_equal(
            np.abs(integers_of_conv(after)[0]), np.abs(integers_of_conv(model)[0])
        )


def test_numbers_along_another_axis_stay():
    net = Net(x=[1, 3, 4, 5])
    value = net.op("Reshape", convolution(net, "x", 4), np.array([1, 8, 10]))
    model = net.model(net.op("Mul", value, powers((8, 1), 0)))
    assert ops(run_pass(backward_affine.as_pass(), model)) == ["Conv", "Reshape", "Mul"]


def test_blocks_of_a_channel_have_its_number():
    net = Net(x=[1, 3, 4, 5])
    value = net.op("Reshape", convolution(net, "x", 4), np.array([1, 8, 10]))
    numbers = np.repeat(powers(4, 0), 2).reshape(8, 1)
    model = net.model(net.op("Mul", value, numbers))
    assert ops(run_pass(backward_affine.as_pass(), model)) == ["Conv", "Reshape"]


@pytest.mark.parametrize("where", ["layer", "move"])
def test_what_others_read_stays(where):
    net = Net(x=[1, 3, 4, 5])
    layer = convolution(net, "x", 4)
    moved = net.op("Reshape", layer, np.array([1, 4, 20]))
    model = net.model(net.op("Mul", moved, np.float32(2)), layer if where == "layer" else moved)
    assert "Mul" in ops(run_pass(backward_affine.as_pass(), model))


def test_behind_anything_else_nothing_is_folded():
    net = Net(x=[1, 3, 4, 5])
    pooled = net.op("MaxPool", convolution(net, "x", 4), kernel_shape=[2, 2])
    model = net.model(net.op("Mul", pooled, np.float32(2)), net.op("Mul", "x", np.float32(2)))
    assert ops(run_pass(backward_affine.as_pass(), model)) == ["Conv", "MaxPool", "Mul", "Mul"]


def test_it_costs_nothing():
    net, noted = Net(x=[1, 3, 4, 5]), context()
    model = net.model(net.op("Mul", convolution(net, "x", 4), np.float32(2)))
    run_pass(backward_affine.as_pass(), model, noted)
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]
