"""The simulator's interface: what it takes, what it returns, what it refuses."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from networks import random_feeds
from scaled_net import UINT8, Net

from dlaconv.backends.access.reference import run_reference
from dlaconv.backends.access.simulator import Simulator
from dlaconv.errors import UsageError
from dlaconv.ir.layers import network_of


def residual_net():
    rng = np.random.default_rng(0)
    net = Net()
    x = net.input((1, 3, 6, 6), -5)
    w = rng.integers(-128, 128, (8, 3, 3, 3))
    a = net.conv(
        x, w, [Fraction(1, 2**6 * 177)] * 8, -4, pads=(1,) * 4, activation="Relu", limits=UINT8
    )
    w = rng.integers(-128, 128, (8, 8, 3, 3))
    b = net.conv(a, w, [Fraction(1, 2**9)] * 8, -5, pads=(1,) * 4, bias=[9] * 8)
    return net.model(net.binary("Add", a, b, -3), a)


def test_returns_graph_outputs_in_the_smallest_integer_type():
    model = residual_net()
    network = network_of(model)
    feeds = random_feeds(network, 1)
    got = Simulator(model).run(feeds)
    assert list(got) == [value.name for value in model.graph.outputs]
    assert [array.dtype for array in got.values()] == [np.int8, np.uint8]


def test_takes_a_network_as_well_as_a_model():
    network = network_of(residual_net())
    feeds = random_feeds(network, 1)
    expected = run_reference(network, feeds)
    for name, array in Simulator(network).run(feeds).items():
        np.testing.assert_array_equal(array, expected[name])


def test_fetches_every_map_or_the_ones_asked_for():
    model = residual_net()
    network = network_of(model)
    feeds = random_feeds(network, 1)
    everything = Simulator(model, fetch="all").run(feeds)
    assert set(everything) == set(network.maps)
    np.testing.assert_array_equal(everything["in0"], feeds["in0"])
    inner = network.layers[1].output.name
    assert list(Simulator(model, fetch=[inner]).run(feeds)) == [inner]
    with pytest.raises(ValueError, match="nowhere"):
        Simulator(model, fetch=["nowhere"])


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
def test_takes_any_dtype_that_holds_the_integers(dtype):
    model = residual_net()
    feeds = random_feeds(network_of(model), 1)
    expected = Simulator(model).run(feeds)
    got = Simulator(model).run({"in0": feeds["in0"].astype(dtype)})
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize(
    ("feed", "complaint"),
    [
        (np.zeros((1, 3, 6, 5)), r"shape \[1, 3, 6, 5\], expected \[1, 3, 6, 6\]"),
        (np.full((1, 3, 6, 6), 0.5), "no integers"),
        (np.full((1, 3, 6, 6), np.nan), "no integers"),
        (np.full((1, 3, 6, 6), 128), r"128\.\.128, outside -128\.\.127"),
        (np.full((1, 3, 6, 6), "x"), "expected integers"),
    ],
)
def test_refuses_feeds_that_are_no_integers_of_the_input(feed, complaint):
    with pytest.raises(UsageError, match=complaint):
        Simulator(residual_net()).run({"in0": feed})


def test_names_every_missing_and_unknown_input_and_says_what_to_feed():
    with pytest.raises(UsageError) as caught:
        Simulator(residual_net()).run({"image": np.zeros(1), "extra": np.zeros(1)})
    messages = [item.message for item in caught.value.diagnostics]
    assert messages == [
        "the network has no input 'extra'",
        "the network has no input 'image'",
        "input 'in0' is missing",
    ]
    (first, *_) = caught.value.diagnostics
    assert "in0 [1, 3, 6, 6] in -128..127, one unit is worth 2^-5" in first.help


def test_the_graph_is_a_plain_onnx_model_that_runs_anywhere(tmp_path):
    model = residual_net()
    simulator = Simulator(model)
    path = tmp_path / "sim.onnx"
    ir.save(simulator.graph, path)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": 18}
    feeds = random_feeds(network_of(model), 2)
    session = onnxruntime.InferenceSession(path)
    plain = session.run(None, {"in0": feeds["in0"].astype(np.float32)})
    for got, expected in zip(plain, simulator.run(feeds).values(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_graph_input_may_be_an_output_too():
    net = Net()
    x = net.input((1, 2))
    y = net.binary("Add", x, x, 1)
    model = net.model(y, x)
    got = Simulator(model).run({"in0": np.array([[1, -2]])})
    assert got[x.name].tolist() == [[1, -2]]
    assert got[y.name].tolist() == [[1, -2]]


def test_powers_of_two_need_no_division():
    def ops(step):
        net = Net()
        x = net.input((1, 1, 2, 2))
        y = net.conv(x, np.full((1, 1, 1, 1), 3), [step], 0)
        return [node.op_type for node in Simulator(net.model(y)).graph.graph]

    assert ops(0.125) == ["Conv", "Round", "Clip"]
    assert ops(Fraction(1, 24)) == ["Conv", "Div", "Round", "Clip"]


def test_margins_say_how_near_each_sum_comes_to_2_24():
    net = Net()
    x = net.input((1, 4))
    y = net.gemm(x, np.array([[100, -100, 50, 0], [1, 1, 1, 1]]), [1, 1], 0, bias=[200, -1])
    (margin,) = Simulator(net.model(y)).margins()
    assert (margin.name, margin.op, margin.kernels, margin.double) == (y.name, "Gemm", 1, False)
    # up: 150 * 127 + 100 * 128 + 200
    assert margin.bound == 150 * 128 + 100 * 127 + 200
    assert margin.ratio == 2**24 / margin.bound
