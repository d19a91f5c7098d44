"""Averages over whole axes as sums, of which the next layer takes the factor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, producer
from dlaconv.ir.passes.legal.global_average_sum import global_average_sum
from dlaconv.ir.rounding import Rounding
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.pools import assert_same_outputs, source, wide_feeds

PASS = global_average_sum.as_pass()
RNG = np.random.default_rng(0)


def head(net, value, channels, layer="Gemm"):
    """Flatten and a fully connected layer of quantised weights, or a 1x1 convolution."""
    kernel = (1, 1) if layer == "Conv" else ()
    integers = net.const(RNG.integers(-127, 128, (5, channels, *kernel)), dtype=np.int8)
    steps = 2.0 ** RNG.integers(-8, -4, (5, *(1 for _ in range(1 + len(kernel)))))
    weights = net.dequantize(integers, steps)
    bias = RNG.normal(size=5).astype(np.float32)
    if layer == "Conv":
        return net.op("Conv", value, weights, bias, kernel_shape=[1, 1], strides=[1, 1],
                      pads=[0] * 4, dilations=[1, 1], group=1)  # fmt: skip
    flat = net.op("Reshape", value, np.array([1, channels]))
    return net.op("Gemm", flat, weights, bias, transB=1)


def network(size=(8, 8), channels=4, kind="float", step=None, layer="Gemm", how=(), **average):
    net = Net(x=[1, channels, *size])
    op_type = average.pop("op_type", "GlobalAveragePool")
    value = net.op(op_type, source(net, kind), *how, **average)
    if step is not None:
        value = net.quantize(value, step, 8, rounding=Rounding.HALF_EVEN)
    return net.model(head(net, value, channels, layer))


def legalised(model, noted=None, tolerance=1e-5):
    return run_pass(PASS, model, noted, wide_feeds(model), tolerance=tolerance)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    layer=st.sampled_from(["Gemm", "Conv"]),
    kind=st.sampled_from(["float", "relu"]),
)
def test_sum_and_smaller_weights_compute_the_same(size, layer, kind):
    after = legalised(network(size, kind=kind, layer=layer))
    legal = all(2 <= extent <= 7 for extent in size)
    assert ("ReduceSum" in ops(after)) != legal
    assert ("GlobalAveragePool" in ops(after)) == legal


@pytest.mark.parametrize("layer", ["Gemm", "Conv"])
def test_no_integer_of_a_quantised_network_changes(layer):
    model = network(kind="signed", step=0.5, layer=layer)
    noted = context()
    after = legalised(model, noted, 0)
    assert_same_outputs(model, after, wide_feeds(model))
    quantisers = [dialect.quantisation_of(n) for n in after.graph if dialect.is_quantize(n)]
    assert [quantiser.scalar_step for quantiser in quantisers] == [0.25, 32.0]
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]


def test_weights_keep_their_integers():
    model = network(kind="signed", step=0.5)
    before, after = (producer(node_of(m, "Gemm").inputs[1]) for m in (model, legalised(model)))
    assert np.array_equal(dialect.array_of(before.inputs[0]), dialect.array_of(after.inputs[0]))
    assert np.allclose(dialect.step_of(before) / 64, dialect.step_of(after))


@pytest.mark.parametrize(
    ("size", "step"), [((8, 8), 0.3), ((10, 10), 0.5), ((14, 14), 0.25 / 196 * 3)]
)
def test_steps_that_cannot_be_scaled_together_stay_averages(size, step):
    assert "ReduceSum" not in ops(legalised(network(size, kind="signed", step=step)))


def test_steps_of_any_size_may_fit():
    model = network((14, 14), kind="signed", step=np.float32(0.25 / 196 * 64))
    assert "ReduceSum" in ops(legalised(model, tolerance=1e-2))


def test_an_average_that_is_rounded_down_needs_the_bias_of_a_convolution():
    net = Net(x=[1, 4, 8, 8])
    average = net.op("GlobalAveragePool", net.quantize("x"))
    rounded = net.quantize(average, 0.5, rounding=Rounding.FLOOR)
    assert "ReduceSum" not in ops(legalised(net.model(head(net, rounded, 4))))


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2], [3], [-1, 1], [1], [2, 3]])
def test_means_over_any_axes_will_do(axes, keepdims):
    net = Net(x=[1, 4, 6, 5])
    mean = net.op("ReduceMean", "x", np.array(axes), keepdims=keepdims)
    shape = [1, int(np.prod([1 if i in axes or i - 4 in axes else n
                             for i, n in enumerate([1, 4, 6, 5])]))]  # fmt: skip
    flat = net.op("Reshape", mean, np.array(shape))
    y = net.op("Gemm", flat, RNG.normal(size=(3, shape[1])).astype(np.float32), transB=1)
    after = legalised(net.model(y))
    assert attribute(node_of(after, "ReduceSum"), "keepdims", 0) == 1


def test_a_mean_over_the_batch_stays():
    net = Net(x=[2, 4])
    mean = net.op("ReduceMean", "x", np.array([0]), keepdims=1)
    y = net.op("Gemm", mean, RNG.normal(size=(3, 4)).astype(np.float32), transB=1)
    assert ops(legalised(net.model(y))) == ["ReduceMean", "Gemm"]


def test_an_average_that_something_else_reads_stays_for_it():
    net = Net(x=[1, 4, 8, 8])
    average = net.op("GlobalAveragePool", "x")
    y = head(net, average, 4)
    after = legalised(net.model(y, net.op("Sigmoid", average)))
    assert {"GlobalAveragePool", "ReduceSum"} <= set(ops(after))


def test_an_activation_in_between_is_no_layer():
    net = Net(x=[1, 4, 8, 8])
    y = head(net, net.op("Relu", net.op("GlobalAveragePool", "x")), 4)
    assert "ReduceSum" not in ops(legalised(net.model(y)))


def test_computed_weights_take_no_factor():
    net = Net(x=[1, 4, 8, 8], w=[3, 4])
    flat = net.op("Reshape", net.op("GlobalAveragePool", "x"), np.array([1, 4]))
    assert "ReduceSum" not in ops(legalised(net.model(net.op("Gemm", flat, "w", transB=1))))
