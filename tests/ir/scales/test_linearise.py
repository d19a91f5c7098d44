import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.execution import Executor
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.pipeline import Context
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.scales.linearise import linearise
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net, outputs, real_outputs, residual, scaled


def linearised(net, **settings):
    """A MAPPED copy before and after the pass, and the context."""
    before = net.model.clone()
    context = Context(target=Target.load(), **settings)
    for step in MAPS:
        step(before, context)
    dialect.install(before)
    after = before.clone()
    linearise(after, context)
    dialect.install(after)
    return before, after, context


def ops(model):
    return [node.op_type for node in model.graph]


def pooled(steps, op_type):
    """Convolution, average, quantiser; steps of input, map and average."""
    net = Net(5)
    value = net.quantise(net.conv(net.quantise(net.x, steps[0])), steps[1])
    if op_type == "AveragePool":
        pooled_map = net.op(
            op_type, value, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0],
            count_include_pad=1, ceil_mode=0, shape=(1, 16, 4, 4),
        )  # fmt: skip
    else:
        pooled_map = net.op(op_type, value, shape=(1, 16, 1, 1))
    average = net.quantise(pooled_map, steps[2])
    return net.output(average)


def test_an_add_of_unrelated_steps_becomes_a_convolution_that_computes_the_same():
    before, after, context = linearised(residual(2, seed=4))
    assert ops(before).count("Add") == 2
    assert ops(after).count("Add") < 2
    assert ops(after).count("Concat") == len(context.sums) == 2 - ops(after).count("Add")
    sample = np.random.default_rng(1).normal(size=(1, 16, 8, 8)).astype(np.float32)
    results = [next(iter(Executor(m).run({"x": sample}).values())) for m in (before, after)]
    np.testing.assert_allclose(*results, rtol=0, atol=1e-5 * np.abs(results[0]).max())


def test_an_add_of_related_steps_stays():
    net = Net(2)
    value = net.quantise(net.x, 0.03)
    branch = net.quantise(net.conv(value), 0.06)
    net.output(net.quantise(net.op("Add", branch, value), 0.12))
    _, after, context = linearised(net, io="absorb")
    assert "Add" in ops(after)
    assert not context.rewrites


def test_nearest_replaces_nothing():
    _, after, _ = linearised(residual(2, seed=4), policy="nearest")
    assert ops(after).count("Add") == 2


def test_sums_take_no_more_than_a_quarter_of_the_networks_multiplications():
    net = Net(7)
    value = net.quantise(net.x, 0.031)
    branch = net.quantise(net.conv(value), 0.047)
    total = net.op("Add", branch, value)  # 2 C of 9 C multiplications a value
    for step in (0.053, 0.059):
        total = net.op(
            "Add", net.quantise(total, step), net.quantise(net.relu(branch), step + 0.01)
        )
    net.output(net.quantise(total, 0.071))
    _, after, context = linearised(net)
    assert ops(after).count("Add") == 2
    assert len(context.sums) == 1


@pytest.mark.parametrize("op_type", ["AveragePool", "GlobalAveragePool"])
def test_an_average_with_unrelated_steps_becomes_a_depthwise_convolution(op_type):
    net = pooled((0.031, 0.047, 0.029), op_type)
    before, after, context = linearised(net)
    assert op_type in ops(before)
    assert op_type not in ops(after)
    [linear] = [n for n in after.graph if n.op_type == "Conv" and n.name in context.gains]
    kernel = 2 if op_type == "AveragePool" else 8
    assert linear.attributes["group"].as_int() == 16
    assert list(linear.attributes["kernel_shape"].as_ints()) == [kernel] * 2


def units_of_an_average(step_in, step_out, **quantiser):
    """Unrounded averages, and the source's and the hardware's integers, on random inputs."""
    net = Net(5)
    value = net.op(
        "AveragePool", net.quantise(net.x, step_in), kernel_shape=[2, 2], strides=[2, 2],
        pads=[0, 0, 0, 0], count_include_pad=1, ceil_mode=0, shape=(1, 16, 4, 4),
    )  # fmt: skip
    unrounded = value.name
    net.output(net.quantise(value, step_out, **quantiser))
    model, context = scaled(net, io="absorb")
    assert "AveragePool" not in ops(model)
    step = np.float32(step_out)
    raw = np.concatenate(
        [Executor(net.model, [unrounded]).run({"x": x[None]})[unrounded] for x in net.data]
    )
    got = real_outputs(model, context, net.data)
    return raw / step, np.rint(outputs(net.model, net.data) / step), np.rint(got / step)


def test_a_scaled_average_has_the_source_s_integers_up_to_one_in_a_hundred():
    _, wanted, got = units_of_an_average(0.031, 0.0123)
    assert np.abs(wanted - got).max() <= 1
    assert np.mean(wanted != got) < 0.01


def test_a_floor_behind_an_average_differs_only_where_it_has_nothing_to_round():
    raw, wanted, got = units_of_an_average(2.0**-5, 2.0**-5, rounding=Rounding.FLOOR)
    assert np.abs(wanted - got).max() <= 1
    assert (raw[wanted != got] == np.rint(raw[wanted != got])).all()
    assert np.mean(wanted != got) < np.mean(raw == np.rint(raw))


def test_an_average_that_leaves_padding_out_stays():
    net = Net(5)
    value = net.quantise(net.conv(net.quantise(net.x, 0.031)), 0.047)
    average = net.op(
        "AveragePool", value, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1],
        count_include_pad=0, ceil_mode=0,
    )  # fmt: skip
    net.output(net.quantise(average, 0.029))
    _, after, _ = linearised(net)
    assert "AveragePool" in ops(after)


def test_a_sum_of_vectors_becomes_a_fully_connected_layer():
    net = Net(6)
    net.x.shape = ir.Shape([1, 16])
    value = net.quantise(net.x, 0.031)
    branch = value
    for index in range(8):  # so that the sum is within its share
        holder = dialect.dequantize(
            dialect.constant(f"fc{index}/W_int", np.eye(16, dtype=np.int8)),
            np.full((16, 1), 0.5, np.float32), name=f"fc{index}/W", output=f"fc{index}/w",
        )  # fmt: skip
        branch = net.op("Gemm", branch, net.add(holder), transB=1, shape=(1, 16))
        branch = net.quantise(branch, 0.047 + index / 1000)
    net.output(net.quantise(net.op("Add", branch, value, shape=(1, 16)), 0.029))
    _, after, context = linearised(net)
    assert "Add" not in ops(after)
    assert [n.op_type for n in after.graph if n.name in context.gains] == ["Gemm"]
