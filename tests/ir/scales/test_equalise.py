"""Equalisation leaves what a network computes, and makes its maps finer."""

from dataclasses import replace

import numpy as np
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.calibration.channels import channel_values
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.calibration.histogram import Histogram
from dlaconv.ir.calibration.ranges import coverings
from dlaconv.ir.execution import Executor
from dlaconv.ir.overrides import MapRange
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.scales.equalise import equalise
from dlaconv.ir.scales.trial import without_derived
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net


def uneven(net, value):
    """A convolution whose channels differ by a factor of up to 100."""
    return net.float_conv(value, np.geomspace(0.01, 1, net.channels))


def chain(net):
    return net.float_conv(net.relu(uneven(net, net.x)))


def depthwise(net):
    value = net.float_conv(net.relu(uneven(net, net.x)), group=net.channels)
    return net.float_conv(net.relu(value))


def residual(net):
    trunk = net.relu(uneven(net, net.x))
    return net.float_conv(net.op("Add", trunk, uneven(net, trunk)))


def pooled(net):
    value = net.relu(uneven(net, net.x))
    window = {"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [1, 1], "pads": [0] * 4}
    return net.float_conv(net.op("MaxPool", value, shape=(1, net.channels, 4, 4), **window))


def mapped(build, **found):
    net = Net(4)
    net.output(build(net))
    data = Stacked({"x": net.data})
    context = Context(Target.load(), calibration=data)
    Pipeline([(Stage.MAPPED, MAPS)]).run(net.model, context)
    for name, value in found.items():
        setattr(context, name, value)
    return net.model, context, data


def seen(model, context, data):
    source = without_derived(model, context)
    made = {value.name for node in source.graph for value in node.outputs}
    names = [node.inputs[0].name for node in model.graph if dialect.is_quantize(node)]
    return channel_values(source, data, [name for name in names if name in made])


def outputs(model, data):
    run = Executor(model).run
    return np.concatenate([next(iter(run(feeds).values())) for feeds in data])


@pytest.mark.parametrize("build", [chain, depthwise, residual, pooled])
def test_the_network_computes_the_same_and_its_maps_lose_less(build):
    model, context, data = mapped(build)
    exact, before = outputs(without_derived(model, context), data), outputs(model, data)
    assert equalise(model, context, seen(model, context, data)) > 0
    np.testing.assert_allclose(
        outputs(without_derived(model, context), data), exact, atol=1e-5 * np.abs(exact).max()
    )
    assert np.square(outputs(model, data) - exact).sum() < np.square(before - exact).sum()


def test_factors_are_at_most_four_and_told_to_everyone():
    model, context, data = mapped(chain)
    maps = {node.outputs[0].name for node in model.graph if dialect.is_quantize(node)}
    equalise(model, context, seen(model, context, data))
    told = {name: ratio for name, ratio in context.channel_ratios.items() if name in maps}
    assert told
    for ratio in told.values():
        assert 1 <= ratio.min() < ratio.max() <= 4
    assert [rewrite.name for rewrite in context.rewrites] == ["equalise"]


def test_known_values_and_ranges_follow():
    model, context, data = mapped(chain)
    values = seen(model, context, data)
    equalise(model, context, values)
    after = seen(model, context, data)
    for name, ratio in context.channel_ratios.items():
        unrounded = f"{name}/unrounded"
        if unrounded in context.observed:
            largest = after[unrounded].largest.max()
            assert np.abs(context.observed[unrounded]).max() <= largest * 1.001
            covers = context.covers[unrounded]
            assert covers["minmax"] == pytest.approx(max(largest, covers["mse"]), rel=1e-5)
            assert ratio.max() > 1


def test_ends_of_the_network_stay():
    model, context, data = mapped(lambda net: uneven(net, net.x))
    assert equalise(model, context, seen(model, context, data)) == 0
    assert not context.channel_ratios


def test_maps_that_saturate_where_the_source_clips_stay():
    model, context, data = mapped(chain)
    inner = [name for name in context.derived if name.startswith("relu")]
    context.clips = dict.fromkeys(inner, (0.0, 6.0))
    assert equalise(model, context, seen(model, context, data)) == 0


def test_maps_with_an_override_stay():
    model, context, data = mapped(chain)
    context.overrides.ranges = dict.fromkeys(context.derived, MapRange("threshold 1", threshold=1))
    assert equalise(model, context, seen(model, context, data)) == 0


def test_maps_that_the_source_quantises_stay():
    model, context, data = mapped(
        lambda net: net.quantise(net.relu(uneven(net, net.quantise(net.x))))
    )
    assert equalise(model, context, seen(model, context, data)) == 0


def test_maps_without_sign_keep_all_their_integers():
    """Their ranges are chosen for 255 units, before equalisation and behind it."""
    net = Net(4)
    net.output(chain(net))
    data = Stacked({"x": net.data})
    target = replace(Target.load(), signed_maps=False)
    context = Context(target, calibration=data)
    Pipeline([(Stage.MAPPED, MAPS)]).run(net.model, context)
    assert equalise(net.model, context, seen(net.model, context, data)) > 0
    [name] = [name for name in context.channel_ratios if name in context.positive]
    histogram = Histogram()
    histogram.add(context.observed[f"{name}/unrounded"])
    wanted = coverings(histogram, context.ranges, 255)
    assert context.covers[f"{name}/unrounded"] == pytest.approx(wanted, rel=1e-6)
    assert wanted["mse"] != coverings(histogram, context.ranges, 127)["mse"]
