"""Differences of maps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.passes.legal.subtract_maps import subtract_maps
from dlaconv.ir.rounding import Rounding
from tests.ir.passes.harness import Net, context, run_pass
from tests.ir.passes.legal.support import constants, integers_of_conv, operators


def convolved(net, x, channels, *, quantised=False):
    weights, bias = constants(
        net, np.random.default_rng(1), (channels, channels, 3, 3), channels, quantised=quantised
    )
    return net.op(
        "Conv", x, weights, bias, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4,
        dilations=[1, 1], group=1,
    )  # fmt: skip


@given(
    channels=st.integers(1, 5),
    size=st.lists(st.integers(1, 6), max_size=3),
    negated=st.booleans(),
)
def test_the_second_map_is_negated_by_a_layer(channels, size, negated):
    shape = [1, channels, *size]
    net = Net(a=shape, b=shape)
    y = net.op("Sub", "b", "a") if negated else net.op("Sub", "a", "b")
    after = run_pass(subtract_maps.as_pass(), net.model(y))
    assert operators(after)[-1] == "Add"
    assert "Sub" not in operators(after)


@pytest.mark.parametrize("quantised", [False, True])
def test_a_layer_that_only_the_difference_reads_changes_its_signs(quantised):
    net = Net(x=[1, 4, 6, 5])
    x = net.quantize("x") if quantised else "x"
    y = net.op("Sub", x, convolved(net, x, 4, quantised=quantised))
    model = net.model(net.quantize(y, 0.5) if quantised else y)
    noted = context()
    after = run_pass(subtract_maps.as_pass(), model, noted, tolerance=0)
    assert operators(after).count("Conv") == 1
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]
    if quantised:
        assert np.array_equal(integers_of_conv(after)[0], -integers_of_conv(model)[0])


def test_a_layer_that_others_read_keeps_its_signs():
    net, noted = Net(x=[1, 16, 6, 5]), context()
    layer = convolved(net, "x", 16)
    model = net.model(net.op("Sub", "x", layer), layer)
    assert operators(run_pass(subtract_maps.as_pass(), model, noted)) == ["Conv", "Conv", "Add"]
    assert [rewrite.macs for rewrite in noted.rewrites] == [16 * 6 * 5]


@pytest.mark.parametrize(
    "stored", [{"narrow": True}, {"signed": False, "bits": 7}, {"rounding": Rounding.FLOOR,
                                                               "narrow": True}]
)  # fmt: skip
def test_integers_that_have_negatives_are_negated(stored):
    net = Net(a=[1, 4, 5, 5], b=[1, 4, 5, 5])
    y = net.op("Sub", net.quantize("a"), net.quantize("b", **stored))
    feeds = {name: np.random.default_rng(2).normal(0, 99, (1, 4, 5, 5)) for name in "ab"}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    after = run_pass(subtract_maps.as_pass(), net.model(net.quantize(y)), feeds=feeds, tolerance=0)
    [mirrored] = [n for n in after.graph if dialect.is_quantize(n) and "stored" in n.name]
    assert dialect.quantisation_of(mirrored).qmin == -127
    assert dialect.rounding_of(mirrored) is Rounding.HALF_EVEN


def test_minus_128_has_no_negative_unless_it_cannot_occur():
    for bounded in (False, True):
        net = Net(a=[1, 4, 5, 5], b=[1, 4, 5, 5])
        b = net.quantize(net.op("Relu", "b") if bounded else "b")
        noted = context()
        after = run_pass(
            subtract_maps.as_pass(), net.model(net.op("Sub", net.quantize("a"), b)), noted,
            tolerance=0,
        )  # fmt: skip
        assert ("Sub" in operators(after)) != bounded
        if not bounded:
            [[reason]] = noted.blocked.values()
            assert "reach -128" in reason


def test_what_a_quantised_network_does_not_round_is_rounded_once():
    net, noted = Net(x=[1, 4, 6, 5]), context()
    x = net.quantize("x")
    layer = convolved(net, x, 4, quantised=True)
    outputs = [net.quantize(net.op("Sub", x, layer), 0.5), net.quantize(layer, 0.5)]
    after = run_pass(subtract_maps.as_pass(), net.model(*outputs), noted, tolerance=0)
    assert operators(after).count("Conv") == 2
    assert [rewrite.macs for rewrite in noted.rewrites] == [4 * 4 * 9 * 30]


def test_what_no_layer_computes_would_be_rounded_twice():
    net, noted = Net(x=[1, 4, 6, 5]), context()
    x = net.quantize("x")
    difference = net.op("Sub", x, net.op("Add", x, x))
    model = net.model(net.quantize(difference))
    assert "Sub" in operators(run_pass(subtract_maps.as_pass(), model, noted))
    assert "not rounded in the source" in next(iter(noted.blocked.values()))[0]


def test_maps_of_different_shapes_are_told():
    net, noted = Net(a=[1, 4, 5, 5], b=[1, 4, 1, 1]), context()
    assert operators(
        run_pass(subtract_maps.as_pass(), net.model(net.op("Sub", "a", "b")), noted)
    ) == ["Sub"]
    [[reason]] = noted.blocked.values()
    assert "[1, 4, 5, 5] and [1, 4, 1, 1]" in reason


def test_constants_are_left_to_others():
    net, noted = Net(a=[1, 4, 5, 5]), context()
    model = net.model(net.op("Sub", "a", np.float32(1)))
    assert operators(run_pass(subtract_maps.as_pass(), model, noted)) == ["Sub"]
    assert not noted.blocked
