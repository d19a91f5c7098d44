"""Transposed convolutions as convolutions of phases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.graph import ints_attribute, producer, shape_of
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.conv_transpose import conv_transpose
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.support import activate, constants, convs

ACTIVATIONS = st.sampled_from([None, "Relu", "LeakyRelu", "PRelu"])


def network(
    *, kernel, strides=(1, 1), size=(4, 5), channels=2, outputs=3, group=1, quantised=False,
    activation=None, seed=0, **attributes,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    net = Net(x=[1, channels, *size])
    x = net.quantize("x") if quantised else "x"
    shape = (channels, outputs // group, *kernel)
    weights, bias = constants(net, rng, shape, outputs, quantised=quantised, axis=1)
    y = net.op("ConvTranspose", x, weights, bias, strides=strides, group=group, **attributes)
    y = activate(net, y, activation, outputs, 2, rng)
    return net.model(net.quantize(y, 0.5) if quantised else y)


def standard(model):
    return [op for op in ops(model) if op != "Dequantize"]


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    more=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    group=st.sampled_from([1, 2]),
    quantised=st.booleans(),
    activation=ACTIVATIONS,
    seed=st.integers(0, 9),
)
def test_the_phases_compute_the_same(
    kernel, strides, dilations, pads, more, group, quantised, activation, seed
):
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [
        strides[i] * (s - 1) + extents[i] + more[i] - pads[i] - pads[i + 2]
        for i, s in enumerate((4, 5))
    ]
    if min(counts) < 1 or any(m >= s for m, s in zip(more, strides, strict=True)):
        return
    model = network(
        kernel=kernel, strides=strides, group=group, quantised=quantised, activation=activation,
        seed=seed, dilations=dilations, pads=pads, output_padding=more, outputs=4,
    )  # fmt: skip
    noted = context()
    passes = [conv_transpose.as_pass(), hoist_quantise]
    after = run_pass(passes, model, noted, tolerance=0 if quantised else 1e-5)
    if not noted.blocked:
        assert "ConvTranspose" not in ops(after)
    assert all("a kernel of" in why for reasons in noted.blocked.values() for why in reasons)


@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    form=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID", "output_shape", "wide"]),
)
def test_padding_that_is_not_written_out(kernel, stride, form):
    if kernel < stride:
        return
    stated = {"output_shape": [4 * stride, 5 * stride], "wide": [4 * stride + 1, 5 * stride]}
    attributes = {"output_shape": stated[form]} if form in stated else {"auto_pad": form}
    if form == "wide" and kernel <= stride:
        return
    model = network(kernel=(kernel, kernel), strides=(stride, stride), **attributes)
    assert "ConvTranspose" not in ops(run_pass(conv_transpose.as_pass(), model))


@pytest.mark.parametrize("quantised", [False, True])
def test_doubling_takes_one_layer_one_rounding_and_a_move(quantised):
    model = network(
        kernel=(2, 2), strides=(2, 2), channels=8, outputs=16, quantised=quantised,
        activation="Relu",
    )  # fmt: skip
    noted = context()
    after = run_pass([conv_transpose.as_pass(), hoist_quantise], model, noted)
    rounding = ["QuantizeHalfEven"] if quantised else []
    assert standard(after) == [
        *rounding, "Conv", "Relu", *rounding, "Reshape", "Transpose", "Reshape"
    ]  # fmt: skip
    [conv] = convs(after)
    assert shape_of(conv.inputs[1]) == (64, 8, 1, 1)
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == 0


@pytest.mark.parametrize(
    ("kernel", "pad", "more", "wanted", "cut"),
    [
        (4, 1, 0, 3, False),
        (3, 1, 1, 2, False),
        (3, 1, 0, 2, True),
        (3, 0, 0, 2, True),
        (2, 0, 0, 1, False),
    ],
)
def test_the_usual_forms_of_doubling(kernel, pad, more, wanted, cut):
    model = network(
        kernel=(kernel, kernel), strides=(2, 2), pads=[pad] * 4, output_padding=[more, more]
    )
    layers = convs(run_pass(conv_transpose.as_pass(), model))
    assert ints_attribute(layers[0], "kernel_shape") == (wanted, wanted)
    assert len(layers) == 1 + cut


def test_without_a_stride_it_is_the_convolution_with_the_reversed_kernel():
    model = network(kernel=(3, 3), pads=[1] * 4, quantised=True)
    [before] = [node for node in model.graph if node.op_type == "ConvTranspose"]
    weights = dialect.array_of(producer(before.inputs[1]).inputs[0])
    after = run_pass([conv_transpose.as_pass(), hoist_quantise], model, tolerance=0)
    assert standard(after) == ["QuantizeHalfEven", "Conv", "QuantizeHalfEven"]
    [conv] = convs(after)
    holder = producer(conv.inputs[1])
    flipped = weights.swapaxes(0, 1)[:, :, ::-1, ::-1]
    assert np.array_equal(dialect.array_of(holder.inputs[0]), flipped)
    assert dialect.step_of(holder).size == 3


def test_what_is_cut_off_is_cut_off_behind_the_rounding():
    model = network(kernel=(3, 3), strides=(2, 2), quantised=True)
    after = run_pass([conv_transpose.as_pass(), hoist_quantise], model, tolerance=0)
    assert standard(after) == [
        "QuantizeHalfEven", "Conv", "QuantizeHalfEven", "Reshape", "Transpose", "Reshape", "Conv",
        "QuantizeHalfEven",
    ]  # fmt: skip


def test_the_report_counts_groups_and_zeros():
    noted = context()
    model = network(kernel=(2, 2), strides=(2, 2), channels=4, outputs=4, group=2)
    run_pass(conv_transpose.as_pass(), model, noted)
    assert noted.rewrites[0].macs == 4 * 4 * 4 * 20 - 4 * 2 * 4 * 20


def test_too_many_phases_and_computed_weights_are_told():
    noted = context()
    model = network(kernel=(4, 4), strides=(4, 4), channels=1, outputs=129)
    assert ops(run_pass(conv_transpose.as_pass(), model, noted)) == ["ConvTranspose"]
    [[reason]] = noted.blocked.values()
    assert "2064 channels, the limit is 2048" in reason
    net, noted = Net(x=[1, 2, 4, 4], w=[2, 2, 2, 2]), context()
    run_pass(conv_transpose.as_pass(), net.model(net.op("ConvTranspose", "x", "w")), noted)
    [[reason]] = noted.blocked.values()
    assert "no constants" in reason


def test_a_kernel_without_end_is_told_and_never_laid_out():
    noted = context()
    model = network(kernel=(2, 1), strides=(2, 1), dilations=(10**5, 1))
    assert ops(run_pass(conv_transpose.as_pass(), model, noted)) == ["ConvTranspose"]
    [[reason]] = noted.blocked.values()
    assert "a kernel of 100001 with stride 2" in reason


def test_a_result_that_is_rounded_in_several_ways_stays():
    net, noted = Net(x=[1, 2, 4, 4]), context()
    y = net.op("ConvTranspose", "x", np.ones((2, 2, 2, 2), np.float32), strides=[2, 2])
    model = net.model(net.quantize(y, 0.5), net.quantize(y, 1.0))
    assert "ConvTranspose" in ops(run_pass(conv_transpose.as_pass(), model, noted))
    assert "read in several ways" in noted.blocked[y][0]
