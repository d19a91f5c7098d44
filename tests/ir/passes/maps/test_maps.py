import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.errors import ConversionError
from dlaconv.ir import dialect
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.execution import Executor
from dlaconv.ir.layers import network_of
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.passes.maps.derive_maps import derive_maps
from dlaconv.ir.passes.maps.known_operators import known_operators
from dlaconv.ir.passes.maps.pipelined_activations import pipelined_activations
from dlaconv.ir.passes.maps.requantise import requantise, stored_quantisers
from dlaconv.ir.passes.maps.single_use import single_use
from dlaconv.ir.pipeline import Context
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net, scaled


def context(**settings) -> Context:
    return Context(target=Target.load(), **settings)


def values_of(model: ir.Model, sample: np.ndarray) -> list[np.ndarray]:
    executor = Executor(model)
    return list(executor.run({"x": sample}).values())


def assert_same(net: Net, *passes, exact=True, settings=None) -> tuple[ir.Model, Context]:
    """Applies passes to a copy of the network and requires equal outputs."""
    model, about = net.model.clone(), context(**(settings or {}))
    for step in passes:
        step(model, about)
    dialect.install(model)
    assert [v.name for v in model.graph.outputs] == [v.name for v in net.model.graph.outputs]
    if exact:
        for sample in net.data[:3]:
            for a, b in zip(
                values_of(net.model, sample[None]), values_of(model, sample[None]), strict=True
            ):
                assert np.array_equal(a, b)
    return model, about


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_second_quantiser_on_a_stored_map_gets_a_depthwise_identity():
    net = Net(0)
    first = net.quantise(net.relu(net.conv(net.quantise(net.x))))
    net.output(net.quantise(first, net.magnitude(first) / 100))
    model, about = assert_same(net, requantise)
    identity = [node for node in model.graph if node.name.endswith("/requantise")]
    assert [node.attributes["group"].as_int() for node in identity] == [16]
    assert [rewrite.exact for rewrite in about.rewrites] == [True]


def test_requantisation_of_a_small_map_is_a_dense_identity():
    net = Net(0, size=3)
    first = net.quantise(net.x)
    net.output(net.quantise(first, net.magnitude(first) / 100))
    model, _ = assert_same(net, requantise)
    identity = next(node for node in model.graph if node.op_type == "Conv")
    assert identity.attributes["group"].as_int() == 1


def test_requantisation_of_a_vector_is_fully_connected():
    net = Net(0, size=1)
    first = net.op("Reshape", net.quantise(net.x), dialect.constant("s", np.array([1, 16])),
                   shape=(1, 16))  # fmt: skip
    net.output(net.quantise(first, 0.1))
    model, _ = assert_same(net, requantise)
    assert ops(model).count("Gemm") == 1


def test_quantiser_behind_a_layer_stays_alone():
    net = Net(0)
    net.output(net.quantise(net.conv(net.quantise(net.x))))
    model, _ = assert_same(net, requantise)
    assert ops(model).count("Conv") == 1


def test_layer_with_two_quantisers_is_computed_twice():
    net = Net(0)
    convolved = net.conv(net.quantise(net.x))
    net.output(net.quantise(convolved, 0.03), net.quantise(convolved, 0.05))
    model, about = assert_same(net, single_use)
    assert ops(model).count("Conv") == 2
    assert about.rewrites[0].name == "single_use"


def test_activation_with_two_quantisers_copies_the_layer_too():
    net = Net(0)
    rectified = net.relu(net.conv(net.quantise(net.x)))
    net.output(net.quantise(rectified, 0.03), net.quantise(rectified, 0.05))
    model, _ = assert_same(net, single_use)
    assert ops(model).count("Conv") == ops(model).count("Relu") == 2


def test_input_with_two_quantisers_keeps_the_finest_and_warns():
    net = Net(0)
    net.output(net.conv(net.quantise(net.x, 0.05)), net.conv(net.quantise(net.x, 0.03)))
    model, about = assert_same(net, single_use, exact=False)
    reading = [use.node for use in model.graph.inputs[0].uses()]
    assert len(reading) == 1
    assert dialect.quantisation_of(reading[0]).scalar_step == pytest.approx(0.03)
    assert [item.rule for item in about.diagnostics] == ["DLA206"]
    (message,) = (item.message for item in about.diagnostics)
    assert "0.03 within -3.84..3.81" in message
    assert "0.05 within -6.4..6.35" in message
    assert [rewrite.exact for rewrite in about.rewrites if rewrite.name == "requantise"] == [False]
    assert [item.clipped for item in about.rereads.values()] == [True]


def test_input_quantised_alike_in_fewer_bits_loses_nothing():
    net = Net(0)
    net.output(net.conv(net.quantise(net.x, 0.05, 4)), net.conv(net.quantise(net.x, 0.05)))
    _, about = assert_same(net, single_use)
    assert (len(about.diagnostics), about.rereads) == (0, {})


