"""The simulation as a file: the bits of `dlaconv run`, whatever onnxruntime does to the graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import random_networks
from scaled_net import INT8, Net
from twins import FULL, PLAIN, parsed, session

from dlaconv.backends.access.semantics.layer import ACTIVATION_ORDERS
from dlaconv.backends.access.simulator import Simulator
from dlaconv.backends.access.twin.ports import INTEGERS, Port
from dlaconv.backends.access.twin.simulation import simulation
from dlaconv.ir.grid_tensors import GridTensor
from dlaconv.ir.layers import network_of
from dlaconv.ir.rounding import Rounding, round_array


def ports_with(network, step):
    """Every input and output with a real step of its own; the host does not feed the lowest."""
    ports = {name: Port(step / 3, *INT8) for name, _ in network.outputs}
    for index, source in enumerate(network.inputs):
        ports[source.name] = Port(step * (1 + index), max(source.qmin, -100), source.qmax)
    return ports


def real_inputs(network, ports, seed):
    """Half units in twice the range, so that every rounding mode and both clips show."""
    rng = np.random.default_rng(seed)
    return {
        source.name: (
            rng.integers(2 * source.qmin - 9, 2 * source.qmax + 10, source.shape)
            * (ports[source.name].real_step / 2)
        ).astype(np.float32)
        for source in network.inputs
    }


def fed(network, ports, reals, rounding):
    """The integers that `dlaconv run` makes of real inputs."""
    return {
        name: np.clip(
            round_array(array.astype(np.float64) / ports[name].real_step, rounding),
            ports[name].low,
            ports[name].high,
        )
        for name, array in reals.items()
    }


@pytest.mark.parametrize("rounding", Rounding)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    model=random_networks(),
    seed=st.integers(0, 2**16),
    step=st.floats(1e-3, 10),
    order=st.sampled_from(ACTIVATION_ORDERS),
)
def test_its_results_are_the_simulator_s_bit_by_bit(model, seed, step, rounding, order):
    network = network_of(model)
    ports = ports_with(network, step)
    graph = parsed(simulation(network, ports, rounding=rounding, activation_order=order))
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)
    reals = real_inputs(network, ports, seed)
    integers = fed(network, ports, reals, rounding)
    simulator = Simulator(network, rounding=rounding, activation_order=order, fetch="all")
    wanted = integers | simulator.run(integers)
    inside = {}
    named = {value.name: value for node in graph.graph for value in node.outputs}
    for name in network.maps:
        value = named.get(f"{name}{INTEGERS}") or named.get(name)
        if value is not None:  # nothing reads some of the random layers
            inside[value.name] = wanted[name]
            graph.graph.outputs.append(value)
    for name, stored in network.outputs:
        real = wanted[stored.name].astype(np.float64) * ports[name].real_step
        inside[name] = real.astype(np.float32)
    for level in (PLAIN, FULL):
        ready = session(graph, level)
        names = [item.name for item in ready.get_outputs()]
        for name, array in zip(names, ready.run(names, reals), strict=True):
            np.testing.assert_array_equal(array, inside[name])
        assert set(names) == set(inside)


@pytest.mark.parametrize("rounding", Rounding)
def test_nothing_but_the_outputs_has_to_be_fetched(rounding):
    """With few results the optimiser has the most to fuse."""
    rng = np.random.default_rng(0)
    net = Net()
    x = net.input((1, 200, 6, 6), -4)
    for grid in ("2^n/a", "a/2^n", "2^n"):
        w = rng.integers(-127, 128, (200, 200, 1, 1))
        odd = 129 + 2 * rng.integers(0, 63, 200)
        steps = {"2^n/a": 2.0**-3 / odd, "a/2^n": odd * 2.0**-18, "2^n": np.full(200, 2.0**-10)}
        bias = rng.integers(-999, 1000, 200)
        x = net.conv(x, w, steps[grid], -4, bias=bias, activation=("LeakyRelu", 0.25))
    network = network_of(net.model(x))
    ports = {"in0": Port(2.0**-4, *INT8), x.name: Port(1.0, *INT8)}
    graph = parsed(simulation(network, ports, rounding=rounding))
    feeds = {"in0": rng.integers(-128, 128, (1, 200, 6, 6))}
    (wanted,) = Simulator(network, rounding=rounding).run(feeds).values()
    assert len(np.unique(wanted)) > 50
    for level in (PLAIN, FULL):
        (found,) = session(graph, level).run(None, {"in0": np.float32(feeds["in0"] * 2.0**-4)})
        np.testing.assert_array_equal(found, wanted)


def test_a_host_that_feeds_signs_is_part_of_the_graph():
    net = Net()
    y = net.conv(net.input((1, 1, 1, 3)), np.full((1, 1, 1, 1), 1), [1.0], 0)
    network = network_of(net.model(y))
    ports = {"in0": Port(1.0, -8, 8, sign=True), y.name: Port(0.5, *INT8)}
    feeds = {"in0": np.array([-0.001, 0.0, 5.0], np.float32).reshape(1, 1, 1, 3)}
    (found,) = session(simulation(network, ports)).run(None, feeds)
    assert found.ravel().tolist() == [-4.0, 4.0, 4.0]


def test_it_says_how_it_rounds_and_watches_no_accumulator():
    net = Net()
    y = net.gemm(net.input((1, 140_000)), np.full((1, 140_000), -128), [2.0**-25], 0)
    network = network_of(net.model(y))
    ports = {"in0": Port(1.0, *INT8), y.name: Port(1.0, *INT8)}
    graph = simulation(network, ports, rounding=Rounding.FLOOR, activation_order="after-clamp")
    assert graph.metadata_props["dlaconv.rounding"] == "floor"
    assert graph.metadata_props["dlaconv.activation_order"] == "after-clamp"
    assert not {"ReduceMin", "ReduceMax"} & {node.op_type for node in graph.graph}
    assert graph.ir_version <= 10


def test_its_weights_are_computed_when_they_are_read():
    net = Net()
    y = net.conv(net.input((1, 64, 4, 4)), np.ones((64, 64, 3, 3)), [2.0**-8] * 64, 0)
    network = network_of(net.model(y))
    graph = simulation(network, {"in0": Port(1.0, *INT8), y.name: Port(1.0, *INT8)})
    tensors = [value.const_value for value in graph.graph.initializers.values()]
    large = [tensor for tensor in tensors if tensor.nbytes > 1 << 12]
    assert [type(tensor) for tensor in large] == [GridTensor]
