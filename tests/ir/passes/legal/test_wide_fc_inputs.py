"""Fully connected layers with many inputs, as convolutions of the inputs laid out anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes.legal.wide_fc_inputs import wide_fc_inputs
from tests.ir.passes.harness import Net, node_of, ops, run_pass
from tests.ir.passes.legal.fully_connected import fc_model, small_target


@settings(max_examples=30)
@given(
    shape=st.sampled_from([[36], [3, 12], [2, 9, 8], [4, 8, 3], [1, 64, 1], [5, 2, 2, 3], [97]]),
    samples=st.integers(1, 2),
    quantised=st.booleans(),
    outputs=st.integers(1, 5),
)
def test_the_convolution_computes_the_same(shape, samples, quantised, outputs):
    model = fc_model([samples, *shape], outputs, quantised=quantised, flatten=len(shape) > 1)
    noted = small_target(16)
    tolerance = 0 if quantised else None
    after = run_pass(wide_fc_inputs.as_pass(), model, noted, tolerance=tolerance)
    if shape == [97]:  # a prime
        assert "97 inputs cannot be laid out" in next(iter(noted.blocked.values()))[0]
        assert "Gemm" in ops(after)
    else:
        assert "Gemm" not in ops(after)
        assert shape_of(node_of(after, "Conv").inputs[0])[1] <= 16
        assert [rewrite.macs for rewrite in noted.rewrites] == [0]


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ([4096], (2048, 2, 1)),
        ([25088], (1792, 7, 2)),  # 16 times 112
        ([2304], (1152, 2, 1)),
        ([2050], (1025, 2, 1)),  # no layout has whole groups
        ([24, 10, 12], (1440, 2, 1)),
        ([25, 10, 12], (1500, 2, 1)),
        ([5, 9, 49], (735, 3, 1)),  # each of five channels becomes 147
    ],
)
def test_whole_groups_of_channels_are_preferred(shape, layout):
    model = fc_model([1, *shape], 2, flatten=len(shape) > 1)
    after = run_pass(wide_fc_inputs.as_pass(), model)
    assert shape_of(node_of(after, "Conv").inputs[0])[1:] == layout


@pytest.mark.parametrize(("count", "wide"), [(2048, False), (2064, True)])
def test_the_limit_is_that_of_the_target(count, wide):
    after = run_pass(wide_fc_inputs.as_pass(), fc_model([1, count], 2, flatten=False))
    assert ("Conv" in ops(after)) == wide


@pytest.mark.parametrize(
    ("shape", "layout"), [([4, 9, 9], None), ([4, 9, 14], (252, 2, 1)), ([100, 5, 9], (1500, 3, 1))]
)
def test_channels_that_will_be_padded_count(shape, layout):
    net, count = Net(x=[1, *shape]), int(np.prod(shape))
    value = net.op("Reshape", net.op("Relu", "x"), np.array([1, count]))
    model = net.model(net.op("Gemm", value, np.ones((2, count)), transB=1))
    noted = small_target(2000)
    after = run_pass(wide_fc_inputs.as_pass(), model, noted)
    assert not noted.blocked
    if layout is None:
        assert "Conv" not in ops(after)
    else:  # each channel becomes several
        assert shape_of(node_of(after, "Conv").inputs[0])[1:] == layout
