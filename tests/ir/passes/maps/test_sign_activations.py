"""Signs as saturating layers: the same signs as the source, by every rounding and policy."""

from fractions import Fraction

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
from dlaconv.ir.passes.maps.hoist_signs import hoist_signs
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net, scaled

STEP = 2.0**-5
POLICIES = ("absorb", "nearest", "ceil", "mse")


def sign(net: Net, x: ir.Value, step: float = 1.0) -> ir.Value:
    name = net.name("sign")
    node = dialect.bipolar(x, np.float32(step), name=name, output=f"{name}_out")
    return net.add(node)


def integer_conv(net: Net, x: ir.Value, bits: int, step: float, input_step: float) -> ir.Value:
    """A convolution whose thresholds lie on and between the values of its sums."""
    top = (1 << (bits - 1)) - 1
    shape = (net.channels, net.channels, 3, 3)
    integers = np.asarray(net.random.integers(-top, top + 1, shape), np.int8)
    reach = min(np.sqrt(9 * net.channels) * top * 30, 8000)
    bias = np.rint(net.random.normal(size=net.channels) * reach)
    bias += net.random.choice([0.0, 0.25, 0.5, 0.75], net.channels)
    return net.conv(x, integers=integers, steps=step, bias=bias * step * input_step)


def fed_by_eights(seed: int, bits: int) -> Net:
    """8-bit input, convolution, sign, convolution of signs, sign."""
    net = Net(seed)
    x = net.quantise(net.x, STEP)
    first = sign(net, integer_conv(net, x, bits, 2.0**-7, STEP))
    second = net.conv(
        first,
        integers=np.asarray(net.random.choice([-1, 1], (16, 16, 3, 3)), np.int8),
        steps=0.25,
        bias=np.rint(net.random.normal(size=16) * 20) * 0.25 + 0.125,
    )
    return net.output(first, sign(net, second, 0.5))


def legal(net: Net, **settings) -> tuple[ir.Model, Context]:
    model = net.model.clone()
    context = Context(target=Target.load(), **settings)
    Pipeline([(Stage.MAPPED, MAPS)]).run(model, context)
    return model, context


def values(model: ir.Model, sample: np.ndarray) -> list[np.ndarray]:
    executor = Executor(model)
    return list(executor.run({"x": sample[None]}).values())


def assert_same_signs(net: Net, model: ir.Model) -> None:
    for sample in net.data[:3]:
        for wanted, got in zip(values(net.model, sample), values(model, sample), strict=True):
            assert (wanted > 0).any()
            assert (wanted < 0).any()
            assert np.array_equal(wanted, got)