def test_raw_operand_of_add_becomes_a_derived_map_with_the_next_quantiser_s_step():
    net = Net(0)
    x = net.quantise(net.x)
    raw = net.conv(x)
    net.output(net.quantise(net.op("Add", raw, x), 0.04))
    model, about = assert_same(net, derive_maps, exact=False)
    assert about.derived == {raw.name}
    node = next(n for n in model.graph if dialect.is_quantize(n) and n.outputs[0].name == raw.name)
    assert dialect.quantisation_of(node).scalar_step == pytest.approx(0.04)


def test_map_without_bound_needs_calibration():
    net = Net(0)
    a = net.quantise(net.x, 0.05)
    net.output(net.op("Div", a, a))
    with pytest.raises(ConversionError) as caught:
        derive_maps(net.model, context())
    assert [item.rule for item in caught.value.diagnostics] == ["DLA205"]
    assert "--calibrate" in caught.value.diagnostics.errors[0].help


@pytest.mark.parametrize("value", [3e38, np.inf])
def test_data_beyond_every_step_is_no_range(value):
    net = Net(0)
    net.output(net.conv(net.x))
    data = Stacked({net.x.name: np.full(net.data.shape, value, np.float32)})
    with pytest.raises(ConversionError) as caught:
        derive_maps(net.model, context(calibration=data))
    assert {item.rule for item in caught.value.diagnostics} == {"DLA205"}


def test_data_too_small_for_any_step_is_taken_for_zero():
    net = Net(0)
    net.output(net.relu(net.x))
    data = Stacked({net.x.name: np.full(net.data.shape, 1e-44, np.float32)})
    derive_maps(net.model, context(calibration=data))
    steps = [
        dialect.quantisation_of(n).scalar_step for n in net.model.graph if dialect.is_quantize(n)
    ]
    assert all(step == pytest.approx(1 / 127) for step in steps)


def test_relu_between_two_equal_quantisers_rounds_once_and_stays_exact():
    net = Net(0)
    first = net.quantise(net.conv(net.quantise(net.x)), 0.04)
    net.output(net.quantise(net.relu(first), 0.04))
    model, about = assert_same(net, pipelined_activations)
    assert ops(model).count("QuantizeHalfEven") == 2
    assert about.rewrites[0].exact


def test_relu_on_a_quantised_layer_is_pipelined_and_stays_exact():
    net = Net(0)
    net.output(net.relu(net.quantise(net.conv(net.quantise(net.x)), 0.04)))
    model, _ = assert_same(net, pipelined_activations)
    assert ops(model)[-2:] == ["Relu", "QuantizeHalfEven"]


def test_leaky_relu_between_quantisers_loses_a_rounding_and_says_so():
    net = Net(0)
    first = net.quantise(net.conv(net.quantise(net.x)), 0.04)
    net.output(net.quantise(net.op("LeakyRelu", first, alpha=0.1), 0.04))
    model, about = assert_same(net, pipelined_activations, exact=False)
    assert ops(model).count("QuantizeHalfEven") == 2
    assert [item.rule for item in about.diagnostics] == ["DLA204"]


def test_every_unsupported_operator_is_named_in_one_run():
    net = Net(0)
    x = net.quantise(net.x)
    bad = net.op("Softmax", net.op("Mul", x, x))
    net.output(bad)
    with pytest.raises(ConversionError) as caught:
        known_operators(net.model, context())
    [found] = caught.value.diagnostics.errors
    assert (found.rule, found.location.op) == ("DLA301", "Mul")
    assert "no Mul, Softmax" in found.message
    assert [note.split()[0] for note in found.notes] == ["both", "Softmax"]


def test_constant_operand_is_refused():
    net = Net(0)
    x = net.quantise(net.x)
    net.output(net.op("Add", x, dialect.constant("c", np.ones((1, 16, 1, 1), np.float32))))
    with pytest.raises(ConversionError, match="DLA303"):
        known_operators(net.model, context())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("place", "word"), [(1, "weights"), (2, "bias")])
def test_constants_that_no_integer_stands_for_are_refused(place, word, value):
    net = Net(0)
    result = net.conv(net.quantise(net.x))
    array = np.zeros((16, 16, 3, 3) if place == 1 else 16, np.float32)
    array.reshape(-1)[[2, 5]] = value
    result.producer().replace_input_with(place, dialect.constant("odd", array))
    net.output(net.quantise(result, 0.1))
    with pytest.raises(ConversionError, match=f"2 of {array.size} values of the {word} are not"):
        known_operators(net.model, context())


def test_a_layer_without_output_channels_is_refused():
    net = Net(0)
    result = net.conv(net.quantise(net.x))
    holder = result.producer().inputs[1].producer()
    holder.replace_input_with(0, dialect.constant("none", np.zeros((0, 16, 3, 3), np.int8)))
    net.output(net.quantise(result, 0.1))
    with pytest.raises(ConversionError, match=r"DLA309.*are empty"):
        known_operators(net.model, context())


