"""Steps per channel move into the weights around a map; no integer changes."""

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.backends.access.simulator import Simulator
from dlaconv.errors import ConversionError
from dlaconv.ir import dialect
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.execution import Executor
from dlaconv.ir.layers import network_of
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.passes.maps.known_operators import known_operators
from dlaconv.ir.passes.maps.per_channel_maps import per_channel_maps
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net, records, scaled

POWERS = 2.0 ** -np.arange(4, 8)


def steps_of(net: Net, choices=POWERS, channels: int = 16, rank: int = 4) -> np.ndarray:
    """A step for each channel, every choice used."""
    steps = np.concatenate([choices, net.random.choice(choices, channels - len(choices))])
    shape = [1, channels] + [1] * (rank - 2)
    return net.random.permutation(steps).astype(np.float32).reshape(shape)


def depthwise(net: Net, x: ir.Value, size: int | None = None) -> ir.Value:
    integers = np.asarray(net.random.integers(-127, 128, (16, 1, 3, 3)), np.int8)
    return linear(net, "Conv", x, integers, 2.0**-7, size, group=16)


def dense(net: Net, x: ir.Value, bits: int = 3, steps=2.0**-5, size: int | None = None) -> ir.Value:
    top = (1 << (bits - 1)) - 1
    integers = np.asarray(net.random.integers(-top, top + 1, (16, 16, 3, 3)), np.int8)
    return linear(net, "Conv", x, integers, steps, size, group=1)


