"""The QDQ twin of a file: standard ONNX, and the simulator's integers within one unit per map."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import twins
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import random_feeds, random_networks
from scaled_net import INT8, UINT8, Net
from twins import TARGET, integers_of, run_cut, session, twin_of, written

from dlaconv.backends.access.decoding import CONVENTIONS
from dlaconv.backends.access.simulator import Simulator
from dlaconv.backends.access.standard_form import private_attributes
from dlaconv.backends.access.twin.ports import Port
from dlaconv.backends.access.twin.qdq import qdq_twin
from dlaconv.ir.formats import PowerOfTwo

EXACT = {
    "Add", "MatMul", "Div", "ReduceSum",
    "MaxPool", "Concat", "Transpose", "Reshape", "Flatten", "Relu",
}  # fmt: skip
"""Operators whose float arithmetic makes no error, without a slope behind them."""


def local_differences(model, feeds_of, convention="guide"):
    """By map: the layer (None for a graph input), and by how many units the twin differs."""
    network, twin = twin_of(written(model, convention))
    onnx.checker.check_model(ir.to_proto(twin), full_check=True)
    feeds = feeds_of(network)
    maps = feeds | Simulator(network, fetch="all").run(feeds)
    reals = {
        source.name: (feeds[source.name] * float(source.step)).astype(np.float32)
        for source in network.inputs
    }
    layers = {layer.output.name: layer for layer in network.layers}
    return {
        name: (layers.get(name), np.abs(integers - maps[name].astype(np.int64)))
        for name, integers in run_cut(twin, maps, reals).items()
    }


def integers(model, *feeds):
    """What the whole twin stores in its first output, next to what the simulator stores."""
    network, twin = twin_of(written(model))
    named = {
        source.name: np.asarray(feed).reshape(source.shape)
        for source, feed in zip(network.inputs, feeds, strict=True)
    }
    ready = session(twins.exposed(twin))
    reals = {
        source.name: (named[source.name] * float(source.step)).astype(np.float32)
        for source in network.inputs
    }
    name, stored = network.outputs[0]
    (expected,) = (Simulator(network).run(named)[name],)
    return integers_of(ready, reals)[stored.name].ravel().tolist(), expected.ravel().tolist()


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=random_networks(), seed=st.integers(0, 2**16))
def test_every_layer_fed_with_the_simulator_s_integers_is_within_one_unit(model, seed, convention):
    found = local_differences(model, lambda network: random_feeds(network, seed), convention)
    for name, (layer, differences) in found.items():
        assert differences.max(initial=0) <= 1, name
        if layer is None or (layer.op in EXACT and layer.slopes is None):
            assert not differences.any(), name


def dense(steps, activation=None, seed=0, inputs=1000, outputs=500):
    """A fully connected layer whose results spread over the range of its map."""
    rng = np.random.default_rng(seed)
    net = Net()
    x = net.input((1, inputs), -4)
    w = rng.integers(-127, 128, (outputs, inputs))
    unit = np.sqrt(inputs) * 74 * 74 / 50
    steps = [float(steps(unit, index)) for index in range(outputs)]
    y = net.gemm(x, w, steps, -4, bias=rng.integers(-500, 500, outputs), activation=activation)
    return net.model(y), lambda network: {"in0": rng.integers(-128, 128, (1, inputs))}


GRIDS = {
    "2^n": lambda unit, index: 2.0 ** -np.round(np.log2(unit)),
    "2^n/a": lambda unit, index: 2.0 ** -np.round(np.log2(unit)) * 128 / (129 + 2 * (index % 63)),
    "a/2^n": lambda unit, index: 2.0 ** -np.round(np.log2(unit)) * (129 + 2 * (index % 63)) / 128,
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("activation", [None, "Relu", ("LeakyRelu", 0.125)])
def test_only_a_rounded_float_can_make_a_difference(grid, activation):
    """With weight steps 2^n, and slopes of few bits, float32 makes no rounding error at all."""
    differing = count = 0
    for seed in range(20):
        for layer, differences in local_differences(*dense(GRIDS[grid], activation, seed)).values():
            if layer is not None:
                assert differences.max() <= 1
                differing += int(differences.sum())
                count += differences.size
    assert count == 10_000
    assert differing <= 10
    if grid != "2^n/a":  # 1/a has no finite binary expansion
        assert differing == 0


def test_a_slope_may_put_a_value_on_a_tie():
    """5 times 0.1 in float32 is 0.50000000745, a hair above a tie; the float product is 0.5."""
    net = Net()
    x = net.input((1, 1, 1, 3), 0)
    y = net.rectified(x, ("LeakyRelu", 0.1))
    assert integers(net.model(y), [-5, -15, -14]) == ([0, -2, -1], [-1, -2, -1])


# Form


def test_the_twin_is_standard_onnx_with_integer_constants_and_power_of_two_maps():
    rng = np.random.default_rng(0)
    net = Net()
    x = net.input((1, 3, 6, 6), -5)
    steps = [1 / (64 * 129), 1 / (64 * 131), 2.0**-13, 3 / 2**14]
    w = rng.integers(-127, 128, (4, 3, 3, 3))
    y = net.conv(x, w, steps, -3, bias=[1, -2, 3, 32767], activation="Relu")
    file = written(net.model(y))
    _, twin = twin_of(file)
    assert (twin.graph.opset_imports, twin.ir_version) == ({"": 14}, 7)
    assert [node.op_type for node in twin.graph] == [
        "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "DequantizeLinear",
        "Conv", "Relu", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    private = private_attributes(TARGET)
    assert not any(private & set(node.attributes) for node in twin.graph)
    assert not twin.metadata_props
    weights, bias = (node for node in twin.graph if "axis" in node.attributes)
    constants = [value.const_value.numpy() for value in weights.inputs]
    np.testing.assert_array_equal(constants[0], w)
    np.testing.assert_array_equal(constants[1], np.array(steps, np.float32))
    np.testing.assert_array_equal(constants[2], np.zeros(4))
    assert [array.dtype for array in constants] == [np.int8, np.float32, np.int8]
    values, unit = (value.const_value.numpy() for value in bias.inputs)
    assert values.dtype == np.int32
    assert values.tolist() == [1, -2, 3, 32767]
    np.testing.assert_array_equal(unit, np.array(steps, np.float32) * np.float32(2.0**-5))
    for node in twin.graph:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and "axis" not in node.attributes:
            assert PowerOfTwo.exactly(node.inputs[1].const_value.numpy().item()) is not None
            assert node.inputs[2].const_value.numpy().item() == 0
    assert [value.name for value in twin.graph.inputs] == ["in0"]
    assert [value.name for value in twin.graph.outputs] == [y.name]
    assert twins.parsed(file).metadata_props == file.metadata_props  # not changed


def test_weights_are_decoded_when_they_are_read():
    net = Net()
    y = net.conv(net.input((1, 64, 4, 4)), np.ones((64, 64, 3, 3)), [2.0**-8] * 64, 0)
    network, _ = twin_of(file := written(net.model(y)))
    ports = {"in0": Port(1.0, *INT8), y.name: Port(1.0, *INT8)}
    twin = qdq_twin(file, TARGET, ports)
    stored = {v.dtype: v.const_value for v in twin.graph.initializers.values() if v.const_value}
    assert isinstance(stored[ir.DataType.INT8], ir.Tensor | ir.LazyTensor)
    large = [
        value.const_value
        for value in twin.graph.initializers.values()
        if value.const_value.nbytes > 1 << 12
    ]
    assert len(large) == 1
    assert isinstance(large[0], ir.LazyTensor)
    assert network.layers[0].weights.integers.shape == (64, 64, 3, 3)


def test_unsigned_maps_are_uint8():
    net = Net()
    x = net.input((1, 1, 1, 3), -1, UINT8)
    y = net.conv(x, np.full((1, 1, 1, 1), 3), [0.5], 0, activation="Relu", limits=UINT8)
    assert integers(net.model(y), [255, 4, 1]) == ([191, 3, 1], [191, 3, 1])
    _, twin = twin_of(written(net.model(y)))
    kinds = {node.outputs[0].dtype for node in twin.graph if node.op_type == "QuantizeLinear"}
    assert kinds == {ir.DataType.UINT8}


def test_signed_and_unsigned_maps_are_joined_without_a_rounding_that_neither_fits():
    net = Net()
    a, b = net.input((1, 1, 1, 2), 0, UINT8), net.input((1, 1, 1, 2), 0)
    joined = net.moved("Concat", [a, b], (1, 2, 1, 2), axis=1)
    y = net.conv(joined, np.ones((1, 2, 1, 1)), [0.5], 0)
    assert integers(net.model(y), [255, 1], [-128, -1]) == ([64, 0], [64, 0])


@pytest.mark.parametrize("count_include_pad", [0, 1])
def test_averages_never_count_what_lies_beyond_the_padding(count_include_pad):
    net = Net()
    x = net.input((1, 1, 4, 4), 0)
    y = net.pool(
        "AveragePool", x, (3, 3), 0, pads=(1, 1, 0, 0), strides=(2, 2), ceil_mode=1,
        count_include_pad=count_include_pad,
    )  # fmt: skip
    got, expected = integers(net.model(y), np.arange(16) * 7)
    assert got == expected
    _, twin = twin_of(written(net.model(y)))
    assert ("Pad" in {node.op_type for node in twin.graph}) == bool(count_include_pad)


# Div


@pytest.mark.parametrize("activation", [None, "Relu", ("LeakyRelu", 0.5)])
def test_a_division_by_zero_saturates_and_nothing_by_nothing_is_nothing(activation):
    net = Net()
    a, b = net.input((1, 1, 1, 5), -3), net.input((1, 1, 1, 5), -3)
    y = net.binary("Div", a, b, -4, activation=activation)
    got, expected = integers(net.model(y), [1, -1, 0, 0, 3], [0, 0, 0, 5, -2])
    assert got == expected
    assert expected[0] == 127
    assert expected[2:4] == [0, 0]


# Real values at both ends


def ended(port_in, port_out, x, *, limits=INT8):
    """An identity layer of step 1/4 whose ends have other real values."""
    net = Net()
    given = net.input((1, 1, 1, len(x)), -2, limits)
    y = net.conv(given, np.full((1, 1, 1, 1), 1), [1.0], -2)
    ports = {"in0": port_in, y.name: port_out}
    twin = twins.parsed(qdq_twin(written(net.model(y)), TARGET, ports))
    onnx.checker.check_model(ir.to_proto(twin), full_check=True)
    feeds = {"in0": np.array(x, np.float32).reshape(1, 1, 1, -1)}
    return session(twin).run(None, feeds)[0].ravel().tolist()


def test_hidden_ratios_are_undone():
    step = 0.3  # the source's unit; the hardware's is 1/4
    x = [0.0, 0.31, -0.6, 1000.0]
    got = ended(Port(step, *INT8), Port(0.1, *INT8), x)
    assert got == pytest.approx([0, 0.1, -0.2, 12.7], rel=1e-6)


def test_the_host_s_clip_is_part_of_the_twin():
    got = ended(Port(0.25, 0, 100), Port(0.25, *INT8), [-3.0, 2.5, 99.0])
    assert got == [0, 2.5, 25.0]


def test_a_host_that_feeds_signs_is_part_of_the_twin():
    got = ended(Port(0.25, -8, 8, sign=True), Port(0.25, *INT8), [-0.001, 0.0, 5.0])
    assert got == [-2.0, 2.0, 2.0]


def test_an_inner_map_that_is_returned_too_goes_on_in_the_hardware_s_units():
    net = Net()
    x = net.input((1, 1, 1, 2), 0)
    first = net.conv(x, np.full((1, 1, 1, 1), 1), [1.0], 0)
    second = net.conv(first, np.full((1, 1, 1, 1), 1), [1.0], 0)
    ports = {"in0": Port(1.0, *INT8), first.name: Port(10.0, *INT8), second.name: Port(1.0, *INT8)}
    twin = twins.parsed(qdq_twin(written(net.model(first, second)), TARGET, ports))
    feeds = {"in0": np.array([3, -4], np.float32).reshape(1, 1, 1, 2)}
    one, two = session(twin).run([first.name, second.name], feeds)
    assert (one.ravel().tolist(), two.ravel().tolist()) == ([30, -40], [3, -4])


# Files that are none of ours


def test_a_foreign_file_has_a_twin_too():
    """Weights of a Gemm in the other order, the other convention, no map table, Constant nodes."""
    rng = np.random.default_rng(1)
    net = Net()
    x = net.input((1, 32), -4)
    w = rng.integers(-127, 128, (16, 32))
    y = net.gemm(x, w, [1 / (128 * 129)] * 16, -3, bias=np.arange(16))
    file = written(net.model(y), "int-per-real")
    file.metadata_props.clear()
    (gemm,) = file.graph
    turned = ir.tensor(gemm.inputs[1].const_value.numpy().T.copy(), name="turned")
    holder = ir.node("Constant", [], {"value": turned}, name="turned")
    file.graph.insert_before(gemm, holder)
    gemm.replace_input_with(1, holder.outputs[0])
    del gemm.attributes["transB"]
    network, twin = twin_of(twins.parsed(file))
    onnx.checker.check_model(ir.to_proto(twin), full_check=True)
    feeds = {"in0": rng.integers(-128, 128, (1, 32))}
    maps = feeds | Simulator(network, fetch="all").run(feeds)
    reals = {"in0": (feeds["in0"] * 2.0**-4).astype(np.float32)}
    found = run_cut(twin, maps, reals)
    assert np.abs(found[y.name] - maps[y.name].astype(int)).max() <= 1


@pytest.mark.parametrize("lost", ["output_scale", "weight_ch_scales", "input_scale"])
def test_a_file_that_does_not_tell_its_integers_has_no_twin(lost):
    net = Net()
    y = net.conv(net.input((1, 2, 2, 2)), np.ones((2, 2, 1, 1)), [0.5] * 2, 0, bias=[1, 2])
    file = written(net.model(y))
    del file.graph[0].attributes[lost]
    file.metadata_props.clear()
    with pytest.raises(ValueError, match=r"step|weight_ch_scales"):
        qdq_twin(file, TARGET, {"in0": Port(1.0, *INT8), y.name: Port(1.0, *INT8)})


# Optimised sessions


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=random_networks(), seed=st.integers(0, 2**16))
def test_a_session_with_every_optimisation_runs_the_twin(model, seed):
    """Only that: what int8 kernels make of it depends on the processor."""
    network, twin = twin_of(written(model))
    reals = {
        name: (array * float(network.maps[name].step)).astype(np.float32)
        for name, array in random_feeds(network, seed).items()
    }
    shapes = [array.shape for array in session(twin, twins.FULL).run(None, reals)]
    assert shapes == [stored.shape for _, stored in network.outputs]


def test_the_map_table_is_not_needed_where_attributes_say_all():
    net = Net()
    y = net.conv(net.input((1, 1, 1, 3), -1), np.full((1, 1, 1, 1), 3), [0.5], 0)
    file = written(net.model(y))
    assert json.loads(file.metadata_props["dlaconv.maps"])
    with_table = ir.to_proto(twin_of(file)[1])
    file.metadata_props.clear()
    assert ir.to_proto(twin_of(file)[1]) == with_table
