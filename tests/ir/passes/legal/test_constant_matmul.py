"""Products with a constant matrix that have many rows, as 1x1 convolutions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.backward_affine import backward_affine
from dlaconv.ir.passes.legal.constant_matmul import constant_matmul
from dlaconv.ir.passes.merge_transposes import merge_transposes
from dlaconv.ir.passes.moved_activated import moved_activated
from dlaconv.ir.passes.one_shape_op import one_shape_op
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.support import constants, integers_of_conv

TIDY = [moved_activated, hoist_quantise, merge_transposes, one_shape_op]


def matrix(net, inputs, outputs, *, left=False, quantised=False, seed=0):
    rng, shape = np.random.default_rng(seed), (outputs, inputs) if left else (inputs, outputs)
    axis = 0 if left else 1
    return constants(net, rng, shape, outputs, quantised=quantised, axis=axis)[0]


@settings(max_examples=30)
@given(
    rows=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    behind=st.integers(1, 4),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    left=st.booleans(),
    quantised=st.booleans(),
)
def test_the_convolution_computes_the_same(rows, behind, inputs, outputs, left, quantised):
    net = Net(x=[*rows, inputs, behind] if left else [*rows, inputs])
    x = net.quantize("x") if quantised else "x"
    constant = matrix(net, inputs, outputs, left=left, quantised=quantised)
    y = net.op("MatMul", *((constant, x) if left else (x, constant)))
    model = net.model(net.quantize(y, 0.5) if quantised else y)
    noted, tolerance = context(), 0 if quantised else None
    after = run_pass(constant_matmul.as_pass(), model, noted, tolerance=tolerance)
    assert "MatMul" not in ops(after)
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]
    if quantised:
        assert integers_of_conv(after)[0].shape == (outputs, inputs, 1, 1)


@pytest.mark.parametrize(
    ("shape", "moves"),
    [
        ([1, 4, 5, 3], ["Transpose", "Conv", "Transpose"]),
        ([1, 12, 3], ["Transpose", "Reshape", "Conv", "Reshape", "Transpose"]),
        ([4, 3], ["Reshape", "Transpose", "Reshape", "Conv", "Reshape", "Transpose", "Reshape"]),
        ([1, 300, 100, 3], ["Reshape", "Transpose", "Reshape", "Conv", "Reshape", "Transpose",
                            "Reshape"]),
    ],
)  # fmt: skip
def test_a_map_with_its_channels_last_is_only_transposed(shape, moves):
    net = Net(x=shape)
    model = net.model(net.op("MatMul", "x", matrix(net, 3, 2)))
    assert ops(run_pass(constant_matmul.as_pass(), model)) == moves


@pytest.mark.parametrize("left", [False, True])
def test_layers_in_a_row_leave_no_transposes_between_them(left):
    net = Net(x=[1, 3, 12] if left else [1, 12, 3])
    value = "x"
    for index in range(2):
        constant = matrix(net, 3, 3, left=left, seed=index)
        value = net.op("MatMul", *((constant, value) if left else (value, constant)))
        offset = np.float32([1, 2, 4])
        value = net.op("Add", value, offset.reshape(3, 1) if left else offset)
        value = net.quantize(net.op("Relu", value), 0.25)
    passes = [constant_matmul.as_pass(), backward_affine.as_pass(), *TIDY]
    after = run_pass(passes, net.model(value))
    layer = ["Conv", "Relu", "QuantizeHalfEven"]
    moves = [] if left else ["Transpose"]
    assert ops(after) == [*moves, "Reshape", *layer, *layer, "Reshape", *moves]


@pytest.mark.parametrize("bias", [False, True])
def test_rows_of_a_fully_connected_layer_are_positions(bias):
    net, rng = Net(x=[6, 3]), np.random.default_rng(0)
    model = net.model(
        net.op("Gemm", "x", rng.normal(size=(4, 3)), *([np.arange(4.0)] * bias), transB=1)
    )
    after = run_pass(constant_matmul.as_pass(), model)
    assert "Gemm" not in ops(after)


def test_one_row_is_what_the_hardware_has():
    net = Net(x=[1, 3])
    model = net.model(net.op("Gemm", "x", np.eye(3), transB=1))
    assert ops(run_pass(constant_matmul.as_pass(), model)) == ["Gemm"]


def test_two_maps_and_many_matrices_are_left_alone():
    net = Net(x=[1, 4, 3], y=[1, 3, 5], z=[2, 4, 3])
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(2, 3, 4)).astype(np.float32)
    model = net.model(net.op("MatMul", "x", "y"), net.op("MatMul", "z", matrices))
    assert ops(run_pass(constant_matmul.as_pass(), model)) == ["MatMul", "MatMul"]


@pytest.mark.parametrize(
    ("shape", "outputs", "why"),
    [
        ([1, 4, 2049], 3, "3 by 2049 has more than the 2048 channels"),
        ([1, 4, 3], 2049, "2049 by 3 has more than"),
        ([1, 257, 3], 3, "257 rows make no map"),
    ],
)
def test_limits_are_told(shape, outputs, why):
    net, noted = Net(x=shape), context()
    model = net.model(net.op("MatMul", "x", matrix(net, shape[-1], outputs)))
    assert ops(run_pass(constant_matmul.as_pass(), model, noted)) == ["MatMul"]
    assert why in next(iter(noted.blocked.values()))[0]


def test_a_step_per_channel_is_told():
    net, noted = Net(x=[1, 4, 3]), context()
    y = net.op("MatMul", "x", matrix(net, 3, 2))
    model = net.model(net.quantize(y, np.float32([0.5, 0.25])))
    assert "MatMul" in ops(run_pass(constant_matmul.as_pass(), model, noted))
    assert "one step per channel" in next(iter(noted.blocked.values()))[0]
