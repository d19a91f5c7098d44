"""The mean of a layer's result on the data is where the source has it."""

import numpy as np
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.calibration.channels import channel_values
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.execution import Executor
from dlaconv.ir.graph import is_op
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.scales import SCALED
from dlaconv.ir.scales.bias_correction import correct_biases
from dlaconv.ir.scales.trial import without_derived
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net


def scaled(build, io="pin", centre=None):
    """A float network at stages MAPPED and SCALED without any search, and its data."""
    net = Net(5)
    net.data = 1 + net.data / 10  # means far from zero, and alike everywhere
    net.output(build(net))
    data = Stacked({"x": net.data})
    context = Context(Target.load(), calibration=data, optimise=0, io=io, ranges="minmax")
    Pipeline([(Stage.MAPPED, MAPS)]).run(net.model, context)
    mapped = net.model.clone()
    if centre is not None:
        first = next(node for node in mapped.graph if dialect.is_quantize(node))
        context.centres[first.outputs[0].name] = np.full((1, 16, 1, 1), centre)
    Pipeline([(Stage.SCALED, SCALED)]).run(net.model, context)
    source = without_derived(mapped, context)
    inputs = {n.name: n.inputs[0].name for n in source.graph if is_op(n, "Conv")}
    seen = channel_values(source, data, list(inputs.values()))
    return net.model, mapped, context, {layer: seen[name] for layer, name in inputs.items()}, data


def coarse(model):
    """Rounds weights to few integers, so that their errors have a mean."""
    for node in model.graph:
        if is_op(node, "Conv"):
            holder = node.inputs[1].producer()
            integers = dialect.array_of(holder.inputs[0])
            rounded = np.clip(np.rint(integers / 16) * 16, -112, 112).astype(np.int8)
            constant = dialect.constant(f"{node.name}/coarse", rounded)
            model.graph.register_initializer(constant)
            holder.replace_input_with(0, constant)


def mean_error(model, context, source, data):
    """The largest difference of a channel's mean, over the mean magnitude."""
    name = model.graph.outputs[0].name
    gamma = context.gammas[name]
    quantiser = next(node for node in model.graph if dialect.is_quantize(node))
    gain = np.float32(context.gammas[quantiser.outputs[0].name])
    run, reference = Executor(model).run, Executor(source).run
    got = np.concatenate([run({"x": f["x"] * gain})[name] for f in data]) / gamma
    wanted = np.concatenate([reference(f)[name] for f in data])
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    off = (got - wanted)[inside].mean(axis=(0, 2, 3))
    return np.abs(off).max() / np.abs(wanted).mean()


@pytest.mark.parametrize("io", ["pin", "absorb"])
@pytest.mark.parametrize("group", [1, 16])
def test_the_mean_of_every_channel_is_that_of_the_source(group, io):
    model, mapped, context, seen, data = scaled(lambda net: net.float_conv(net.x, group=group), io)
    coarse(model)
    source = without_derived(mapped, context)
    before = mean_error(model, context, source, data)
    assert correct_biases(model, mapped, context, seen) == 1
    assert mean_error(model, context, source, data) < before / 10


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_that_makes_up_for_weights_at_a_centre_does_so_once(bias):
    def build(net):
        value = net.float_conv(net.x)
        if not bias:
            value.producer().resize_inputs(2)
        return value

    model, mapped, context, seen, data = scaled(build, centre=-30.0)
    source = without_derived(mapped, context)
    before = mean_error(model, context, source, data)
    correct_biases(model, mapped, context, seen)
    assert mean_error(model, context, source, data) < before / 10


def test_layers_without_a_bias_get_one():
    def build(net):
        value = net.float_conv(net.x)
        value.producer().resize_inputs(2)
        return value

    model, mapped, context, seen, data = scaled(build)
    coarse(model)
    source = without_derived(mapped, context)
    before = mean_error(model, context, source, data)
    correct_biases(model, mapped, context, seen)
    assert mean_error(model, context, source, data) < before / 10


def test_biases_stay_within_16_bits():
    model, mapped, context, seen, _ = scaled(lambda net: net.float_conv(net.x))
    for values in seen.values():
        values.values[:] *= 1e6
    correct_biases(model, mapped, context, seen)
    (layer,) = (node for node in model.graph if is_op(node, "Conv"))
    bias = dialect.array_of(layer.inputs[2].producer().inputs[0])
    assert bias.min() >= -32768
    assert bias.max() <= 32767


def test_quantised_layers_keep_their_biases():
    def build(net):
        return net.quantise(net.conv(net.quantise(net.x)))

    model, mapped, context, seen, _ = scaled(build)
    coarse(model)
    assert correct_biases(model, mapped, context, seen) == 0
