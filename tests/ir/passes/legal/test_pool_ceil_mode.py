"""Max pools that round the number of their windows up."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import ints_attribute
from dlaconv.ir.passes.legal.max_pool_cascade import max_pool_cascade
from dlaconv.ir.passes.legal.max_pool_padding import max_pool_padding
from dlaconv.ir.passes.legal.pool_ceil_mode import pool_ceil_mode
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass
from tests.ir.passes.legal.pools import SOURCES, broken, pool, wide_feeds


def last(size, kernel, stride, begin, end):
    """Where the last window would start if padding at the end counted as something to see."""
    return -(-(size + begin + end - kernel) // stride) * stride


PASS = pool_ceil_mode.as_pass()


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    kind=st.sampled_from(SOURCES),
    seed=st.integers(0, 99),
)
def test_it_computes_the_same_and_suits_the_other_rewrites(size, kernel, strides, pads, kind, seed):
    assume(all(pad < kernel[index % 2] for index, pad in enumerate(pads)))
    assume(all(n + a >= k for n, a, k in zip(size, pads[:2], kernel, strict=True)))
    assume(
        all(
            n + a > last(*window)
            for window, n, a in zip(
                zip(size, kernel, strides, pads, pads[2:], strict=False),
                size,
                pads[:2],
                strict=True,
            )
        )
    )
    assume(kind != "float" or not any(pads[:2]))
    model = pool(
        "MaxPool", (1, 2, *size), kind,
        kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=1,
    )  # fmt: skip
    passes = [item.as_pass() for item in (pool_ceil_mode, max_pool_cascade, max_pool_padding)]
    after = run_pass(passes, model, None, wide_feeds(model, seed), tolerance=0)
    assert broken(after) == []


@pytest.mark.parametrize(("size", "stride", "ends"), [(8, 2, (1, 1)), (9, 2, (0, 0))])
def test_the_end_is_padded_by_what_the_last_window_lacks(size, stride, ends):
    noted = context()
    model = pool(
        "MaxPool", (1, 2, size, size), "relu",
        kernel_shape=[3, 3], strides=[stride] * 2, ceil_mode=1,
    )  # fmt: skip
    after = run_pass(PASS, model, noted, tolerance=0)
    node = node_of(after, "MaxPool")
    assert ints_attribute(node, "pads") == (0, 0, *ends)
    assert "ceil_mode" not in node.attributes
    assert [rewrite.macs for rewrite in noted.rewrites] == [0]


def test_a_window_of_nothing_but_padding_is_refused():
    noted = context()
    model = pool(
        "MaxPool", (1, 2, 8, 8), "relu", pads=(0, 0, 1, 1),
        kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1,
    )  # fmt: skip
    pool_ceil_mode.as_pass()(model, noted)
    [[reason]] = noted.blocked.values()
    assert "nothing but padding" in reason


def test_a_dilation_of_one_element_is_none():
    model = pool("MaxPool", (1, 2, 8, 8), "relu", kernel_shape=[1, 2], strides=[1, 2],
                 dilations=[3, 1])  # fmt: skip
    after = run_pass(PASS, model, tolerance=0)
    assert ints_attribute(node_of(after, "MaxPool"), "dilations") == (1, 1)


def test_dilated_pools_are_told_and_left_alone():
    noted = context()
    model = pool("MaxPool", (1, 2, 8, 8), "relu", kernel_shape=[2, 2], strides=[1, 1],
                 dilations=[2, 2])  # fmt: skip
    assert ops(run_pass(PASS, model, noted)) == ["Relu", "MaxPool"]
    [[reason]] = noted.blocked.values()
    assert "dilation" in reason


def test_positions_of_maxima_are_nothing_for_the_hardware():
    net = Net(x=[1, 1, 6, 6])
    y = net.op("MaxPool", "x", outputs=2, kernel_shape=[3, 3], strides=[2, 2], pads=[0] * 4,
               ceil_mode=1)  # fmt: skip
    net.values[f"{y}_1"].dtype = ir.DataType.INT64
    noted = context()
    run_pass(PASS, net.model(y, f"{y}_1"), noted)
    assert "positions" in noted.blocked[y][0]


def test_other_pools_are_left_alone():
    noted = context()
    model = pool("MaxPool", (1, 2, 8, 8), "relu", kernel_shape=[3, 3], strides=[2, 2])
    run_pass(PASS, model, noted, {"x": np.ones((1, 2, 8, 8), np.float32)})
    assert noted.rewrites == []
