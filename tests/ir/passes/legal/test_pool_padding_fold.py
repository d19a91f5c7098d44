"""Pads before pools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute, ints_attribute
from dlaconv.ir.passes.legal.pool_padding_fold import pool_padding_fold
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.pools import SOURCES, source, wide_feeds

PASS = pool_padding_fold.as_pass()
AROUND = (1, 0, 1, 2)


def network(op_type, amounts=AROUND, fill=0.0, kind="relu", own=(0, 0, 0, 0), axes=None, **how):
    """A Pad (top, left, bottom, right) and a pool of 3x3."""
    net = Net(x=[1, 2, 7, 6])
    more = [] if fill is None and axes is None else [np.float32(fill or 0)]
    if axes is None:
        pads = [0, 0, *amounts[:2], 0, 0, *amounts[2:]]
    else:
        pads = list(amounts)
        more.append(np.array(axes))
    mode = {key: how.pop(key) for key in ("mode",) if key in how}
    x = net.op("Pad", source(net, kind), np.array(pads), *more, **mode)
    if op_type == "MaxPool":
        how.setdefault("dilations", [1, 1])
    y = net.op(op_type, x, kernel_shape=[3, 3], strides=[2, 2], pads=list(own), **how)
    return net.model(y)


def legalised(model, noted=None):
    return run_pass(PASS, model, noted, wide_feeds(model), tolerance=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    op_type=st.sampled_from(["MaxPool", "AveragePool"]),
    amounts=st.tuples(*[st.integers(0, 2)] * 4),
    own=st.tuples(*[st.integers(0, 1)] * 4),
    fill=st.sampled_from([None, 0.0, -1.0, -np.inf, 1.0]),
    kind=st.sampled_from(SOURCES),
    count=st.integers(0, 1),
)
def test_the_pool_computes_the_same(op_type, amounts, own, fill, kind, count):
    how = {"count_include_pad": count} if op_type == "AveragePool" else {}
    if op_type == "AveragePool" and fill == -np.inf:
        fill = 0.0
    legalised(network(op_type, amounts, fill, kind, own, **how))


@pytest.mark.parametrize(
    ("fill", "kind"),
    [
        (0.0, "relu"), (None, "unsigned"), (-3.0, "relu"), (-np.inf, "float"),
        (np.finfo(np.float32).min, "float"), (-40.0, "signed"),
    ],
)  # fmt: skip
def test_values_that_never_win_are_folded(fill, kind):
    after = legalised(network("MaxPool", fill=fill, kind=kind))
    assert "Pad" not in ops(after)
    assert ints_attribute(node_of(after, "MaxPool"), "pads") == AROUND


@pytest.mark.parametrize(
    ("fill", "kind"), [(0.0, "signed"), (0.0, "float"), (1.0, "relu"), (-20.0, "signed")]
)
def test_values_that_may_win_stay(fill, kind):
    assert "Pad" in ops(legalised(network("MaxPool", fill=fill, kind=kind)))


@pytest.mark.parametrize(("own", "count"), [((0, 0, 0, 0), 0), ((1, 1, 0, 0), 1)])
def test_zeros_before_an_average_are_counted(own, count):
    model = network("AveragePool", (1, 0, 1, 1), kind="float", own=own, count_include_pad=count)
    node = node_of(legalised(model), "AveragePool")
    assert attribute(node, "count_include_pad", 0) == 1
    assert ints_attribute(node, "pads") == (1 + own[0], own[1], 1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"own": (1, 1, 1, 1), "count_include_pad": 0},
        {"fill": 1.0},
        {"amounts": (3, 0, 0, 0)},
        {"ceil_mode": 1},
        {"mode": "reflect"},
        {"amounts": (-1, 0, 0, 0)},
    ],
)
def test_other_averages_keep_their_pad(change):
    assert "Pad" in ops(legalised(network("AveragePool", **change)))


def test_a_pad_may_name_its_axes():
    after = legalised(network("MaxPool", (1, 2), axes=[-1]))
    assert ints_attribute(node_of(after, "MaxPool"), "pads") == (0, 1, 0, 2)


def test_a_pad_of_channels_stays():
    assert "Pad" in ops(legalised(network("MaxPool", (1, 2), axes=[1])))


def test_it_costs_nothing():
    noted = context()
    legalised(network("MaxPool"), noted)
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]
