"""Clips where the map behind a layer saturates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.graph import input_array, producer
from dlaconv.ir.passes.legal.clip_by_saturation import clip_by_saturation
from dlaconv.ir.passes.maps.derive_maps import derive_maps
from dlaconv.ir.passes.maps.known_operators import problem_of
from dlaconv.ir.saturation import saturating_clip, saturation_of
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass

F = np.float32
PASS = clip_by_saturation.as_pass()


def conv(net, x="x", channels=4):
    weights = np.random.default_rng(0).normal(size=(channels, channels, 1, 1)).astype(F)
    return net.op("Conv", x, weights, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4,
                  dilations=[1, 1], group=1)  # fmt: skip


def clip(net, x, low=0.0, high=6.0):
    ends = [None if end is None else F(end) for end in (low, high)]
    return net.op("Clip", x, *ends)


def converted(build, noted=None, size=6, **feeds):
    net = Net(x=[1, 4, size, size])
    y = conv(net, build(net))
    noted = noted or context()
    return run_pass(PASS, net.model(y), noted), noted


def test_a_clip_behind_a_layer_stays_for_its_map():
    after, noted = converted(lambda net: clip(net, conv(net)))
    assert ops(after) == ["Conv", "Clip", "Conv"]
    assert noted.rewrites == []
    assert noted.blocked == {}
    assert problem_of(node_of(after, "Clip")) is None


@pytest.mark.parametrize("move", ["MaxPool", "Reshape", "Transpose"])
def test_a_clip_moves_in_front_of_what_moves_values(move):
    def build(net):
        x = conv(net)
        if move == "MaxPool":
            x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
        elif move == "Reshape":
            x = net.op("Reshape", x, np.array([1, 4, 4, 9]))
        else:
            x = net.op("Transpose", x, perm=[0, 1, 3, 2])
        return clip(net, x)

    after, noted = converted(build)
    assert ops(after) == ["Conv", "Clip", move, "Conv"]
    assert [item.macs for item in noted.rewrites] == [0]


@pytest.mark.parametrize("source", ["input", "shared pool"])
def test_a_clip_of_a_stored_map_gets_a_layer(source):
    def build(net):
        if source == "input":
            return clip(net, "x")
        pool = net.op("MaxPool", conv(net), kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
        return net.op("Add", clip(net, pool), pool)

    after, noted = converted(build)
    layer = producer(node_of(after, "Clip").inputs[0])
    assert layer.op_type == "Conv"
    assert layer.name in noted.gains
    assert [item.macs for item in noted.rewrites] == [4 * 36]


def test_a_clip_of_a_vector_gets_a_fully_connected_layer():
    net = Net(x=[1, 5])
    after = run_pass(PASS, net.model(net.op("Gemm", clip(net, "x"), np.eye(5, dtype=F), transB=1)))
    assert [op for op in ops(after) if op != "Dequantize"] == ["Gemm", "Clip", "Gemm"]


@pytest.mark.parametrize("io", ["pin", "absorb"])
def test_an_output_gets_a_layer_since_its_step_is_not_free(io):
    net = Net(x=[1, 4, 6, 6])
    pooled = net.op("MaxPool", clip(net, conv(net)), kernel_shape=[2, 2], strides=[2, 2],
                    pads=[0] * 4)  # fmt: skip
    after = run_pass(PASS, net.model(pooled), context(io=io))
    found = [op for op in ops(after) if op != "Dequantize"]
    assert found == ["Conv", "Clip", *(["Conv"] if io == "pin" else []), "MaxPool"]


@pytest.mark.parametrize("op", ["Tanh", "Sigmoid", "HardSwish"])
def test_tables_get_a_layer_in_between(op):
    after, _ = converted(lambda net: net.op(op, clip(net, conv(net), -2.0, 2.0)))
    found = [name for name in ops(after) if name != "Dequantize"]
    assert found == ["Conv", "Clip", "Conv", op, "Conv"]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(-1.0, 6.0, (0.0, 6.0)), (None, 6.0, (0.0, 6.0)), (-2.0, 5.0, (0.0, 5.0))],
)
def test_an_end_that_is_never_reached_may_lie_anywhere(low, high, wanted):
    def build(net):
        pooled = net.op("GlobalAveragePool", net.op("Relu", conv(net)))
        return clip(net, pooled, low, high)

    after, _ = converted(build)
    node = node_of(after, "Clip")
    assert tuple(float(input_array(node, index)) for index in (1, 2)) == wanted


@pytest.mark.parametrize(("low", "high"), [(-1.0, 6.0), (0.5, 6.0), (None, 6.0), (-6.0, -1.0)])
def test_ends_that_no_map_has_are_told(low, high):
    after, noted = converted(lambda net: clip(net, conv(net), low, high))
    assert "Clip" in ops(after)
    [[why]] = noted.blocked.values()
    assert "saturate on both sides of zero alike" in why
    assert problem_of(node_of(after, "Clip"))[0] == "DLA301"


def test_computed_ends_are_told():
    net = Net(x=[1, 4, 6, 6], top=[])
    y = net.op("Clip", conv(net), F(0), "top")
    noted = context()
    feeds = {"x": np.ones((1, 4, 6, 6), F), "top": np.array(2, F)}
    run_pass(PASS, net.model(y), noted, feeds=feeds)
    assert "no constants" in noted.blocked[y][0]


@given(high=st.floats(1e-3, 1e3), below=st.sampled_from([0.0, 1.0, 1.0078]))
def test_the_map_saturates_where_the_clip_ends(high, below):
    found = saturation_of(-high * below, high)
    step = found.step((-128, 127))
    assert abs(127 * step - high) <= step / 2 * (1 + 1e-9)
    if below:
        assert abs(-128 * step + high * below) <= step * 1.01
    assert found.rectified == (below == 0)


@pytest.mark.parametrize(("low", "high"), [(-1, 1.1), (-1.1, 1), (1, 2), (0, np.inf), (-1, 0)])
def test_other_clips_are_no_saturation(low, high):
    assert saturation_of(low, high) is None


@pytest.mark.parametrize(("low", "steps"), [(0.0, 127), (-6.0, 127.5)])
def test_maps_get_the_step_and_the_clip_goes(low, steps):
    net = Net(x=[1, 4, 6, 6])
    stored = net.quantize("x", 0.25)
    model = net.model(net.quantize(conv(net, clip(net, conv(net, stored), low)), 0.25))
    noted = context(calibration=Stacked({"x": np.full((1, 4, 6, 6), 30, F)}))
    after = run_pass(derive_maps, model, noted, tolerance=1.0)
    assert ("Relu" in ops(after)) == (low == 0)
    [(name, ends)] = noted.clips.items()
    assert ends == (low, 6.0)
    assert name in noted.derived
    node = next(n for n in after.graph if n.outputs[0].name == name)
    assert dialect.quantisation_of(node).scalar_step == pytest.approx(6 / steps)


def test_a_clip_that_the_data_do_not_reach_wastes_no_bits():
    net = Net(x=[1, 4, 6, 6])
    stored = net.quantize("x", 2.0**-7)
    value = clip(net, conv(net, stored))
    model = net.model(net.quantize(conv(net, value), 2.0**-8))
    data = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 4, 6, 6)).astype(F)
    noted = context(calibration=Stacked({"x": data}))
    after = run_pass(derive_maps, model, noted, feeds={"x": data}, tolerance=0.05)
    node = next(n for n in after.graph if n.outputs[0].name == value)
    assert dialect.quantisation_of(node).scalar_step < 1 / 127


def test_a_clip_that_no_layer_precedes_is_no_saturation():
    net = Net(x=[1, 4, 6, 6])
    model = net.model(conv(net, clip(net, "x")))
    assert saturating_clip(node_of(model, "Clip")) is None