def integers_of(net: Net, **settings) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values of the source, and integers of the hardware, on the first inputs."""
    model, context = scaled(net, **settings)
    network = network_of(model)
    simulator = Simulator(network, rounding=context.rounding)
    (fed,) = network.inputs
    quantiser = next(node for node in model.graph if dialect.is_quantize(node))
    step = float(fed.step) / context.gammas[quantiser.outputs[0].name]
    wanted, got = [], []
    for sample in net.data[:4]:
        wanted += values(net.model, sample)
        integers = np.clip(np.rint(sample[None].astype(np.float64) / step), fed.qmin, fed.qmax)
        got += list(simulator.run({"x": integers.astype(np.int64)}).values())
    return wanted, got


@pytest.mark.parametrize("bits", [1, 4, 7, 8])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_signs_are_the_source_s(bits, rounding):
    net = fed_by_eights(bits, max(bits, 2))
    model, context = legal(net, rounding=rounding)
    assert not any(dialect.is_bipolar(node) for node in model.graph)
    assert_same_signs(net, model)
    found = [item.exact for item in context.rewrites if item.name == "sign_activations"]
    assert found == [True, True]


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_hardware_stores_plus_and_minus_one(bits, rounding):
    wanted, got = integers_of(fed_by_eights(bits, bits), rounding=rounding)
    for real, integers in zip(wanted, got, strict=True):
        assert np.array_equal(integers, np.sign(real))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("convention", ["guide", "int-per-real"])
def test_no_policy_moves_a_sign_of_power_of_two_steps(policy, convention):
    wanted, got = integers_of(fed_by_eights(3, 8), policy=policy, convention=convention)
    for real, integers in zip(wanted, got, strict=True):
        assert np.array_equal(integers, np.sign(real))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bits", [3, 8])
def test_sign_behind_a_map_that_cannot_keep_its_integers_is_never_zero(policy, bits):
    net = Net(5)
    x = net.quantise(net.x, 0.0231)  # pinned: the hardware's step is a power of two
    net.output(sign(net, integer_conv(net, x, bits, 0.011, 0.0231), 0.37))
    wanted, got = integers_of(net, policy=policy)
    for real, integers in zip(wanted, got, strict=True):
        magnitude = np.abs(integers).max()
        assert (np.abs(integers) == magnitude).all()
        assert np.mean(np.sign(integers) == np.sign(real)) > 0.97


def test_zero_counts_as_positive_and_the_threshold_is_met_exactly():
    net = Net(0)
    x = net.quantise(net.x, STEP)
    centre = np.zeros((16, 16, 3, 3), np.int8)
    centre[np.arange(16), np.arange(16), 1, 1] = 1
    bias = (np.arange(16) - 8) / 4 * STEP  # y = (q - 2 ... q + 1.75) step
    net.output(sign(net, net.conv(x, integers=centre, steps=1.0, bias=bias)))
    sample = (np.arange(-8, 8, dtype=np.float32) % 7 - 3).repeat(64).reshape(16, 8, 8) * STEP
    sample[:, 0, 0] = 0.0
    net.data = np.broadcast_to(sample, (4, 16, 8, 8)).copy()
    net.data[1] = STEP
    net.data[2] = -STEP
    model, _ = legal(net)
    for data in net.data:
        q = np.rint(data / STEP)
        wanted = np.where(q + (np.arange(16) - 8)[:, None, None] / 4 >= 0, 1.0, -1.0)
        assert np.array_equal(values(model, data)[0][0], wanted)
    assert all(np.array_equal(i, np.sign(r)) for r, i in zip(*integers_of(net), strict=True))


def test_weights_of_zero_leave_the_sign_of_the_bias():
    net = Net(0)
    x = net.quantise(net.x, STEP)
    bias = np.array([0.3, -0.3, 0.0, 1e-12] * 4)
    conv = net.conv(x, integers=np.zeros((16, 16, 3, 3), np.int8), steps=0.5, bias=bias)
    net.output(sign(net, conv))
    wanted, got = integers_of(net)
    assert np.array_equal(got[0][0, :, 0, 0], np.where(bias >= 0, 1, -1))
    assert np.array_equal(got[0], wanted[0])


@pytest.mark.parametrize(("extreme", "kept"), [(-128, True), (128, False)])
def test_weights_of_the_whole_range_are_kept_and_those_beyond_it_said_to_change(extreme, kept):
    net = Net(0)
    integers = net.random.integers(-127, 128, (16, 16, 3, 3)).astype(np.int16)
    integers[:, 0, 0, 0] = extreme
    conv = net.conv(net.quantise(net.x, STEP), integers=integers, steps=2.0**-7, bias=np.zeros(16))
    net.output(sign(net, conv))
    _, context = legal(net)
    assert [item.exact for item in context.rewrites] == [kept]
    wanted, got = integers_of(net)
    same = np.mean([np.mean(i == np.sign(r)) for r, i in zip(wanted, got, strict=True)])
    assert same == 1 if kept else same > 0.97


def test_sign_of_a_derived_map_behind_a_pool_is_reported_too():
    net = Net(0)
    a = net.quantise(net.x, STEP)
    pooled = net.op("MaxPool", net.op("Add", a, net.quantise(net.conv(a), 0.031)),
                    kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0],
                    shape=(1, 16, 4, 4))  # fmt: skip
    net.output(sign(net, pooled), pooled)
    _, context = legal(net, calibration=Stacked({"x": net.data}))
    assert "DLA208" in [item.rule for item in context.diagnostics]
    assert [item.exact for item in context.rewrites if item.name == "sign_activations"] == [False]


def test_infinite_and_undefined_biases_are_survived():
    net = Net(0)
    bias = np.array([np.inf, -np.inf, np.nan, 0.0] * 4)
    conv = net.conv(net.quantise(net.x, STEP), steps=0.5, bias=bias)
    net.output(sign(net, conv))
    _, got = integers_of(net)
    assert (got[0][0, 0::4] == 1).all()
    assert (got[0][0, 1::4] == -1).all()


def test_map_without_channels_is_refused():
    net = Net(0)
    shape = dialect.constant("s", np.array([1024]))
    flat = net.op("Reshape", net.quantise(net.x, STEP), shape, shape=(1024,))
    net.output(net.op("Tanh", sign(net, net.op("Tanh", net.quantise(flat, 0.3), shape=(1024,)))))
    with pytest.raises(ConversionError, match="DLA308") as caught:
        legal(net)
    assert len(caught.value.diagnostics.errors) == 2


def test_threshold_beyond_every_sum_is_limited_and_fits_the_bias():
    net = Net(0)
    x = sign(net, net.conv(net.quantise(net.x, STEP), steps=2.0**-7))
    weights = np.asarray(net.random.choice([-1, 1], (16, 16, 3, 3)), np.int8)
    bias = np.array([1e6, -1e6, 145.0, -145.0, 144.0, -144.0, 3.0, -3.0] * 2)
    net.output(sign(net, net.conv(x, integers=weights, steps=1.0, bias=bias)))
    _, context = scaled(net)
    assert all(record.fidelity == "exact" for record in context.records if record.kind != "map")
    wanted, got = integers_of(net)
    assert all(np.array_equal(i, np.sign(r)) for r, i in zip(wanted, got, strict=True))


def test_threshold_that_does_not_fit_the_bias_is_not_called_exact():
    net = Net(0)
    x = net.quantise(net.x, STEP)
    integers = np.full((16, 16, 3, 3), 127, np.int8)
    conv = net.conv(x, integers=integers, steps=1.0, bias=np.full(16, 40000.5 * STEP))
    net.output(sign(net, conv))
    _, context = legal(net)
    assert [item.exact for item in context.rewrites] == [False]
    wanted, got = integers_of(net)
    assert np.mean([np.mean(i == np.sign(r)) for r, i in zip(wanted, got, strict=True)]) > 0.95


def test_sign_of_a_stored_map_has_two_layers_of_its_own():
    net = Net(1)
    stored = net.quantise(net.conv(net.quantise(net.x, STEP), steps=2.0**-7), 2.0**-4)
    net.output(stored, sign(net, stored))
    model, _ = legal(net)
    assert_same_signs(net, model)
    assert [node.op_type for node in model.graph].count("Conv") == 3
    wanted, got = integers_of(net)
    for real, integers in list(zip(wanted, got, strict=True))[1::2]:
        assert np.array_equal(integers, np.sign(real))


def test_sign_behind_max_pool_is_taken_before_it():
    net = Net(2)
    x = net.quantise(net.x, STEP)
    pooled = net.op("MaxPool", integer_conv(net, x, 4, 2.0**-7, STEP), kernel_shape=[2, 2],
                    strides=[2, 2], pads=[0, 0, 0, 0], shape=(1, 16, 4, 4))  # fmt: skip
    net.output(sign(net, pooled))
    model, context = legal(net)
    assert_same_signs(net, model)
    assert not any(item.rule == "DLA208" for item in context.diagnostics)
    order = [node.op_type for node in model.graph]
    assert order.index("MaxPool") == len(order) - 1


def test_what_keeps_signs_is_dropped_in_front_of_one():
    net = Net(2)
    x = integer_conv(net, net.quantise(net.x, STEP), 4, 2.0**-7, STEP)
    value = net.op("Tanh", net.op("LeakyRelu", x, alpha=0.1))
    limits = [dialect.constant(n, np.float32(v)) for n, v in (("low", -1), ("high", 1))]
    value = net.op("Mul", net.op("Clip", value, *limits), dialect.constant("f", np.float32(3)))
    net.output(sign(net, value))
    model, _ = legal(net)
    assert_same_signs(net, model)
    assert {node.op_type for node in model.graph} & {"Tanh", "LeakyRelu", "Clip", "Mul"} == set()


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [("Clip", [-1.0, -0.5], {}), ("Clip", [0.0, 1.0], {}), ("LeakyRelu", [], {"alpha": -0.1}),
     ("Mul", [-1.0], {}), ("Relu", [], {})],
)  # fmt: skip
def test_what_changes_signs_stays(op, inputs, attributes):
    net = Net(2)
    x = integer_conv(net, net.quantise(net.x, STEP), 4, 2.0**-7, STEP)
    constants = [dialect.constant(f"c{i}", np.float32(v)) for i, v in enumerate(inputs)]
    net.output(sign(net, net.op(op, x, *constants, **attributes)))
    model = net.model.clone()
    hoist_signs(model, Context(target=Target.load()))
    assert op in [node.op_type for node in model.graph]


def test_equal_signs_of_one_value_are_one():
    net = Net(2)
    x = integer_conv(net, net.quantise(net.x, STEP), 4, 2.0**-7, STEP)
    one, other, third = sign(net, x), sign(net, x), sign(net, x, 0.5)
    net.output(net.quantise(net.conv(one), 0.5), net.quantise(net.conv(other), 0.5), third)
    model, _ = legal(net)
    assert_same_signs(net, model)
    names = [node.name for node in model.graph if node.name.endswith("/sign")]
    assert len(names) == 2


def test_layer_read_by_a_sign_and_a_quantiser_is_computed_twice():
    net = Net(2)
    x = integer_conv(net, net.quantise(net.x, STEP), 4, 2.0**-7, STEP)
    net.output(sign(net, x), net.quantise(x, 2.0**-4), x)
    model, context = legal(net)
    for sample in net.data[:3]:
        wanted, got = values(net.model, sample), values(model, sample)
        assert np.array_equal(wanted[0], got[0])
        assert np.array_equal(wanted[1], got[1])
    assert any(item.name == "single_use" for item in context.rewrites)


def test_host_takes_the_sign_of_an_input():
    net = Net(3)
    net.output(net.quantise(net.conv(sign(net, net.x, 0.3)), 2.0**-4))
    model, context = legal(net)
    assert_same_signs(net, model)
    assert [item.detail for item in context.rewrites] == [
        "the host takes the sign: it feeds +1 and -1"
    ]
    final, about = scaled(net)
    assert not any(dialect.is_bipolar(node) for node in final.graph)
    network = network_of(final)
    sample = net.data[0][None]
    got = Simulator(network).run({"x": np.where(sample >= 0, 1, -1)})
    (wanted,) = values(net.model, net.data[0])
    step = float(network.outputs[0][1].step) / about.gammas[network.outputs[0][0]]
    assert np.abs(got[network.outputs[0][0]] - wanted / step).max() < 1.01
    assert not about.diagnostics


def test_sign_of_an_input_that_others_read_needs_data_and_says_what_is_lost():
    net = Net(3)
    net.output(net.op("Add", sign(net, net.x), net.x))
    with pytest.raises(ConversionError, match="DLA205"):
        legal(net)
    _, context = legal(net, calibration=Stacked({"x": net.data}))
    assert "DLA208" in [item.rule for item in context.diagnostics]
    assert [item.exact for item in context.rewrites if item.name == "sign_activations"] == [False]


def test_sign_of_float_weights_is_not_called_exact_and_nearly_is():
    net = Net(4)
    x = net.quantise(net.x, STEP)
    weights = net.random.normal(size=(16, 16, 3, 3)).astype(np.float32)
    conv = net.op("Conv", x, dialect.constant("w", weights), kernel_shape=[3, 3], strides=[1, 1],
                  dilations=[1, 1], pads=[1, 1, 1, 1], group=1)  # fmt: skip
    net.output(sign(net, conv))
    _, context = legal(net)
    assert [item.exact for item in context.rewrites] == [False]
    wanted, got = integers_of(net)
    assert set(np.unique(got)) == {-1, 1}
    assert np.mean([np.mean(i == np.sign(r)) for r, i in zip(wanted, got, strict=True)]) > 0.98


def test_vectors_get_fully_connected_identities():
    net = Net(6, size=1)
    shape = dialect.constant("s", np.array([1, 16]))
    flat = net.op("Reshape", net.quantise(net.x, STEP), shape, shape=(1, 16))
    weights = np.asarray(net.random.integers(-90, 90, (16, 16)), np.int8)
    holder = dialect.dequantize(
        dialect.constant("w", weights), np.float32(0.5), name="W", output="wr"
    )
    net.add(holder)
    layer = net.op("Gemm", flat, holder.outputs[0], transB=1, shape=(1, 16))
    net.output(sign(net, layer))
    model, _ = legal(net)
    assert_same_signs(net, model)
    assert [node.op_type for node in model.graph].count("Gemm") == 3


@pytest.mark.parametrize("rounding", list(Rounding))
def test_the_proof_of_the_documentation_holds(rounding):
    """Every sum, every threshold: the map saturates, and what it holds rounds to the sign."""
    from dlaconv.ir.passes.maps.sign_activations import _TO_NEAREST, _TO_SIGN
    from dlaconv.ir.rounding import round_exact

    factor, offset = (Fraction(v) for v in _TO_SIGN.get(rounding, _TO_NEAREST))
    for total in range(-40, 41):
        for bias in (Fraction(n, 3) for n in range(-30, 31)):
            floor = bias.numerator // bias.denominator
            for half in (1, 4, 32):
                sum_ = half * (2 * total + 2 * floor + 1)
                stored = max(-128, min(127, round_exact(Fraction(128 * sum_, half), rounding)))
                assert stored in {-128, 127}
                result = round_exact(factor * stored / 128 + offset, rounding)
                assert result == (1 if total + bias >= 0 else -1)
