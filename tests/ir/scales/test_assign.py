from dataclasses import replace

import numpy as np
import pytest

from dlaconv.errors import ConversionError
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.records import Fidelity
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import (
    Net,
    chain,
    outputs,
    qsnr,
    real_outputs,
    records,
    residual,
    scaled,
)

POLICIES = ("absorb", "nearest")


def weight_integers(model):
    constants = model.graph.initializers.values()
    return [value.const_value.numpy() for value in constants if "W_int" in value.name]


def fresh_inputs(count=8):
    return np.random.default_rng(99).normal(size=(count, 16, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("convolutions", [4, 8])
def test_chain_keeps_every_weight_and_every_inner_step(convolutions):
    net = chain(convolutions, seed=3)
    model, context = scaled(net, io="absorb")
    assert {r.fidelity for r in records(context, "map").values()} == {Fidelity.EXACT}
    assert {r.fidelity for r in records(context, "weight").values()} == {Fidelity.RESCALED}
    wanted = [
        n.const_value.numpy() for n in net.model.graph.initializers.values() if "W_int" in n.name
    ]
    got = [n.const_value.numpy() for n in model.graph.initializers.values() if "W_int" in n.name]
    assert all(np.array_equal(a, b) for a, b in zip(wanted, got, strict=True))


def test_power_of_two_network_is_reproduced_bit_by_bit():
    net = Net(1)
    value = net.quantise(net.x, 2.0**-5)
    for step in (2.0**-4, 2.0**-3):
        convolved = net.conv(value, steps=2.0**-8, bias=net.random.integers(-99, 99, 16) * 2.0**-12)
        value = net.quantise(net.relu(convolved), step)
    net.output(value)
    model, context = scaled(net)
    inputs = fresh_inputs()
    assert np.array_equal(outputs(net.model, inputs), outputs(model, inputs))
    assert all(r.fidelity is Fidelity.EXACT for r in context.records)


@pytest.mark.parametrize("name", ["model/linear", "model/requantise"])
def test_a_source_layer_may_have_the_name_of_one_of_ours(name):
    net = chain(2, seed=3)
    next(node for node in net.model.graph if node.op_type == "Conv").name = name
    model, context = scaled(net, io="absorb")
    assert set(records(context, "weight")) >= {f"{name}/weights"}
    pairs = zip(weight_integers(net.model), weight_integers(model), strict=True)
    assert all(np.array_equal(wanted, got) for wanted, got in pairs)


@pytest.mark.parametrize("seed", range(3))
def test_absorb_beats_nearest_by_3_db_on_chains(seed):
    net = chain(4, seed)
    inputs = fresh_inputs()
    wanted = outputs(net.model, inputs)
    found = {p: qsnr(wanted, real_outputs(*scaled(net, policy=p), inputs)) for p in POLICIES}
    assert found["absorb"] > found["nearest"] + 3


@pytest.mark.parametrize("seed", range(3))
def test_absorb_is_not_below_nearest_on_residual_networks(seed):
    net = residual(3, seed)
    inputs = fresh_inputs()
    wanted = outputs(net.model, inputs)
    found = {p: qsnr(wanted, real_outputs(*scaled(net, policy=p), inputs)) for p in POLICIES}
    assert found["absorb"] > found["nearest"] - 0.2


def test_graph_inputs_and_outputs_are_pinned_by_default():
    model, context = scaled(chain(2, 0))
    names = [model.graph.outputs[0].name, next(iter(records(context, "map")))]
    assert [context.gammas[name] for name in names] == [1.0, 1.0]
    assert PowerOfTwo.exactly(records(context, "map")[names[0]].target["real_step"]) is not None


def test_absorbed_io_keeps_the_source_step_of_the_input():
    net = chain(2, 0)
    source = records(scaled(net)[1], "map")
    _, context = scaled(net, io="absorb")
    for name, record in records(context, "map").items():
        assert record.target["real_step"] == pytest.approx(source[name].source["step"], rel=1e-6)


def related_sum(steps) -> Net:
    """Two convolutions, added; the steps of operands and result."""
    net = Net(0)
    x = net.quantise(net.x, 2.0**-5)
    added = net.op("Add", net.quantise(net.conv(x), steps[0]), net.quantise(net.conv(x), steps[1]))
    result = net.quantise(added, steps[2])
    return net.output(net.quantise(net.conv(result)))


def test_operands_of_add_share_one_gamma_if_their_steps_are_powers_of_two_apart():
    net = related_sum([0.011, 0.022, 0.044])
    model, context = scaled(net)
    add = next(node for node in model.graph if node.op_type == "Add")
    assert len({context.gammas[value.name] for value in add.inputs}) == 1
    assert records(context, "map")[add.inputs[0].name].fidelity is Fidelity.EXACT


def test_add_of_unrelated_steps_becomes_a_weighted_convolution_and_stays_exact():
    net = related_sum([0.011, 0.017, 0.05])
    model, context = scaled(net, io="absorb")
    assert not [node for node in model.graph if node.op_type == "Add"]
    assert [rewrite.name for rewrite in context.rewrites] == ["linearise"]
    assert {r.fidelity for r in records(context, "map").values()} == {Fidelity.EXACT}
    inputs = fresh_inputs()
    assert qsnr(outputs(net.model, inputs), real_outputs(model, context, inputs)) > 30


def test_add_stays_an_add_under_the_nearest_policy():
    model, _ = scaled(related_sum([0.011, 0.017, 0.05]), policy="nearest")
    assert [node.op_type for node in model.graph].count("Add") == 1


def test_sums_that_cost_too_much_stay_adds():
    net = Net(0, channels=64, size=4)
    x = net.quantise(net.x, 0.05)
    net.output(net.quantise(net.op("Add", x, net.quantise(net.op("Relu", x), 0.07)), 0.11))
    model, context = scaled(net)
    assert [node.op_type for node in model.graph].count("Add") == 1
    assert not context.sums


def test_average_of_unrelated_steps_becomes_a_depthwise_convolution():
    net = Net(0)
    x = net.quantise(net.x, 0.05)
    pooled = net.op("AveragePool", x, shape=(1, 16, 4, 4), kernel_shape=[2, 2], strides=[2, 2],
                    pads=[0, 0, 0, 0])  # fmt: skip
    net.output(net.quantise(pooled, 0.0131))
    model, context = scaled(net, io="absorb")
    assert not [node for node in model.graph if node.op_type == "AveragePool"]
    assert {r.fidelity for r in records(context, "map").values()} == {Fidelity.EXACT}
    wanted, got = outputs(net.model, net.data), real_outputs(model, context, net.data)
    assert np.abs(wanted - got).max() <= 0.0131 * 1.01
    assert (np.abs(wanted - got) > 0.0066).mean() < 0.01


def test_unsigned_8_bit_maps_double_their_step_and_are_rescaled():
    net = Net(0)
    value = net.quantise(net.relu(net.conv(net.quantise(net.x, 2.0**-5))), 2.0**-6, signed=False)
    net.output(net.quantise(net.conv(value), 2.0**-4))
    _, context = scaled(net)
    record = records(context, "map")[value.name]
    assert record.fidelity is Fidelity.RESCALED
    assert record.target["real_step"] == 2.0**-5


def test_unsigned_hardware_keeps_unsigned_maps_bit_by_bit():
    net = Net(0)
    bias = net.random.integers(-99, 99, 16)
    first = net.conv(net.quantise(net.x, 2.0**-5), steps=2.0**-8, bias=bias * 2.0**-13)
    value = net.quantise(net.relu(first), 2.0**-6, signed=False)
    net.output(net.quantise(net.conv(value, steps=2.0**-8, bias=bias * 2.0**-14), 2.0**-4))
    model, context = scaled(net, target=replace(Target.load(), signed_maps=False))
    assert records(context, "map")[value.name].fidelity is Fidelity.EXACT
    assert np.array_equal(outputs(net.model, fresh_inputs()), outputs(model, fresh_inputs()))


@pytest.mark.parametrize(("gain", "kept"), [(0.2, True), (40.0, False)])
def test_low_bit_map_keeps_integers_unless_the_source_clips_often(gain, kept):
    net = Net(0)
    convolved = net.relu(net.conv(net.quantise(net.x, 2.0**-5)))
    step = net.magnitude(convolved) / 15 / gain
    value = net.quantise(convolved, step, bits=4, signed=False)
    net.output(net.quantise(net.conv(value)))
    _, context = scaled(net)
    fidelity = records(context, "map")[value.name].fidelity
    assert fidelity is (Fidelity.EXACT if kept else Fidelity.CLIPPED)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_steps_of_a_source_in_fixed_point_are_kept(bits, calibrated):
    net = Net(0)
    convolved = net.conv(net.quantise(net.x, 2.0**-5))
    clipped = 2.0 ** np.floor(np.log2(net.magnitude(convolved) / 2**bits))  # by half
    value = net.quantise(convolved, clipped, bits=bits)
    other = net.quantise(net.conv(value), 2 * clipped, bits=bits)
    net.output(net.quantise(net.conv(other), 2.0**-4))
    data = Stacked({"x": net.data}) if calibrated else None
    _, context = scaled(net, calibration=data, fixed_point=True)
    assert {r.fidelity for r in records(context, "map").values()} == {Fidelity.EXACT}
    _, context = scaled(net, calibration=data)
    finer = {r.fidelity for r in records(context, "map").values()} - {Fidelity.EXACT}
    assert finer == (set() if bits == 8 else {Fidelity.CLIPPED})


def test_steps_that_are_no_powers_of_two_are_free_in_fixed_point_too():
    net = Net(0)
    convolved = net.relu(net.conv(net.quantise(net.x, 2.0**-5)))
    value = net.quantise(convolved, net.magnitude(convolved) / 15 / 41, bits=4, signed=False)
    net.output(net.quantise(net.conv(value)))
    _, context = scaled(net, fixed_point=True)
    assert records(context, "map")[value.name].fidelity is Fidelity.CLIPPED


def test_floor_of_the_source_goes_into_the_bias():
    net = Net(0)
    value = net.quantise(net.x, 2.0**-5)
    steps = 2.0**-9
    bias = net.random.integers(-99, 99, 16) * 2.0**-14
    convolved = net.conv(value, steps=steps, bias=bias)
    net.output(net.quantise(convolved, 2.0**-3, rounding=Rounding.FLOOR))
    model, _ = scaled(net)
    inputs = fresh_inputs()
    wanted, got = outputs(net.model, inputs), outputs(model, inputs)
    assert (wanted != got).mean() < 0.01  # without the offset every second integer differs


def test_unquantised_output_is_derived_from_its_bound_and_never_clips():
    net = Net(0)
    net.output(net.conv(net.quantise(net.x, 2.0**-5)))
    model, context = scaled(net)
    record = records(context, "map")[model.graph.outputs[0].name]
    assert record.fidelity is Fidelity.DERIVED
    assert [item.rule for item in context.diagnostics] == ["DLA207"]
    extreme = np.full((1, 16, 8, 8), 4.0, np.float32)
    wanted, got = outputs(net.model, extreme), outputs(model, extreme)
    assert np.abs(wanted - got).max() <= record.target["real_step"] * 0.6


def test_calibration_makes_a_derived_step_finer():
    net = Net(0)
    net.output(net.conv(net.quantise(net.x, 2.0**-5)))
    bound = records(scaled(net)[1], "map")[net.graph.outputs[0].name]
    context = scaled(net, calibration=Stacked({"x": net.data}))[1]
    assert not [item for item in context.diagnostics if item.rule == "DLA207"]
    data = records(context, "map")[net.graph.outputs[0].name]
    assert data.target["real_step"] < bound.target["real_step"] / 2


def test_tanh_has_real_units_on_both_sides():
    net = Net(0)
    value = net.quantise(net.conv(net.quantise(net.x)))
    net.output(net.quantise(net.op("Tanh", value), 1 / 127))
    _, context = scaled(net, io="absorb")
    assert context.gammas[value.name] == 1.0


def test_concat_operands_share_one_step():
    net = Net(0)
    x = net.quantise(net.x, 2.0**-5)
    a, b = net.quantise(net.conv(x), 0.013), net.quantise(net.conv(x), 0.04)
    joined = net.op("Concat", a, b, axis=1, shape=(1, 32, 8, 8))
    net.output(joined)
    _, context = scaled(net, io="absorb")
    steps = [records(context, "map")[value.name].target["step"] for value in (a, b)]
    assert steps[0] == steps[1]
    assert context.gammas[a.name] == context.gammas[b.name] == context.gammas[joined.name]


def test_both_conventions_reach_the_same_steps_up_to_the_grid():
    net = chain(3, 5)
    for convention in ("guide", "int-per-real"):
        model, context = scaled(net, convention=convention)
        for record in records(context, "weight").values():
            steps, ideal = (np.array(record.target[k]) for k in ("steps", "ideal_steps"))
            assert np.abs(steps / ideal - 1).max() <= 1 / 256 + 1e-9
        assert model.graph.outputs


def test_absorbed_io_says_what_the_host_must_feed_and_read():
    context = scaled(chain(2, 0), io="absorb")[1]
    found = [item for item in context.diagnostics if item.rule == "DLA210"]
    steps = [record.target["real_step"] for record in records(context, "map").values()]
    assert [f"{step:.9g}" in item.help for step, item in zip(
        (steps[0], steps[-1]), found, strict=True
    )] == [True, True]  # fmt: skip
    assert not scaled(chain(2, 0))[1].diagnostics.warnings


@pytest.mark.parametrize("rounding", [Rounding.UP, Rounding.DOWN])
def test_signed_maps_rounded_to_or_from_zero_are_not_called_exact(rounding):
    net = Net(0)
    convolved = net.conv(net.quantise(net.x, 2.0**-5), steps=2.0**-9)
    net.output(net.quantise(convolved, 2.0**-3, rounding=rounding))
    model, context = scaled(net)
    record = records(context, "map")[model.graph.outputs[0].name]
    assert record.fidelity is Fidelity.RESCALED
    assert str(rounding) in record.note


@pytest.mark.parametrize(
    ("gain", "warned", "advice"),
    [(1.0, False, ""), (1.5, True, "scaled as in training"), (255.0, True, "as in training")],
)
def test_calibration_data_beyond_the_input_s_range_are_reported(gain, warned, advice):
    net = Net(0)
    net.output(net.quantise(net.conv(net.quantise(net.x, net.magnitude(net.x) / 127))))
    _, context = scaled(net, calibration=Stacked({"x": net.data * np.float32(gain)}), policy="ceil")
    found = [item for item in context.diagnostics if item.rule == "DLA211"]
    assert len(found) == warned
    assert all(advice in item.help and "of graph input 'x'" in item.message for item in found)


def test_an_input_that_the_hardware_alone_clips_is_reported():
    net = Net(0)
    net.output(net.quantise(net.conv(net.quantise(net.x, 2.0**-5 * 1.4))))
    data = np.full((1, 16, 8, 8), 5.5, np.float32)  # 125.7 units of the source, 176 of 2^-5
    _, context = scaled(net, calibration=Stacked({"x": data}), policy="nearest")
    (found,) = [item for item in context.diagnostics if item.rule == "DLA211"]
    assert "100.00% of the calibration data" in found.message
    assert "the source clips 0.00%" in found.message
    assert "covers them" in found.help


def refused(net, **settings):
    with pytest.raises(ConversionError) as caught:
        scaled(net, **settings)
    return [(item.rule, item.location.layer) for item in caught.value.diagnostics.errors]


@pytest.mark.parametrize(
    ("step_in", "steps", "step_out"),
    [(2.0**-5, 0.1, 2.0**127), (2.0**3, 2.0**126, 2.0**-4), (2.0**-126, 0.1, 2.0**-126)],
)
def test_steps_that_float32_cannot_hold_are_refused(step_in, steps, step_out):
    net = Net(0)
    integers = np.ones((16, 16, 3, 3), np.int8)
    y = net.conv(net.quantise(net.x, step_in), steps=steps, integers=integers, bias=np.zeros(16))
    net.output(net.quantise(y, step_out, signed=False))
    assert refused(net)[0][0] == "DLA209"


def test_a_format_without_positive_integers_has_a_step():
    net = Net(0)
    x = net.quantise(net.conv(net.quantise(net.x, 2.0**-5)), 0.7, bits=1)  # -0.7 or 0
    net.output(net.quantise(net.conv(x), 2.0**-4))
    _, context = scaled(net)
    source = records(context, "map")[x.name].source
    assert (source["qmin"], source["qmax"]) == (-1, 0)


def unsigned(reach):
    """Two convolutions around an unsigned map, on data that use a share of its 255 integers."""
    net = Net(0)
    value = net.relu(net.conv(net.quantise(net.x, 2.0**-5)))
    largest = net.magnitude(value)
    value = net.quantise(value, largest / reach / 255, signed=False)
    net.output(net.quantise(net.conv(value)))
    return net, value.name


@pytest.mark.parametrize(
    ("reach", "calibrated", "units"),
    [
        (0.3, True, 1),
        (0.45, True, 1.4),
        (0.8, True, 0.8 * 255 / 127),
        (1.0, True, 2),
        (0.3, False, 2),
    ],
)
def test_an_unsigned_map_has_the_step_that_data_need_and_its_own_if_they_use_little(
    reach, calibrated, units
):
    net, name = unsigned(reach)
    calibration = Stacked({"x": net.data}) if calibrated else None
    row = records(scaled(net, calibration=calibration)[1], "map")[name]
    assert row.target["real_step"] / row.source["step"] == pytest.approx(units, rel=1e-6)
    assert row.fidelity is (Fidelity.CLIPPED if units == 1 else Fidelity.RESCALED)
