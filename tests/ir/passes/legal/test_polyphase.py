"""Convolutions with large kernels and strides as smaller ones on phases."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.graph import ints_attribute, shape_of
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.polyphase import polyphase
from tests.ir.passes.harness import Net, context, ops, run_pass
from tests.ir.passes.legal.support import conv_model, convs

ACTIVATIONS = st.sampled_from([None, "Relu", "LeakyRelu", "PRelu"])


def standard(model):
    return [op for op in ops(model) if op != "Dequantize"]


def window(node):
    return tuple(ints_attribute(node, name) for name in ("kernel_shape", "strides"))


@example(
    kernel=(9, 1), strides=(4, 1), dilations=(1, 1), pads=(0,) * 4, group=1, size=(12, 12),
    quantised=True, activation=None, seed=0,
)  # fmt: skip
@given(
    kernel=st.tuples(st.integers(1, 12), st.integers(1, 9)),
    strides=st.tuples(st.integers(1, 8), st.integers(1, 5)),
    dilations=st.sampled_from([(1, 1), (1, 1), (1, 3), (4, 1)]),
    pads=st.tuples(*[st.integers(0, 4)] * 4),
    group=st.sampled_from([1, 1, 2, 4]),
    size=st.tuples(st.integers(12, 17), st.integers(12, 17)),
    quantised=st.booleans(),
    activation=ACTIVATIONS,
    seed=st.integers(0, 9),
)
def test_the_phases_compute_the_same(
    kernel, strides, dilations, pads, group, size, quantised, activation, seed
):
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if any(e > s for e, s in zip(extents, size, strict=True)):
        return
    model = conv_model(
        channels=4, outputs=4, size=size, kernel=kernel, strides=strides, pads=pads,
        dilations=dilations, group=group, quantised=quantised, activation=activation, seed=seed,
    )  # fmt: skip
    noted = context()
    passes = [polyphase.as_pass(), hoist_quantise]
    after = run_pass(passes, model, noted, tolerance=0 if quantised else 1e-5)
    assert all("no whole blocks" in why for reasons in noted.blocked.values() for why in reasons)
    if not noted.blocked:
        assert all(max(ints_attribute(n, "kernel_shape")) <= 7 for n in convs(after))
        assert all(max(ints_attribute(n, "strides")) <= 2 for n in convs(after))


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "wanted"),
    [
        (4, 4, 0, [((2, 2), (2, 2)), ((2, 2), (2, 2))]),  # patches of a vision transformer
        (8, 8, 0, [((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2))]),
        (11, 4, 2, [((2, 2), (2, 2)), ((6, 6), (2, 2))]),  # AlexNet
        (9, 2, 4, [((2, 2), (2, 2)), ((5, 5), (1, 1))]),
    ],
)
def test_strides_need_no_phases_of_the_result(kernel, stride, pad, wanted, quantised):
    model = conv_model(
        size=(32, 32), kernel=(kernel, kernel), strides=(stride, stride), pads=[pad] * 4,
        quantised=quantised,
    )  # fmt: skip
    after = run_pass(polyphase.as_pass(), model, tolerance=0 if quantised else None)
    assert [window(node) for node in convs(after)] == wanted
    assert set(standard(after)) <= {"Conv", "QuantizeHalfEven"}
    grids = [dialect.quantisation_of(n) for n in after.graph if dialect.is_quantize(n)]
    assert all(grid.same_grid(grids[0]) for grid in grids[:-1])


@pytest.mark.parametrize(("size", "cut"), [(16, False), (15, True)])
@pytest.mark.parametrize("activation", [None, "LeakyRelu"])
def test_a_large_kernel_rounds_once_behind_its_activation(size, cut, activation):
    model = conv_model(
        size=(size, size), kernel=(9, 9), pads=[4] * 4, quantised=True, activation=activation
    )
    after = run_pass([polyphase.as_pass(), hoist_quantise], model, tolerance=0)
    rounding, behind = ["QuantizeHalfEven"], [activation] if activation else []
    assert standard(after) == [
        *rounding, "Conv", *rounding, "Conv", *behind, *rounding, "Reshape", "Transpose",
        "Reshape", *(["Conv", *rounding] if cut else []),
    ]  # fmt: skip
    assert window(convs(after)[1]) == ((5, 5), (1, 1))


@pytest.mark.parametrize(
    ("stride", "wanted"), [((4, 1), [(2, 2), (2, 2)]), ((2, 2), [(2, 2), (1, 1)])]
)
def test_strides_of_one_column_are_those_of_its_rows(stride, wanted):
    model = conv_model(size=(32, 1), kernel=(9, 1), strides=stride, pads=(4, 0, 4, 0))
    after = run_pass(polyphase.as_pass(), model)
    assert [ints_attribute(node, "strides") for node in convs(after)] == wanted


def test_a_wide_dilation_is_a_smaller_kernel_on_phases():
    model = conv_model(size=(16, 16), dilations=(6, 6), pads=[6] * 4, quantised=True)
    after = run_pass([polyphase.as_pass(), hoist_quantise], model, tolerance=0)
    assert window(convs(after)[1]) == ((7, 7), (1, 1))


@pytest.mark.parametrize(("size", "blocked"), [(12, False), (13, True)])
def test_an_odd_stride_moves_whole_blocks(size, blocked):
    noted = context()
    model = conv_model(size=(size, size), strides=(3, 3), quantised=True)
    after = run_pass(polyphase.as_pass(), model, noted, tolerance=0)
    assert bool(noted.blocked) == blocked
    if blocked:
        assert "13x13 has no whole blocks of 3x3" in next(iter(noted.blocked.values()))[0]
    else:
        assert standard(after)[1:5] == ["Reshape", "Transpose", "Reshape", "Conv"]
        assert window(convs(after)[0]) == ((1, 1), (1, 1))


def test_the_report_counts_the_layers_that_make_phases():
    noted = context()
    model = conv_model(channels=3, outputs=8, size=(16, 16), kernel=(4, 4), strides=(4, 4))
    run_pass(polyphase.as_pass(), model, noted)
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == 12 * 3 * 4 * (8 * 8)
    assert rewrite.detail == (
        "a 4x4 convolution of stride 4x4 as a 2x2 convolution of stride 2x2 on 2x2 phases of the "
        "map"
    )
    assert len(noted.gains) == 1


@pytest.mark.parametrize(("kernel", "stride"), [((7, 7), (2, 1)), ((1, 7), (1, 2))])
def test_what_fits_stays(kernel, stride):
    noted = context()
    model = conv_model(size=(9, 9), kernel=kernel, strides=stride)
    assert ops(run_pass(polyphase.as_pass(), model, noted)) == ["Conv"]
    assert not noted.blocked
    assert not noted.rewrites


def test_what_has_no_small_form_is_told():
    noted = context()
    model = conv_model(channels=1, outputs=1, size=(20, 20), kernel=(19, 1), strides=(17, 1))
    run_pass(polyphase.as_pass(), model, noted)
    [[reason]] = noted.blocked.values()
    assert "no phases make a 19x1 kernel of stride 17x1 small enough" in reason


def test_too_many_channels_are_told():
    noted = context()
    model = conv_model(channels=513, outputs=1, size=(8, 8), kernel=(4, 4), strides=(4, 4))
    run_pass(polyphase.as_pass(), model, noted)
    [[reason]] = noted.blocked.values()
    assert "2052 channels, the limit is 2048" in reason


def test_fewer_phases_are_taken_where_channels_are_many():
    """8x8 phases of 33 channels are too many for one layer, 5x5 and 7x7 no whole blocks of 48."""
    noted = context()
    model = conv_model(channels=33, outputs=1, size=(48, 48), kernel=(31, 31), pads=(15,) * 4)
    after = run_pass(polyphase.as_pass(), model, noted, tolerance=1e-5)
    assert not noted.blocked
    assert "on 6x8 phases" in noted.rewrites[0].detail
    assert max(shape_of(node.inputs[0])[1] for node in convs(after)) == 48 * 33


def test_steps_per_channel_cannot_be_moved_into_phases():
    net, noted = Net(x=[1, 2, 8, 8]), context()
    x = net.quantize("x", np.full((1, 2, 1, 1), 0.25))
    y = net.op(
        "Conv", x, np.ones((2, 2, 4, 4), np.float32), kernel_shape=[4, 4], strides=[4, 4],
        pads=[0] * 4, dilations=[1, 1], group=1,
    )  # fmt: skip
    run_pass(polyphase.as_pass(), net.model(y), noted)
    assert "one step per channel" in noted.blocked[y][0]


def test_several_roundings_matter_only_where_phases_are_put_together():
    for stride, stays in ((1, True), (4, False)):
        net, noted = Net(x=[1, 2, 16, 16]), context()
        y = net.op(
            "Conv", "x", np.ones((2, 2, 9, 9), np.float32), kernel_shape=[9, 9],
            strides=[stride] * 2, pads=[4] * 4, dilations=[1, 1], group=1,
        )  # fmt: skip
        model = net.model(net.quantize(y, 0.5), net.quantize(y, 1.0))
        after = run_pass(polyphase.as_pass(), model, noted)
        assert (shape_of(convs(after)[0].outputs[0])[1] == 2) == stays
        assert bool(noted.blocked) == stays
