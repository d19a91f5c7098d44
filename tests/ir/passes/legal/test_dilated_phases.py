"""Wide dilations as smaller ones on the phases of a map."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import attribute, ints_attribute
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.dilated_phases import dilated_phases
from tests.ir.passes.harness import context, ops, run_pass
from tests.ir.passes.legal.support import conv_model, convs


def standard(model):
    return [op for op in ops(model) if op != "Dequantize"]


@settings(max_examples=25)
@given(
    dilations=st.tuples(st.sampled_from([1, 3, 4, 6, 8, 12]), st.sampled_from([2, 4, 5, 6])),
    pads=st.tuples(*[st.integers(0, 7)] * 4),
    size=st.tuples(st.integers(25, 28), st.integers(13, 16)),
    depthwise=st.booleans(),
    quantised=st.booleans(),
    activation=st.sampled_from([None, "Relu", "LeakyRelu", "PRelu"]),
    seed=st.integers(0, 9),
)
def test_the_phases_compute_the_same(dilations, pads, size, depthwise, quantised, activation, seed):
    model = conv_model(
        channels=3, outputs=3, size=size, kernel=(3, 3), pads=pads, dilations=dilations,
        group=3 if depthwise else 1, quantised=quantised, activation=activation, seed=seed,
    )  # fmt: skip
    noted = context()
    passes = [dilated_phases.as_pass(), hoist_quantise]
    after = run_pass(passes, model, noted, tolerance=0 if quantised else None)
    wide = any(2 * dilation + 1 > 7 for dilation in dilations)
    assert not noted.blocked
    assert bool(noted.rewrites) == (wide and 5 not in dilations)
    for node in convs(after) if noted.rewrites else ():
        assert all(2 * d + 1 <= 7 for d in ints_attribute(node, "dilations"))
        assert min(ints_attribute(node, "pads")) >= 0


@pytest.mark.parametrize(("dilation", "phases"), [(3, 1), (4, 4), (6, 4), (12, 16)])
def test_as_few_phases_as_possible(dilation, phases):
    model = conv_model(size=(28, 28), dilations=(dilation,) * 2, pads=[dilation] * 4)
    noted = context()
    layers = [n for n in convs(run_pass(dilated_phases.as_pass(), model, noted)) if n.inputs[2:]]
    assert len(layers) == phases
    for rewrite in noted.rewrites:  # what picks the phases of 3 channels from a graph input
        assert rewrite.exact
        assert 0 < rewrite.macs < 28 * 28 * 3 * 3 * 9


def test_a_depthwise_convolution_stays_depthwise():
    model = conv_model(
        channels=16, outputs=16, group=16, size=(16, 16), dilations=(4, 4), pads=[4] * 4
    )
    after = run_pass(dilated_phases.as_pass(), model)
    assert {attribute(node, "group", 1) for node in convs(after)} == {16}


@pytest.mark.parametrize(("size", "cut"), [(16, False), (15, True)])
def test_each_result_is_rounded_once_behind_its_activation(size, cut):
    model = conv_model(
        size=(size, size), dilations=(4, 4), pads=[4] * 4, quantised=True, activation="LeakyRelu"
    )
    after = run_pass([dilated_phases.as_pass(), hoist_quantise], model, tolerance=0)
    rounding = "QuantizeHalfEven"
    assert standard(after).count("LeakyRelu") == 4
    assert standard(after).count(rounding) == 1 + 4 + 4 + cut
    assert standard(after)[-3 - 2 * cut :][:3] == ["Reshape", "Transpose", "Reshape"]


@pytest.mark.parametrize("strides", [(2, 2), (1, 2)])
def test_strides_are_left_to_polyphase(strides):
    model = conv_model(size=(16, 16), dilations=(4, 4), strides=strides, pads=[4] * 4)
    assert ops(run_pass(dilated_phases.as_pass(), model)) == ["Conv"]
