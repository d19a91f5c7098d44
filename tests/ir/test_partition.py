"""Networks are cut so that the parts, one after the other, compute what the network computes."""

from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.execution import run
from dlaconv.ir.graph import is_op
from dlaconv.ir.partition import ACCELERATOR, HOST, NO_WEIGHTS, cut, endings
from tests.ir.passes.harness import Net, ops, random_feeds

C = 4


def conv(net, x, rng, *, quantised=False, inputs=C):
    weights = rng.integers(-3, 4, (C, inputs, 1, 1)).astype(np.float32) / 4
    y = net.op("Conv", x, weights, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4)
    return net.quantize(y, step=0.25) if quantised else y


def run_parts(parts, feeds):
    values = dict(feeds)
    for part in parts:
        dialect.install(part.model)
        onnx.checker.check_model(ir.to_proto(part.model))
        taken = {value.name: values[value.name] for value in part.model.graph.inputs}
        values |= run(part.model, taken)
    return values


def assert_computes_the_same(model, parts):
    feeds = random_feeds(model)
    expected, got = run(model, feeds), run_parts(parts, feeds)
    for name, array in expected.items():
        assert np.array_equal(got[name], array), name


@settings(max_examples=60)
@given(
    operators=st.lists(st.sampled_from(["conv", "relu", "add", "abs", "concat"]), max_size=12),
    sources=st.lists(st.integers(0, 30), min_size=24, max_size=24),
    hosted=st.sets(st.integers(0, 20), max_size=6),
    quantised=st.booleans(),
    seed=st.integers(0, 3),
)
def test_the_parts_of_any_network_compute_what_it_computes(
    operators, sources, hosted, quantised, seed
):
    rng = np.random.default_rng(seed)
    net = Net(x=[1, C, 4, 4])
    made = [net.quantize("x") if quantised else "x"]
    for index, operator in enumerate(operators):
        a, b = (made[sources[2 * index + i] % len(made)] for i in range(2))
        if operator == "conv":
            made.append(conv(net, a, rng, quantised=quantised))
        elif operator == "relu":
            made.append(net.op("Relu", a))
        elif operator == "abs":
            made.append(net.op("Abs", a))
        elif operator == "add":
            made.append(net.op("Add", a, b))
        else:
            made.append(conv(net, net.op("Concat", a, b, axis=1), rng, inputs=2 * C))
    outputs = [net.op("Neg", made[-1], out="y"), net.op("Relu", made[len(made) // 2], out="z")]
    model = net.model(*outputs)
    nodes = [node for node in model.graph if node.domain == ""]
    host = {node.outputs[0].name: "asked" for i, node in enumerate(nodes) if i in hosted}
    parts, reasons = cut(model.clone(), host)
    assert_computes_the_same(model, parts)
    assert host.items() <= reasons.items()
    sides = [part.side for part in parts]
    assert all(a != b for a, b in pairwise(sides)) or NO_WEIGHTS in str(reasons)
    for part in parts:
        for node in part.model.graph:
            if node.domain == "":
                assert (node.outputs[0].name in reasons) is (part.side == HOST)


def chain(*operators, quantised=False):
    """A network of convolutions and others, one behind the other."""
    rng = np.random.default_rng(0)
    net = Net(x=[1, C, 4, 4])
    x = net.quantize("x") if quantised else "x"
    for index, operator in enumerate(operators):
        if operator == "conv":
            x = conv(net, x, rng, quantised=quantised)
        else:
            last = index == len(operators) - 1
            x = net.op(operator, x, out="y" if last else None)
            if operator == "ArgMax":
                net.values[x].dtype = ir.DataType.INT64
    return net.model(x)


def named(model, op_type):
    return {n.outputs[0].name: op_type for n in model.graph if is_op(n, op_type)}


def test_a_network_is_left_alone_if_the_host_has_nothing_to_run():
    model = chain("conv", "Relu")
    [part], reasons = cut(model, {})
    assert part.model is model
    assert part.side == ACCELERATOR
    assert part.macs == C * C * 16
    assert reasons == {}


def test_a_node_in_the_middle_makes_three_parts():
    model = chain("conv", "Abs", "conv")
    parts, _ = cut(model.clone(), named(model, "Abs"))
    assert [part.side for part in parts] == [ACCELERATOR, HOST, ACCELERATOR]
    assert_computes_the_same(model, parts)


def test_a_part_without_multiplications_stays_with_the_host():
    model = chain("conv", "Abs", "Relu", "Abs")
    parts, reasons = cut(model.clone(), named(model, "Abs"))
    assert [part.side for part in parts] == [ACCELERATOR, HOST]
    assert ops(parts[1].model) == ["Abs", "Relu", "Abs"]
    assert list(reasons.values()).count(NO_WEIGHTS) == 1


def test_a_part_of_layers_that_only_scale_stays_with_the_host():
    model = chain("conv", "Abs", "conv", "Abs")
    names = [node.name for node in model.graph if node.op_type == "Conv"]
    for gains, sides in (([], 4), (names[1:], 2)):
        parts, reasons = cut(model.clone(), named(model, "Abs"), gains)
        assert [part.side for part in parts] == [ACCELERATOR, HOST] * (sides // 2)
        assert list(reasons.values()).count(NO_WEIGHTS) == (sides == 2)
        assert_computes_the_same(model, parts)


def test_nothing_but_relu_may_be_the_accelerators_if_the_network_has_no_more():
    model = chain("Relu", "Abs")
    parts, _ = cut(model.clone(), named(model, "Abs"))
    assert [part.side for part in parts] == [ACCELERATOR, HOST]


def test_a_map_that_goes_around_the_host_keeps_its_integers():
    rng = np.random.default_rng(0)
    net = Net(x=[1, C, 4, 4])
    first = conv(net, net.quantize("x"), rng, quantised=True)
    hosted = net.op("Abs", first)
    joined = net.op("Add", first, conv(net, net.quantize(hosted), rng, quantised=True))
    model = net.model(net.quantize(joined, step=0.5, out="y"))
    parts, _ = cut(model.clone(), named(model, "Abs"))
    assert [part.side for part in parts] == [ACCELERATOR, HOST, ACCELERATOR]
    assert_computes_the_same(model, parts)
    steps = {
        node.inputs[0].name: float(dialect.quantisation_of(node).scalar_step)
        for node in parts[2].model.graph
        if dialect.is_quantize(node)
    }
    assert steps[first] == 0.25


def test_a_quantiser_behind_the_host_that_both_read_is_copied():
    rng = np.random.default_rng(0)
    net = Net(x=[1, C, 4, 4])
    hosted = net.quantize(net.op("Abs", "x"))
    model = net.model(conv(net, hosted, rng), net.op("Abs", hosted))
    parts, _ = cut(model.clone(), named(model, "Abs"))
    assert [part.side for part in parts] == [HOST, ACCELERATOR]
    assert_computes_the_same(model, parts)
    assert all("QuantizeHalfEven" in ops(part.model) for part in parts)


@pytest.mark.parametrize("op_type", ["Softmax", "ArgMax", "Sigmoid"])
def test_what_ends_a_network_is_the_hosts(op_type):
    model = chain("conv", op_type)
    assert list(endings(model)) == list(named(model, op_type))


def test_moving_values_behind_an_ending_is_part_of_it():
    net = Net(x=[1, C, 4, 4])
    y = net.op("Sigmoid", conv(net, "x", np.random.default_rng(0)))
    y = net.op("Reshape", y, net.const([1, C * 16], dtype=np.int64))
    model = net.model(net.op("Transpose", y, perm=[1, 0]))
    assert len(endings(model)) == 3


def test_a_sigmoid_inside_a_network_or_before_a_quantiser_is_no_ending():
    assert endings(chain("conv", "Sigmoid", "conv")) == {}
    net = Net(x=[1, C, 4, 4])
    y = net.op("Sigmoid", conv(net, "x", np.random.default_rng(0)))
    assert endings(net.model(net.quantize(y))) == {}


def test_a_network_that_is_nothing_but_an_ending_stays():
    assert endings(chain("Sigmoid")) == {}