def linear(net, op, x, integers, steps, size=None, **attributes) -> ir.Value:
    name = net.name("layer")
    ones = (1,) * (integers.ndim - 1)
    steps = np.broadcast_to(np.asarray(steps, np.float32).reshape(-1, *ones), (16, *ones))
    holder = dialect.dequantize(
        dialect.constant(f"{name}/i", integers), steps.copy(), name=f"{name}/W", output=f"{name}/w"
    )
    net.add(holder)
    bias = dialect.constant(
        f"{name}/b", (np.rint(net.random.normal(size=16) * 9) / 32).astype(np.float32)
    )
    size = size or net.size
    shape = (1, 16, size, size) if op == "Conv" else (1, 16)
    if op == "Conv":
        kernel = integers.shape[2]
        attributes |= {"kernel_shape": [kernel] * 2, "strides": [1, 1], "dilations": [1, 1],
                       "pads": [kernel // 2] * 4}  # fmt: skip
    return net.op(op, x, holder.outputs[0], bias, shape=shape, **attributes)


def legal(net: Net, **settings) -> tuple[ir.Model, Context]:
    model = net.model.clone()
    context = Context(target=Target.load(), **settings)
    Pipeline([(Stage.MAPPED, MAPS)]).run(model, context)
    return model, context


def values(model: ir.Model, sample: np.ndarray, names) -> dict[str, np.ndarray]:
    return Executor(model, names).run({"x": sample[None]})


def assert_integers_kept(net: Net, *maps: ir.Value) -> Context:
    """The rewritten network has the source's outputs, and its maps are ratio times the source's."""
    model, context = legal(net)
    outputs = [value.name for value in net.model.graph.outputs]
    names = [*outputs, *(value.name for value in maps)]
    for sample in net.data[:3]:
        wanted, got = values(net.model, sample, names), values(model, sample, names)
        for name in names:
            ratio = context.channel_ratios.get(name, np.ones(()))
            assert np.ptp(wanted[name]) > 0
            assert np.array_equal(wanted[name] * ratio.astype(np.float32), got[name]), name
    for node in model.graph:
        if dialect.is_quantize(node):
            assert dialect.quantisation_of(node).per_tensor
    for value in maps:
        assert value.name in context.channel_ratios
    return context


def assert_hardware_has_them(net: Net, maps: dict[str, np.ndarray]) -> None:
    """The integers of maps on the hardware are the source's, by its own steps."""
    model, context = scaled(net)
    network = network_of(model)
    (fed,) = network.inputs
    step = float(fed.step)
    names = list(maps)
    simulator = Simulator(network, rounding=context.rounding, fetch=names)
    for sample in net.data[:3]:
        wanted = values(net.model, sample, names)
        integers = np.clip(np.rint(sample[None] / step), -128, 127).astype(np.int64)
        got = simulator.run({"x": integers})
        for name, steps in maps.items():
            assert np.array_equal(got[name], wanted[name] / steps), name


def test_depthwise_convolution_takes_every_ratio():
    net = Net(0)
    x = net.quantise(net.x, 2.0**-5)
    steps = steps_of(net)
    value = net.quantise(net.relu(dense(net, x)), steps)
    last = net.quantise(depthwise(net, value), 2.0**-3)
    net.output(last)
    context = assert_integers_kept(net, value)
    assert_hardware_has_them(net, {value.name: steps, last.name: np.float32(2.0**-3)})
    (rewrite,) = context.rewrites
    assert rewrite.exact
    assert rewrite.detail.endswith("go into the weights of conv3, conv7")
    _, about = scaled(net)
    assert {record.fidelity for record in about.records} == {"exact"}


def test_unrelated_float_steps_keep_their_integers_before_depthwise_convolutions():
    net = Net(1)
    steps = net.random.uniform(0.01, 0.1, (1, 16, 1, 1)).astype(np.float32)
    value = net.quantise(net.relu(dense(net, net.quantise(net.x, 2.0**-5))), steps, signed=False)
    net.output(net.quantise(depthwise(net, value), 2.0**-3))
    model, context = legal(net)
    ratio = context.channel_ratios[value.name]
    for sample in net.data[:3]:
        wanted, got = (values(m, sample, [value.name])[value.name] for m in (net.model, model))
        step = steps.max()
        assert np.mean(np.rint(wanted / steps) != np.rint(got / step)) < 1e-3
        assert np.abs(wanted * ratio - got).max() < step * 1.01


@pytest.mark.parametrize("choices", [POWERS, np.array([0.25, 0.5]), np.array([0.125, 0.375])])
def test_dense_convolution_of_few_bits_takes_ratios_of_small_integers(choices):
    net = Net(2)
    steps = steps_of(net, choices / 8)
    value = net.quantise(net.relu(dense(net, net.quantise(net.x, 2.0**-5))), steps)
    last = net.quantise(dense(net, value, steps=2.0 ** -net.random.integers(3, 6, 16)), 2.0**-2)
    net.output(last)
    assert_integers_kept(net, value)
    assert_hardware_has_them(net, {value.name: steps, last.name: np.float32(2.0**-2)})


def test_dense_convolution_of_eight_bits_cannot_and_the_error_says_why():
    net = Net(3)
    steps = np.full((1, 16, 1, 1), 0.5, np.float32)
    steps[0, 5] = 0.25
    value = net.quantise(dense(net, net.quantise(net.x, 2.0**-5)), steps)
    net.output(net.quantise(dense(net, value, bits=8), 2.0**-2))
    with pytest.raises(ConversionError) as caught:
        legal(net)
    (found,) = caught.value.diagnostics.errors
    assert found.rule == "DLA203"
    assert "input channels 5 and 0 of 'conv" in found.message
    assert "1 : 2" in found.message
    assert found.location.op.startswith("Quantize")


def test_float_weights_take_every_ratio():
    net = Net(4)
    weights = dialect.constant("w", net.random.normal(size=(16, 16, 3, 3)).astype(np.float32))
    steps = steps_of(net, np.array([0.013, 0.05, 0.031]))
    value = net.quantise(dense(net, net.quantise(net.x, 2.0**-5)), steps)
    last = net.op("Conv", value, weights, kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1],
                  pads=[1, 1, 1, 1], group=1)  # fmt: skip
    net.output(last)
    model, _ = legal(net, calibration=Stacked({"x": net.data}))
    node = next(n for n in model.graph if n.outputs[0].name == f"{last.name}/unrounded")
    ratio = (steps.max() / steps).reshape(1, 16, 1, 1)
    assert np.allclose(dialect.array_of(node.inputs[1]) * ratio, weights.const_value.numpy())


def test_ratios_pass_pools_activations_and_concatenation():
    net = Net(5)
    x = net.quantise(net.x, 2.0**-5)
    one = net.op("MaxPool", net.relu(dense(net, x)), kernel_shape=[2, 2], strides=[2, 2],
                 pads=[0, 0, 0, 0], shape=(1, 16, 4, 4))  # fmt: skip
    other = net.op("MaxPool", dense(net, x), kernel_shape=[2, 2], strides=[2, 2],
                   pads=[0, 0, 0, 0], shape=(1, 16, 4, 4))  # fmt: skip
    joined = net.op("Concat", one, other, axis=1, shape=(1, 32, 4, 4))
    steps = steps_of(net, channels=32)
    value = net.quantise(joined, steps)
    integers = np.asarray(net.random.integers(-9, 9, (16, 2, 3, 3)), np.int8)
    last = net.quantise(linear(net, "Conv", value, integers, 0.25, 4, group=16), 2.0**-2)
    net.output(last)
    model, context = legal(net)
    assert value.name in context.channel_ratios
    for sample in net.data[:3]:
        wanted, got = (values(m, sample, [last.name])[last.name] for m in (net.model, model))
        assert np.array_equal(wanted, got)


def test_channels_become_blocks_of_columns_when_flattened():
    net = Net(6, size=4)
    steps = steps_of(net)
    value = net.quantise(net.relu(dense(net, net.quantise(net.x, 2.0**-5))), steps)
    shape = dialect.constant("s", np.array([1, 256]))
    flat = net.op("Reshape", value, shape, shape=(1, 256))
    integers = np.asarray(net.random.integers(-7, 8, (16, 256)), np.int8)
    last = net.quantise(linear(net, "Gemm", flat, integers, 2.0**-4, transB=1), 0.5)
    net.output(last)
    assert_integers_kept(net, value, flat)
    assert_hardware_has_them(net, {value.name: steps, last.name: np.float32(0.5)})


def test_transposed_channels_are_followed():
    net = Net(7, size=4)
    steps = steps_of(net)
    value = net.quantise(dense(net, net.quantise(net.x, 2.0**-5)), steps)
    moved = net.op("Transpose", value, perm=[0, 2, 3, 1], shape=(1, 4, 4, 16))
    back = net.op("Transpose", moved, perm=[0, 3, 1, 2], shape=(1, 16, 4, 4))
    net.output(net.quantise(depthwise(net, back), 0.25))
    assert_integers_kept(net, value, moved, back)


def test_sum_of_maps_with_the_same_ratios_stays_a_sum():
    net = Net(8)
    x = net.quantise(net.x, 2.0**-5)
    steps = steps_of(net)
    one = net.quantise(dense(net, x), steps)
    other = net.quantise(dense(net, x), steps * 2)
    total = net.quantise(net.op("Add", one, other), steps * 4)
    net.output(net.quantise(depthwise(net, total), 2.0**-2))
    assert_integers_kept(net, one, other, total)


def test_sum_with_a_map_of_one_step_is_refused():
    net = Net(8)
    x = net.quantise(net.x, 2.0**-5)
    total = net.op("Add", net.quantise(dense(net, x), steps_of(net)), x)
    net.output(net.quantise(depthwise(net, net.quantise(total, 2.0**-3)), 2.0**-2))
    with pytest.raises(ConversionError, match="is tied to it and has one step"):
        legal(net)


def test_average_of_a_map_becomes_a_convolution_where_its_result_has_one_step():
    net = Net(9)
    steps = steps_of(net)
    value = net.quantise(net.relu(dense(net, net.quantise(net.x, 2.0**-5))), steps)
    average = net.op("GlobalAveragePool", value, shape=(1, 16, 1, 1))
    last = net.quantise(average, 2.0**-7)
    net.output(last)
    assert_integers_kept(net, value)
    model, _ = legal(net)
    assert "GlobalAveragePool" not in [node.op_type for node in model.graph]
    assert_hardware_has_them(net, {value.name: steps, last.name: np.float32(2.0**-7)})


def test_average_between_equal_ratios_stays_an_average():
    net = Net(9)
    steps = steps_of(net)
    value = net.quantise(net.relu(dense(net, net.quantise(net.x, 2.0**-5))), steps)
    average = net.op("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0],
                     shape=(1, 16, 4, 4))  # fmt: skip
    second = net.quantise(average, steps / 2)
    net.output(net.quantise(depthwise(net, second, 4), 2.0**-3))
    assert_integers_kept(net, value, second)
    model, _ = legal(net)
    assert "AveragePool" in [node.op_type for node in model.graph]


def test_padded_average_passes_the_ratios_on_and_refuses_another_step():
    net = Net(9)
    value = net.quantise(dense(net, net.quantise(net.x, 2.0**-5)), steps_of(net))
    average = net.op("AveragePool", value, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    net.output(net.quantise(depthwise(net, net.quantise(average, 2.0**-4)), 2.0**-3))
    with pytest.raises(ConversionError, match="has one step"):
        legal(net)


def test_quantiser_of_a_stored_map_gets_a_layer_that_takes_both_ratios():
    net = Net(10)
    first, second = steps_of(net), steps_of(net)
    one = net.quantise(net.relu(dense(net, net.quantise(net.x, 2.0**-5))), first)
    two = net.quantise(one, second)
    three = net.quantise(two, 2.0**-4)
    net.output(three)
    assert_integers_kept(net, one, two)
    assert_hardware_has_them(net, {one.name: first, two.name: second,
                                   three.name: np.float32(2.0**-4)})  # fmt: skip


def test_layer_with_other_readers_is_copied():
    net = Net(11)
    convolved = dense(net, net.quantise(net.x, 2.0**-5))
    value = net.quantise(net.relu(convolved), steps_of(net))
    other = net.quantise(convolved, 2.0**-3)
    net.output(net.quantise(depthwise(net, value), 2.0**-3), other, convolved)
    model, context = legal(net, calibration=Stacked({"x": net.data}))
    names = [v.name for v in net.model.graph.outputs][:2]
    for sample in net.data[:3]:
        wanted, got = values(net.model, sample, names), values(model, sample, names)
        assert all(np.array_equal(wanted[name], got[name]) for name in names)
    assert value.name in context.channel_ratios


def test_signs_with_a_scale_per_channel():
    net = Net(12)
    steps = steps_of(net)
    convolved = dense(net, net.quantise(net.x, 2.0**-5))
    value = net.add(dialect.bipolar(convolved, steps, name="sign", output="sign_out"))
    last = net.quantise(depthwise(net, value), 2.0**-6)
    net.output(last)
    assert_integers_kept(net, value)
    assert_hardware_has_them(net, {value.name: steps, last.name: np.float32(2.0**-6)})


def test_equal_steps_are_one_step():
    net = Net(13)
    x = net.quantise(net.x, np.full((1, 16, 1, 1), 2.0**-5, np.float32))
    last = net.quantise(dense(net, x, bits=8), np.full((1, 16, 1, 1), 2.0**-2, np.float32))
    net.output(last)
    model, context = legal(net)
    assert not context.channel_ratios
    sample = net.data[0]
    wanted, got = (values(m, sample, [last.name])[last.name] for m in (net.model, model))
    assert np.array_equal(wanted, got)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda net, steps: net.quantise(net.x, steps), "the host feeds graph input 'x'"),
        (
            lambda net, steps: net.quantise(dense(net, net.quantise(net.x, 0.25)), steps),
            "the host reads graph output",
        ),
        (
            lambda net, steps: net.quantise(
                net.op("Tanh", net.quantise(dense(net, net.quantise(net.x, 0.25)), steps)), 0.01
            ),
            "(Tanh) does not commute",
        ),
        (
            lambda net, steps: net.quantise(
                dense(net, net.quantise(net.x, 0.25)), steps.reshape(1, 1, 16, 1)[:, :, :8]
            ),
            "they vary along another axis",
        ),
        (
            lambda net, steps: net.quantise(
                dense(net, net.quantise(net.x, 0.25)), 0.1,
                zero_point=np.arange(16.0).reshape(steps.shape),
            ),
            "its zero points differ, from 0 to 15",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_with_the_reason(build, reason):
    net = Net(14)
    net.output(build(net, steps_of(net)))
    with pytest.raises(ConversionError) as caught:
        legal(net)
    assert {item.rule for item in caught.value.diagnostics.errors} == {"DLA203"}
    assert reason in str(caught.value.diagnostics)


def test_every_problem_is_named_in_one_run():
    net = Net(15)
    x = net.quantise(net.x, 0.05)
    bad = net.op("Softmax", net.op("Mul", x, x))
    net.output(bad, net.quantise(dense(net, x), steps_of(net)))
    context = Context(target=Target.load())
    per_channel_maps(net.model, context)
    with pytest.raises(ConversionError) as caught:
        known_operators(net.model, context)
    found = [(item.rule, item.location.op) for item in caught.value.diagnostics.errors]
    assert sorted(found) == [
        ("DLA203", "QuantizeHalfEven"),
        ("DLA301", "Mul"),
    ]


def test_report_says_what_a_unit_is_worth():
    net = Net(0)
    value = net.quantise(net.relu(dense(net, net.quantise(net.x, 2.0**-5))), steps_of(net))
    net.output(net.quantise(depthwise(net, value), 2.0**-3))
    _, context = scaled(net)
    note = records(context, "map")[value.name].note
    assert "one unit is worth 0.0078125 to 0.0625" in note
