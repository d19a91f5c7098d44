import numpy as np
import pytest

from dlaconv.commands.choices import Policy as PolicyOption
from dlaconv.ir import dialect
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.execution import Executor
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.pipeline import Context
from dlaconv.ir.records import Fidelity
from dlaconv.ir.scales.policy import POLICIES
from dlaconv.ir.target import Target
from dlaconv.options import POLICIES as NAMES
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

NETS = {
    "chain": lambda seed: chain(4, seed),
    "unsigned": lambda seed: chain(4, seed, signed=False),
    "narrow": lambda seed: chain(3, seed, narrow=True),
    "low-bit": lambda seed: chain(4, seed, bits=4),
    "residual": lambda seed: residual(2, seed),
}
every_net = pytest.mark.parametrize("name", NETS)
SNAPPING = [name for name in NAMES if name != "absorb"]


def measured(net: Net, context: Context) -> dict[str, tuple[np.ndarray, np.ndarray, float, float]]:
    """Of each quantised map: unrounded values, the source's own, its step and the hardware's."""
    model = net.model.clone()
    legal = Context(target=Target.load())
    for step in MAPS:
        step(model, legal)
    dialect.install(model)
    names = {
        node.outputs[0].name: node.inputs[0].name
        for node in model.graph
        if dialect.is_quantize(node)
    }
    executor = Executor(model, [*names.values(), *names])
    runs = [executor.run(feeds) for feeds in context.inputs]
    found = {}
    for name, row in records(context, "map").items():
        if row.source is None:
            continue
        unrounded, rounded = (
            np.concatenate([run[key].reshape(-1) for run in runs]).astype(np.float64)
            for key in (names[name], name)
        )
        found[name] = unrounded, rounded, row.source["step"], row.target["real_step"]
    assert len(found) > 2
    return found


def error(unrounded: np.ndarray, wanted: np.ndarray, step: float) -> float:
    """Mean squared error of a step, by definition."""
    got = np.clip(np.rint(unrounded / step), -128, 127) * step
    return float(np.square(got - wanted).mean())


def test_options_and_command_line_offer_every_policy():
    assert list(POLICIES) == list(NAMES) == [policy.value for policy in PolicyOption]
    assert {name: policy.name for name, policy in POLICIES.items()} == dict(
        zip(NAMES, NAMES, strict=True)
    )


@pytest.mark.parametrize("policy", SNAPPING)
@every_net
def test_every_map_gets_a_power_of_two_in_real_units(policy, name):
    _, context = scaled(NETS[name](1), policy=policy)
    steps = [row.target["real_step"] for row in records(context, "map").values()]
    assert {float(np.frexp(step)[0]) for step in steps} == {0.5}
    assert set(context.gammas.values()) == {1.0}
    assert "linearise" not in {rewrite.name for rewrite in context.rewrites}


@every_net
@pytest.mark.parametrize("seed", range(3))
def test_ceil_clips_no_position_that_the_source_does_not(name, seed):
    net = NETS[name](seed)
    _, context = scaled(net, policy="ceil")
    for key, (_, wanted, source, step) in measured(net, context).items():
        units = wanted / step
        assert units.max() <= 127.5 * (1 + 1e-6), key
        assert units.min() >= -128.5 * (1 + 1e-6), key
        assert step >= source * (1 - 1e-6), key


def test_ceil_keeps_a_step_that_is_a_power_of_two():
    net = Net(0)
    value = net.quantise(net.conv(net.quantise(net.x, 2.0**-5)), 2.0**-4)
    net.output(net.quantise(net.conv(value), 0.0626))
    _, context = scaled(net, policy="ceil")
    steps = [row.target["real_step"] for row in records(context, "map").values()]
    assert steps == [2.0**-5, 2.0**-4, 2.0**-3]


@every_net
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_map_has_a_larger_error_with_mse_than_with_another_power_of_two(name, calibrated, seed):
    net = NETS[name](seed)
    calibration = Stacked({"x": net.data}) if calibrated else None
    found = {
        policy: measured(net, scaled(net, policy=policy, calibration=calibration)[1])
        for policy in SNAPPING
    }
    for key, (unrounded, wanted, _, step) in found["mse"].items():
        least = error(unrounded, wanted, step)
        others = [found[policy][key][3] for policy in SNAPPING]
        if calibrated:
            others += [step / 2, step * 2]
        for other in others:
            assert least <= error(unrounded, wanted, other) * (1 + 1e-6), (key, step, other)


def test_without_data_mse_saturates_no_further_than_nearest_could():
    """Random inputs stand in for data; a step that only they would justify is not taken."""
    for name in ("chain", "unsigned", "residual"):
        _, context = scaled(NETS[name](0), policy="mse")
        for row in records(context, "map").values():
            natural = row.source["step"] * (1 if row.source["signed"] else 2)
            assert row.target["real_step"] >= 0.7 * natural


def test_with_data_mse_clips_what_is_rare():
    net = Net(0)
    net.data *= 0.05
    net.data[0, 0, 0, 0] = 9.0
    value = net.quantise(net.x)
    net.output(net.quantise(net.conv(value)))
    _, context = scaled(net, policy="mse", calibration=Stacked({"x": net.data}))
    row = records(context, "map")[value.name]
    assert 127 * row.target["real_step"] < 9.0 * 0.95
    assert row.fidelity is Fidelity.CLIPPED


@pytest.mark.parametrize("name", ["chain", "unsigned", "residual"])
@pytest.mark.parametrize("seed", range(3))
def test_absorb_is_better_than_mse_and_mse_better_than_nearest(name, seed):
    net = NETS[name](seed)
    inputs = np.random.default_rng(99).normal(size=(8, 16, 8, 8)).astype(np.float32)
    wanted = outputs(net.model, inputs)
    found = {p: qsnr(wanted, real_outputs(*scaled(net, policy=p), inputs)) for p in NAMES}
    assert found["absorb"] > found["mse"] > found["nearest"] + 2


@pytest.mark.parametrize("policy", NAMES)
def test_a_power_of_two_network_is_reproduced_bit_by_bit_under_every_policy(policy):
    net = Net(1)
    value = net.quantise(net.x, 2.0**-5)
    for step in (2.0**-4, 2.0**-3):
        convolved = net.conv(value, steps=2.0**-8, bias=net.random.integers(-99, 99, 16) * 2.0**-12)
        value = net.quantise(net.relu(convolved), step)
    net.output(value)
    model, context = scaled(net, policy=policy)
    assert np.array_equal(outputs(net.model, net.data), outputs(model, net.data))
    assert {row.fidelity for row in context.records} == {Fidelity.EXACT}


def weight_integers(model) -> list[np.ndarray]:
    """The integers of the convolutions in order."""
    return [
        dialect.array_of(node.inputs[1].producer().inputs[0])
        for node in model.graph
        if node.op_type == "Conv"
    ]


@pytest.mark.parametrize("policy", SNAPPING)
def test_the_report_calls_exactly_the_changed_channels_requantised(policy):
    net = chain(3, 2)
    model, context = scaled(net, policy=policy)
    before, after = weight_integers(net.model), weight_integers(model)
    rows = records(context, "weight").values()
    assert len(before) == len(after) == len(rows) == 3
    for wanted, got, row in zip(before, after, rows, strict=True):
        changed = np.flatnonzero((wanted != got).any(axis=(1, 2, 3)))
        assert row.channels == tuple(changed)
        expected = Fidelity.REQUANTISED if changed.size else Fidelity.RESCALED
        assert row.fidelity is expected
    if policy != "mse":
        assert all(row.channels for row in rows)
