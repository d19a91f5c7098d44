"""Padding that differs between opposite sides, or is too large."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, ints_attribute
from dlaconv.ir.passes.legal.conv_pads import conv_pads
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.support import conv_model

PAIRS = st.tuples(st.integers(0, 8), st.integers(0, 8))


def last_conv(model):
    return [node for node in model.graph if node.op_type == "Conv"][-1]


def interleaved(rows, columns):
    return (rows[0], columns[0], rows[1], columns[1])


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 7)),
    stride=st.integers(1, 2),
    rows=PAIRS,
    columns=PAIRS,
    size=st.tuples(st.integers(3, 9), st.integers(4, 9)),
    depthwise=st.booleans(),
    quantised=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_same_is_computed_with_legal_padding(
    kernel, stride, rows, columns, size, depthwise, quantised, seed
):
    reach = [s + sum(pads) for s, pads in zip(size, (rows, columns), strict=True)]
    if any(k > r for k, r in zip(kernel, reach, strict=True)):
        return
    model = conv_model(
        channels=2, outputs=2, size=size, kernel=kernel, strides=(stride, stride),
        pads=interleaved(rows, columns), group=2 if depthwise else 1, quantised=quantised,
        seed=seed,
    )  # fmt: skip
    noted = context()
    tolerance = 0 if quantised else None
    after = run_pass(conv_pads.as_pass(), model, noted, tolerance=tolerance)
    for node in after.graph:
        if node.op_type == "Conv":
            assert max(ints_attribute(node, "pads")) <= 3
            assert max(ints_attribute(node, "kernel_shape")) <= 7
    pads = ints_attribute(last_conv(after), "pads")
    assert pads[:2] == pads[2:] or max(kernel) > 4
    if rows[0] == rows[1] <= 3 and columns[0] == columns[1] <= 3:
        assert not noted.rewrites


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "wanted", "grown"),
    [
        (3, 2, (0, 1), (1, 1), 4),  # even sizes: "same" of Keras
        (5, 2, (1, 2), (2, 2), 6),
        (6, 1, (2, 3), (3, 3), 7),
        (3, 1, (1, 0), (1, 1), 4),
        (2, 1, (1, 0), (1, 1), 3),
        (3, 1, (0, 3), (3, 3), 6),
        (3, 2, (1, 0), (1, 1), 3),  # one more row at the end makes no further window
        (7, 1, (3, 2), (3, 2), 7),  # 8 taps are too many
    ],
)
def test_unequal_pads_become_zeros_in_the_kernel(kernel, stride, pads, wanted, grown):
    model = conv_model(
        size=(8, 8), kernel=(kernel, kernel), strides=(stride, stride),
        pads=interleaved(pads, pads),
    )  # fmt: skip
    noted = context()
    after = node_of(run_pass(conv_pads.as_pass(), model, noted), "Conv")
    assert ints_attribute(after, "pads") == interleaved(wanted, wanted)
    assert ints_attribute(after, "kernel_shape") == (grown, grown)
    assert bool(noted.blocked) == (wanted[0] != wanted[1])


def test_the_report_counts_the_multiplications_by_the_new_zeros():
    noted = context()
    model = conv_model(channels=2, outputs=4, size=(8, 8), strides=(2, 2), pads=(0, 0, 1, 1))
    run_pass(conv_pads.as_pass(), model, noted)
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == (16 - 9) * 2 * 4 * (4 * 4)
    assert (
        rewrite.detail
        == "pads [0, 0, 1, 1] as [1, 1, 1, 1] of a 4x4 kernel with zeros at its border"
    )


@pytest.mark.parametrize(("size", "group"), [(4, 3), (3, 1)])
def test_a_layer_of_ones_pads_first_depthwise_where_the_map_allows(size, group):
    noted = context()
    model = conv_model(size=(size, size), kernel=(5, 5), pads=(5, 5, 5, 5), quantised=True)
    after = run_pass(conv_pads.as_pass(), model, noted, tolerance=0)
    assert [op for op in ops(after) if op in {"Conv", "QuantizeHalfEven"}] == [
        "QuantizeHalfEven", "Conv", "QuantizeHalfEven", "Conv", "QuantizeHalfEven"
    ]  # fmt: skip
    identity = next(node for node in after.graph if node.op_type == "Conv")
    assert attribute(identity, "group", 1) == group
    assert ints_attribute(identity, "pads") == (2, 2, 2, 2)
    assert identity.name in noted.gains
    assert ints_attribute(last_conv(after), "pads") == (3, 3, 3, 3)
    stored = [dialect.quantisation_of(n) for n in after.graph if dialect.is_quantize(n)]
    assert stored[0].same_grid(stored[1])


def test_very_large_pads_take_several_layers():
    noted = context()
    model = conv_model(size=(6, 6), kernel=(7, 7), pads=(8, 4, 9, 4))
    after = run_pass(conv_pads.as_pass(), model, noted)
    assert [ints_attribute(n, "pads") for n in after.graph if n.op_type == "Conv"] == [
        (3, 1, 3, 1), (3, 0, 3, 0), (2, 3, 3, 3)
    ]  # fmt: skip


def test_a_padded_map_beyond_the_limit_is_told():
    noted = context()
    model = conv_model(channels=1, outputs=1, size=(255, 4), kernel=(1, 1), pads=(4, 0, 4, 0))
    after = run_pass(conv_pads.as_pass(), model, noted)
    assert ops(after) == ["Conv"]
    [[reason]] = noted.blocked.values()
    assert "1x257x4, which the hardware cannot store" in reason


def test_a_grid_without_zero_cannot_be_padded():
    net = Net(x=[1, 2, 5, 5])
    x = net.quantize("x", 0.25, zero_point=200.0)
    y = net.op(
        "Conv", x, np.ones((2, 2, 1, 1), np.float32), kernel_shape=[1, 1], strides=[1, 1],
        pads=[4] * 4, dilations=[1, 1], group=1,
    )  # fmt: skip
    noted = context()
    run_pass(conv_pads.as_pass(), net.model(net.quantize(y)), noted)
    assert "no integer for the zeros" in noted.blocked[y][0]


def test_computed_weights_get_no_zeros():
    noted = context()
    model = conv_model(pads=(0, 0, 1, 1), strides=(2, 2), computed=True)
    assert ops(run_pass(conv_pads.as_pass(), model, noted)) == ["Conv"]
    [[reason]] = noted.blocked.values()
    assert "no constants" in reason
