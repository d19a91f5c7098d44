"""Slices, Pads and choices of channels as convolutions that pick."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, ints_attribute
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.selection import selection
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass


def ints(*numbers):
    return np.array(numbers, np.int64)


def cut(net, x, axes, starts, ends, steps=None):
    steps = [ints(*steps)] if steps else []
    return net.op("Slice", x, ints(*starts), ints(*ends), ints(*axes), *steps)


def pad(net, x, pads, fill=0.0, **attributes):
    return net.op("Pad", x, ints(*pads), np.float32(fill), **attributes)


def standard_ops(model):
    return [op for op in ops(model) if not op.startswith(("Quantize", "Dequantize"))]


def conv_of(model):
    return node_of(model, "Conv")


def window(node):
    names = ("kernel_shape", "strides", "pads")
    return tuple(ints_attribute(node, name) for name in names)


SPAN = st.tuples(st.integers(-3, 6), st.integers(-4, 12), st.integers(1, 2))


@given(
    rows=SPAN,
    columns=SPAN,
    channels=st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 6),
    pad_first=st.booleans(),
    quantised=st.booleans(),
    stored=st.booleans(),
)
def test_chains_show_the_same(rows, columns, channels, pads, pad_first, quantised, stored):
    size, spans = (4, 7, 8), (channels, rows, columns)
    before = [n + a + b for n, a, b in zip(size, pads[:3], pads[3:], strict=True)]
    if any(
        not len(range(*slice(*span).indices(n)))
        for span, n in zip(spans, before if pad_first else size, strict=True)
    ):
        return
    net = Net(x=[1, *size])
    x = net.quantize("x") if quantised else "x"
    zeros = (0, *pads[:3], 0, *pads[3:])
    y = pad(net, x, zeros) if pad_first else x
    y = cut(net, y, (1, 2, 3), *zip(*spans, strict=True))
    y = y if pad_first else pad(net, y, zeros)
    if quantised and stored:
        y = net.quantize(y)
    noted = context()
    after = run_pass(selection.as_pass(), net.model(y), noted, tolerance=0)
    if not noted.blocked:
        assert set(standard_ops(after)) == {"Conv"}
    for node in after.graph:
        if node.op_type == "Conv":
            kernel, strides, padding = window(node)
            assert max(kernel) <= 7
            assert max(strides) <= 2
            assert max(padding) <= 3
    assert all(
        "convolution" not in why or "stride" in why for w in noted.blocked.values() for why in w
    )


def test_the_shortcut_of_a_cifar_resnet_is_one_strided_convolution():
    net = Net(x=[1, 16, 8, 8])
    x = net.op("Relu", "x")
    y = cut(net, cut(net, x, [2], [0], [2**63 - 1], [2]), [3], [0], [2**63 - 1], [2])
    y = net.op("Add", pad(net, y, (0, 8, 0, 0, 0, 8, 0, 0)), np.ones((1, 32, 4, 4), np.float32))
    noted = context()
    after = run_pass(selection.as_pass(), net.model(y), noted, tolerance=0)
    assert standard_ops(after) == ["Relu", "Conv", "Add"]
    conv = conv_of(after)
    assert window(conv) == ((1, 1), (2, 2), (0, 0, 0, 0))
    assert attribute(conv, "group", 1) == 1
    [rewrite] = noted.rewrites
    assert rewrite.exact
    assert rewrite.macs == 16 * 32 * (4 * 4)
    assert rewrite.detail == "Slice and Pad as a 1x1 convolution of stride 2x2 that picks"
    assert conv.name in noted.gains


def test_the_focus_layer_of_yolo_is_one_convolution():
    net = Net(x=[1, 3, 8, 10])
    x = net.quantize("x")
    parts = [
        cut(net, cut(net, x, [2], [row], [99], [2]), [3], [column], [99], [2])
        for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))
    ]
    after = run_pass(selection.as_pass(), net.model(net.op("Concat", *parts, axis=1)), tolerance=0)
    assert standard_ops(after) == ["Conv"]
    assert window(conv_of(after)) == ((2, 2), (2, 2), (0, 0, 0, 0))
    stored = [dialect.quantisation_of(n) for n in after.graph if dialect.is_quantize(n)]
    assert stored[0].same_grid(stored[1])


@pytest.mark.parametrize(
    ("size", "start", "kernel", "groups"),
    [(8, 1, 2, 3), (9, 6, 7, 3), (3, 1, 2, 1), (4, 1, 2, 3)],
)
def test_an_offset_is_a_kernel_that_is_depthwise_where_the_map_allows(size, start, kernel, groups):
    for produced in (True, False):
        net = Net(x=[1, 3, size, size])
        x = net.op("Relu", "x") if produced else "x"
        model = net.model(cut(net, x, [2], [start], [size]))
        after = run_pass(selection.as_pass(), model, tolerance=0)
        assert window(conv_of(after)) == ((kernel, 1), (1, 1), (0, 0, 0, 0))
        # of a graph input of 3 channels a dense layer can make 16
        assert attribute(conv_of(after), "group", 1) == (groups if produced else 1)


@pytest.mark.parametrize("operands", [1, 2])
def test_a_map_that_others_read_too_is_picked_from_where_it_is(operands):
    net = Net(x=[1, 4, 8, 8])
    first = cut(net, "x", [2], [1], [8])
    both = [cut(net, first, [3], [1], [8])]
    both += [net.op("Relu", first)] if operands == 2 else []
    after = run_pass(selection.as_pass(), net.model(*both), tolerance=0)
    assert standard_ops(after).count("Conv") == len(both)


def test_gathered_channels_are_a_selection():
    net = Net(x=[1, 3, 5, 5])
    after = run_pass(
        selection.as_pass(),
        net.model(net.op("Gather", "x", ints(2, -2, 0, 0), axis=1)),
        tolerance=0,
    )
    assert standard_ops(after) == ["Conv"]
    kernel = dialect.array_of(conv_of(after).inputs[1].producer().inputs[0])
    assert kernel.shape == (4, 3, 1, 1)
    assert np.argwhere(kernel)[:, :2].tolist() == [[0, 2], [1, 1], [2, 0], [3, 0]]


def test_a_rounding_behind_it_has_gone_before_it():
    net = Net(x=[1, 4, 8, 8])
    x = net.op(
        "Conv", net.quantize("x"), np.ones((4, 4, 1, 1), np.float32) / 3, kernel_shape=[1, 1],
        strides=[1, 1], pads=[0] * 4, dilations=[1, 1], group=1,
    )  # fmt: skip
    y = net.quantize(cut(net, x, [2], [1], [8]), 0.5)
    after = run_pass([hoist_quantise, selection.as_pass()], net.model(y), tolerance=0)
    types = [op for op in ops(after) if op != "Dequantize"]
    assert types == ["QuantizeHalfEven", "Conv", "QuantizeHalfEven", "Conv", "QuantizeHalfEven"]


def test_another_rounding_behind_a_stored_map_stays_the_only_one():
    net = Net(x=[1, 4, 8, 8])
    y = net.quantize(cut(net, net.quantize("x", 0.25), [2], [1], [8]), 1.0)
    after = run_pass(selection.as_pass(), net.model(y), tolerance=0)
    assert [op for op in ops(after) if op != "Dequantize"] == [
        "QuantizeHalfEven", "Conv", "QuantizeHalfEven"
    ]  # fmt: skip


BLOCKED = {
    "stride of 4": lambda net: cut(net, "x", [2], [0], [16], [4]),
    "kernel of 8": lambda net: cut(net, "x", [2], [7], [16]),
    "padding of 4": lambda net: pad(net, "x", (0, 0, 4, 0, 0, 0, 0, 0)),
    "pads with 1,": lambda net: pad(net, "x", (0, 0, 1, 0, 0, 0, 0, 0), 1.0),
    "pads with copies": lambda net: pad(net, "x", (0, 0, 1, 0, 0, 0, 0, 0), mode="reflect"),
    "evenly spaced": lambda net: cut(net, "x", [3], [-1], [-99], [-1]),
    "constant list": lambda net: net.op("Gather", "x", ints(1, 2).reshape(2, 1), axis=1),
    "channels, rows and columns": lambda net: cut(
        net, net.op("Reshape", "x", ints(1, 4, 256)), [2], [1], [9]
    ),
    "one step per channel": lambda net: cut(
        net, net.quantize("x", np.full((1, 4, 1, 1), 0.5)), [1], [0], [2]
    ),
    "no integer for zeros": lambda net: pad(
        net, net.quantize("x", 0.5, zero_point=300.0), (0, 4, 0, 0, 0, 0, 0, 0)
    ),
}


@pytest.mark.parametrize("reason", BLOCKED)
def test_what_no_convolution_can_do_is_told_and_stays(reason):
    net, noted = Net(x=[1, 4, 16, 16]), context()
    model = net.model(BLOCKED[reason](net))
    after = run_pass(selection.as_pass(), model, noted)
    assert ops(after) == ops(model)
    [[told]] = noted.blocked.values()
    assert reason in told


def test_a_concat_of_different_maps_stays_a_concat():
    net = Net(x=[1, 4, 8, 8], z=[1, 4, 8, 8])
    y = net.op("Concat", cut(net, "x", [2], [1], [8]), cut(net, "z", [2], [0], [7]), axis=1)
    after = run_pass(selection.as_pass(), net.model(y), tolerance=0)
    assert sorted(standard_ops(after)) == ["Concat", "Conv", "Conv"]


def test_a_chain_that_one_kernel_cannot_reach_is_several_layers():
    net = Net(x=[1, 4, 16, 16])
    y = "x"
    for _ in range(10):
        y = cut(net, y, [2], [1], [99])
    noted = context()
    after = run_pass(selection.as_pass(), net.model(y), noted, tolerance=0)
    assert standard_ops(after) == ["Conv", "Conv"]
