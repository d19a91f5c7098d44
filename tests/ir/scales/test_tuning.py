"""Whole networks are scaled in several ways, and the best one stays."""

import numpy as np
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.calibration.channels import channel_values
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.scales import SCALED, tuning
from dlaconv.ir.scales.trial import without_derived
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net, outputs, qsnr, real_outputs


def network(samples=32):
    """Two layers with channels of very different size, samples to calibrate on and others."""
    net = Net(6)
    net.data = net.random.normal(size=(2 * samples, 16, 8, 8)).astype(np.float32)
    sizes = np.geomspace(0.03, 1, 16)
    net.output(net.float_conv(net.relu(net.float_conv(net.x, sizes)), columns=1 / sizes))
    return net, net.data[:samples], net.data[samples:]


def scaled(net, seen, **settings):
    context = Context(Target.load(), calibration=Stacked({"x": seen}), **settings)
    model = net.model.clone()
    Pipeline([(Stage.MAPPED, MAPS)]).run(model, context)
    source = without_derived(model, context)
    Pipeline([(Stage.SCALED, SCALED)]).run(model, context)
    return model, context, source


def quality(found, data):
    model, context, source = found
    return qsnr(outputs(source, data), real_outputs(model, context, data))


@pytest.mark.parametrize("io", ["pin", "absorb"])
def test_uneven_channels_are_equalised_and_that_helps_on_other_data(io):
    net, seen, other = network()
    plain, tuned = (scaled(net, seen, io=io, optimise=level) for level in (0, 1))
    assert {rewrite.name for rewrite in tuned[1].rewrites} >= {"equalise"}
    assert quality(tuned, other) > quality(plain, other) + 0.5


def test_what_does_not_help_leaves_no_trace(monkeypatch):
    net, seen, _ = network()
    monkeypatch.setattr(tuning, "_GAIN", 1e-9)
    monkeypatch.setattr(tuning, "_ROUNDED", 1e-9)
    model, context, _ = scaled(net, seen)
    assert not context.rewrites
    assert not context.channel_ratios
    names = [record.name for record in context.records]
    assert len(names) == len(set(names))
    quantisers = [node for node in model.graph if dialect.is_quantize(node)]
    assert {node.outputs[0].name for node in quantisers} <= context.gammas.keys()


def test_errors_of_weights_cancel_where_values_vary_together_on_other_data_too(monkeypatch):
    net = Net(6)
    common = net.random.uniform(-1, 1, size=(64, 1, 1, 64))
    data = (common + 0.02 * net.random.normal(size=(64, 16, 1, 64))).astype(np.float32)
    data = data.reshape(64, 16, 8, 8)
    net.data = data[:32]
    net.output(net.relu(net.float_conv(net.x, columns=np.geomspace(0.02, 1, 16))))
    found = scaled(net, data[:32], io="absorb")
    assert "weight_rounding" in {rewrite.name for rewrite in found[1].rewrites}
    monkeypatch.setattr(tuning, "_ROUNDED", 0)
    nearest = scaled(net, data[:32], io="absorb")
    assert "weight_rounding" not in {rewrite.name for rewrite in nearest[1].rewrites}
    assert quality(found, data[32:]) > quality(nearest, data[32:]) + 0.3


@pytest.mark.parametrize("settings", [{"optimise": 0}, {"policy": "ceil"}])
def test_other_levels_and_policies_scale_once(settings, monkeypatch):
    net, seen, _ = network()
    monkeypatch.setattr(tuning, "without_derived", None)
    scaled_once = [rewrite.name for rewrite in _context(net, seen, settings).rewrites]
    assert not scaled_once


def _context(net, seen, settings):
    context = Context(Target.load(), calibration=Stacked({"x": seen}), **settings)
    model = net.model.clone()
    Pipeline([(Stage.MAPPED, MAPS), (Stage.SCALED, SCALED)]).run(model, context)
    return context


def test_few_samples_are_no_reason_to_change_a_network():
    net, seen, _ = network()
    assert not scaled(net, seen[:15])[1].rewrites


def test_quantised_networks_are_not_touched(monkeypatch):
    net = Net(1)
    net.output(net.quantise(net.conv(net.quantise(net.x))))
    data = Stacked({"x": np.repeat(net.data, 4, axis=0)})
    context = Context(Target.load(), calibration=data, optimise=2)
    monkeypatch.setattr(tuning, "channel_values", None)
    Pipeline([(Stage.MAPPED, MAPS), (Stage.SCALED, SCALED)]).run(net.model, context)
    assert not context.rewrites


def test_warnings_of_ways_that_were_not_taken_are_not_told():
    net, seen, _ = network()
    _, context, _ = scaled(net, seen, io="absorb", optimise=2)
    messages = [item.message for item in context.diagnostics]
    assert len(messages) == len({text.split(" holds ")[0] for text in messages})


def test_biases_of_equalised_networks_are_corrected_by_equalised_values(monkeypatch):
    """The means that a bias is corrected by are those of the map that its layer reads."""
    net, seen, _ = network()
    given = {}
    whole = tuning.correct_biases

    def noted(model, source, context, values):
        given.setdefault(bool(context.channel_ratios), (source.clone(), dict(values)))
        return whole(model, source, context, values)

    monkeypatch.setattr(tuning, "correct_biases", noted)
    scaled(net, seen)
    for source, values in given.values():
        plain = without_derived(source, Context(Target.load(), derived=derived_of(source)))
        inputs = {node.name: node.inputs[0].name for node in plain.graph if node.op_type == "Conv"}
        data = Stacked({"x": seen}).part(0, 2)
        wanted = channel_values(plain, data, list(inputs.values()))
        for layer, name in inputs.items():
            np.testing.assert_allclose(
                values[layer].values, wanted[name].values, rtol=1e-4, atol=1e-5
            )
    assert set(given) == {False, True}


def derived_of(model):
    return {node.outputs[0].name for node in model.graph if dialect.is_quantize(node)}
