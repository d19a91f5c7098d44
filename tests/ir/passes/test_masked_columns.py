"""Masks of zeros and ones in front of linear layers."""

import numpy as np
import pytest
from harness import Net, context, node_of, ops, random_feeds, run_pass

from dlaconv.ir.execution import run
from dlaconv.ir.passes.masked_columns import masked_columns

RNG = np.random.default_rng(7)
F = np.float32


def weights(*shape):
    return RNG.integers(-9, 9, shape).astype(F)


def channels(*mask, rank=4):
    return np.array(mask, F).reshape(1, -1, *(1,) * (rank - 2))


def masked(net, x, mask):
    return net.op("Mul", net.quantize(x, out="q"), mask, out="m")


def test_columns_of_a_convolution_take_a_mask_of_channels():
    net = Net(x=[1, 4, 6, 6])
    y = net.op("Conv", masked(net, "x", channels(1, 0, 1, 0)), weights(3, 4, 3, 3), pads=[1] * 4)
    after = run_pass(masked_columns, net.model(y))
    assert ops(after) == ["QuantizeHalfEven", "Conv"]
    kernel = node_of(after, "Conv").inputs[1].const_value.numpy()
    assert not kernel[:, [1, 3]].any()
    assert kernel[:, [0, 2]].any()


def test_each_group_has_columns_of_its_own():
    net = Net(x=[1, 4, 6, 6])
    y = net.op("Conv", masked(net, "x", channels(1, 0, 1, 1)), weights(6, 2, 3, 3), group=2)
    after = run_pass(masked_columns, net.model(y))
    kernel = node_of(after, "Conv").inputs[1].const_value.numpy()
    assert not kernel[:3, 1].any()
    assert kernel[3:].any(axis=(1, 2, 3)).all()


def test_integers_stay_integers_of_their_step():
    net = Net(x=[1, 4])
    held = net.dequantize(weights(3, 4).astype(np.int8), 0.5)
    y = net.op("Gemm", masked(net, "x", channels(0, 1, 1, 1, rank=2)), held, transB=1)
    after = run_pass(masked_columns, net.model(y))
    holder = node_of(after, "Dequantize")
    array = holder.inputs[0].const_value.numpy()
    assert (array.dtype, array[:, 0].any()) == (np.int8, False)


def test_what_moves_values_moves_the_mask():
    """A map of the channels last, flattened: a mask per element, and one per channel."""
    elements = (RNG.random((1, 2, 3, 4)) > 0.3).astype(F)
    for mask in (elements, np.array([1, 0, 1, 1], F).reshape(1, 1, 1, 4)):
        net = Net(x=[1, 2, 3, 4])
        turned = net.op("Transpose", masked(net, "x", mask), perm=[0, 3, 1, 2])
        flat = net.op("Reshape", net.op("Relu", turned), np.array([1, 24]))
        y = net.op("Gemm", net.quantize(flat, 0.5), weights(5, 24), transB=1)
        after = run_pass(masked_columns, net.model(y))
        assert "Mul" not in ops(after)
        assert {"q", "m"} & {value.name for node in after.graph for value in node.outputs} == {"q"}


def test_all_readers_take_it_or_none():
    for other, left in (("Gemm", 0), ("Sigmoid", 1)):
        net = Net(x=[1, 4])
        m = masked(net, "x", channels(0, 1, 1, 0, rank=2))
        y = net.op("Gemm", m, weights(3, 4), transB=1)
        z = net.op("Gemm", m, weights(2, 4), transB=1) if other == "Gemm" else net.op(other, m)
        after = run_pass(masked_columns, net.model(y, z))
        assert ops(after).count("Mul") == left


@pytest.mark.parametrize(
    "kind", ["per element", "other factors", "output", "untransposed", "asymmetric", "broadcast"]
)
def test_what_weights_cannot_take_stays(kind):
    net = Net(x=[1, 4, 1, 1] if kind == "broadcast" else [1, 4, 6, 6])
    mask = channels(1, 0, 1, 1)
    if kind in {"per element", "broadcast"}:
        mask = (RNG.random((1, 4, 6, 6)) > 0.5).astype(F)
    if kind == "other factors":
        mask = channels(1, 0, 2, 1)
    m = masked(net, "x", mask)
    outputs = [m] if kind == "output" else []
    if kind == "untransposed":
        flat = net.op("Reshape", m, np.array([1, 144]))
        y = net.op("Gemm", flat, weights(144, 2))
    else:
        m = net.quantize(m, 0.5, signed=False, zero_point=3) if kind == "asymmetric" else m
        y = net.op("Conv", m, weights(3, 4, 3, 3))
    model = net.model(y, *outputs)
    assert "Mul" in ops(run_pass(masked_columns, model))


def test_the_report_names_both_layers():
    net = Net(x=[1, 4, 6, 6])
    y = net.op("Conv", masked(net, "x", channels(1, 0, 1, 1)), weights(3, 4, 1, 1))
    model, what = net.model(y), context()
    before = run(model, random_feeds(model))
    masked_columns(model, what)
    [rewrite] = what.rewrites
    assert (rewrite.name, rewrite.layer, rewrite.exact) == ("masked_columns", "n1", True)
    assert rewrite.detail.endswith("in the weights of n2")
    np.testing.assert_array_equal(run(model, random_feeds(model))[y], before[y])