def test_whole_stage_keeps_a_network_with_every_trap_exact():
    net = Net(2)
    x = net.quantise(net.x, 0.05)
    convolved = net.conv(x)
    left = net.quantise(net.relu(convolved), 0.03)
    right = net.quantise(net.quantise(convolved, 0.05), 0.07, rounding=Rounding.HALF_AWAY)
    added = net.quantise(net.relu(net.op("Add", left, right)), 0.06)
    pooled = net.op("MaxPool", added, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0],
                    shape=(1, 16, 4, 4))  # fmt: skip
    net.output(net.quantise(pooled, 0.09))
    model, _ = assert_same(net, *MAPS)
    assert ops(model).count("Conv") == 4  # two copies, two requantisations


def test_quantiser_of_a_map_that_is_derived_for_others_gets_an_identity():
    net = Net(3)
    raw = net.conv(net.quantise(net.x, 0.05))
    joined = net.op("Concat", raw, raw, axis=1, shape=(1, 32, 8, 8))
    net.output(joined, net.quantise(joined, 0.01))
    model, context = scaled(net)
    network_of(model)
    assert "requantise" in [rewrite.name for rewrite in context.rewrites]


def test_unsigned_quantiser_behind_a_leaky_relu_makes_it_a_relu():
    net = Net(0)
    leaky = net.op("LeakyRelu", net.conv(net.quantise(net.x)), alpha=0.1)
    net.output(net.quantise(leaky, 0.05, signed=False))
    model, _ = assert_same(net, *MAPS)
    assert "LeakyRelu" not in [node.op_type for node in model.graph if node.outputs[0].uses()]
    assert ops(model).count("Relu") == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_slopes_that_are_no_numbers_are_refused(value):
    net = Net(0)
    result = net.op("LeakyRelu", net.conv(net.quantise(net.x, 0.05)), alpha=float(value))
    slopes = dialect.constant("slopes", np.full((16, 1, 1), value, np.float32))
    result = net.op("PRelu", net.conv(net.quantise(result, 0.05)), slopes)
    net.output(net.quantise(result, 0.05))
    with pytest.raises(ConversionError) as caught:
        known_operators(net.model, context())
    assert [item.rule for item in caught.value.diagnostics.errors] == ["DLA309", "DLA309"]


def test_a_slope_that_is_no_number_at_all_is_refused():
    net = Net(0)
    result = net.op("LeakyRelu", net.conv(net.quantise(net.x, 0.05)), alpha=["reflect"])
    net.output(net.quantise(result, 0.05))
    with pytest.raises(ConversionError, match="DLA309"):
        known_operators(net.model, context())


def test_an_attribute_that_is_another_operators_is_not_read():
    net = Net(0)
    slopes = dialect.constant("slopes", np.full((16, 1, 1), 0.5, np.float32))
    result = net.op("PRelu", net.conv(net.quantise(net.x, 0.05)), slopes, alpha="reflect")
    net.output(net.quantise(result, 0.05))
    known_operators(net.model, context())


def relu_behind_a_requantisation(net: Net) -> ir.Value:
    stored = net.quantise(net.conv(net.quantise(net.x, 0.05)), 0.04)
    return net.relu(net.quantise(stored, 0.07))


def relus_behind_the_two_roundings_of_an_average(net: Net) -> ir.Value:
    net.size = 1
    mean = net.op("AveragePool", net.quantise(net.x, 0.5), kernel_shape=[8, 8], strides=[1, 1],
                  dilations=[1, 1], pads=[0, 0, 0, 0])  # fmt: skip
    on_grid = net.quantise(mean, 0.5 / 64, 16)
    return net.relu(net.relu(net.quantise(on_grid, 0.25)))


def two_readers_behind_a_transpose(net: Net) -> ir.Value:
    turned = net.op("Transpose", net.conv(net.quantise(net.x, 0.05)), perm=[0, 1, 3, 2])
    return net.op("Add", net.quantise(turned, 0.04), net.relu(turned))


@pytest.mark.parametrize(
    "build",
    [
        relu_behind_a_requantisation,
        relus_behind_the_two_roundings_of_an_average,
        two_readers_behind_a_transpose,
    ],
)
def test_no_rounding_is_left_between_a_layer_and_its_only_reader_an_activation(build):
    """A file cannot tell it from an activation that the layer applies to its accumulator."""
    net = Net(0)
    net.output(net.quantise(net.conv(build(net)) if net.size > 1 else build(net), 0.06))
    model, about = net.model.clone(), context()
    for step in MAPS:
        step(model, about)
    layers = {"Conv", "Gemm", "Add", "AveragePool"}
    for node in model.graph:
        source = node.inputs[0].producer() if node.op_type == "Relu" else None
        if dialect.is_quantize(source) and len(source.outputs[0].uses()) == 1:
            assert source.inputs[0].producer().op_type not in layers
    assert not {step for node in stored_quantisers(model) for step in [node.name]}
