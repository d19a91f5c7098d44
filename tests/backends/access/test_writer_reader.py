"""Written files: what is in them, and that reading them gives the network back."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dlaconv.backends.access.reader import read_access, stored_maps
from dlaconv.backends.access.roundtrip import difference
from dlaconv.backends.access.rules import check_model
from dlaconv.backends.access.simulator import Simulator
from dlaconv.backends.access.writer import write_access
from dlaconv.errors import ConversionError
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.layers import network_of
from dlaconv.ir.scales.facts import map_facts
from dlaconv.ir.target import Target
from tests.ir.scales.graphs import Net, chain, residual, scaled

TARGET = Target.load()
CONVENTIONS = ("guide", "int-per-real")


def everything() -> Net:
    """Concat, max pool, average pool, LeakyReLU, Tanh, Reshape and a fully connected end."""
    net = Net(4)
    x = net.quantise(net.x, 2.0**-5)
    a = net.quantise(net.relu(net.conv(x)), 2.0**-4)
    b = net.quantise(net.op("LeakyRelu", net.conv(x), alpha=0.125), 2.0**-4)
    joined = net.op("Concat", a, b, axis=1, shape=(1, 32, 8, 8))
    pooled = net.op("MaxPool", joined, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0],
                    shape=(1, 32, 4, 4))  # fmt: skip
    mean = net.op("AveragePool", pooled, kernel_shape=[4, 4], strides=[1, 1], pads=[0, 0, 0, 0],
                  shape=(1, 32, 1, 1))  # fmt: skip
    curve = net.quantise(net.op("Tanh", net.quantise(mean, 2.0**-5), shape=(1, 32, 1, 1)), 2.0**-7)
    return net.output(curve)


def written(net: Net, convention: str = "guide", **settings):
    """The SCALED model of a network and its file, serialised and parsed again."""
    model, context = scaled(net, convention=convention, **settings)
    network = network_of(model)
    facts = map_facts(model, network, context)
    target = settings.get("target", TARGET)
    access = write_access(model, target, convention=convention, maps=facts)
    return network, ir.from_proto(
        onnx.ModelProto.FromString(ir.to_proto(access).SerializeToString())
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("io", ["pin", "absorb"])
@pytest.mark.parametrize("make", [lambda: chain(3, 0), lambda: residual(2, 1), everything])
def test_a_file_reads_back_as_the_same_integers(make, io, convention):
    network, file = written(make(), convention, io=io)
    again = read_access(file, TARGET)
    assert difference(network, network_of(again.model)) == ""
    assert again.convention == convention


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_convention_is_detected_where_it_is_not_recorded(convention):
    network, file = written(chain(3, 0), convention)
    file.metadata_props.clear()
    again = read_access(file, TARGET)
    assert again.convention == convention
    assert "detected" in again.convention_source
    assert difference(network, network_of(again.model)) == ""


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_attributes_are_the_guide_s_and_on_their_grids(convention):
    _, file = written(chain(2, 0), convention)
    conv = next(node for node in file.graph if node.op_type == "Conv")
    assert set(TARGET.ops["Conv"]) <= set(conv.attributes)
    assert PowerOfTwo.exactly(conv.attributes["input_scale"].as_float()) is not None
    weights = conv.inputs[1].const_value.numpy()
    scales = np.array(conv.attributes["weight_ch_scales"].as_floats()).reshape(-1, 1, 1, 1)
    units = weights / scales if convention == "guide" else weights * scales
    assert np.abs(units - np.rint(units)).max() < 1e-3
    assert np.abs(units).max() <= 128
    assert not check_model(file, TARGET).violated


def test_scales_of_one_file_are_the_inverse_in_the_other_convention():
    values = {}
    for convention in CONVENTIONS:
        conv = next(node for node in written(chain(1, 0), convention)[1].graph)
        values[convention] = conv.attributes["input_scale"].as_float()
    assert values["guide"] == 1 / values["int-per-real"]


def test_the_written_model_is_plain_onnx_without_the_private_attributes():
    _, file = written(everything())
    private = {name for attributes in TARGET.ops.values() for name in attributes}
    for node in file.graph:
        for name in private & set(node.attributes):
            del node.attributes[name]
    onnx.checker.check_model(ir.to_proto(file), full_check=True)
    assert file.graph.opset_imports == {"": 12}


def test_unsigned_maps_survive_through_the_metadata():
    target = replace(TARGET, signed_maps=False)
    net = Net(0)
    value = net.quantise(net.relu(net.conv(net.quantise(net.x, 2.0**-5))), 2.0**-6, signed=False)
    net.output(net.quantise(net.conv(value), 2.0**-4))
    network, file = written(net, target=target)
    assert [stored.qmax for stored in network.maps.values()] == [127, 255, 127]
    assert difference(network, network_of(read_access(file, target).model)) == ""


def test_demo_attribute_names_of_the_guide_are_read():
    network, file = written(chain(2, 0))
    for node in file.graph:
        for name in [n for n in node.attributes if n.endswith("_bitdepth")]:
            del node.attributes[name]
        node.attributes["weight_bit"] = ir.AttrInt64("weight_bit", 8)
        node.attributes["activation_bit"] = ir.AttrInt64("activation_bit", 8)
    assert difference(network, network_of(read_access(file, TARGET).model)) == ""


def test_a_file_without_scales_is_refused_with_every_reason():
    _, file = written(chain(2, 0))
    for node in file.graph:
        for name in list(node.attributes):
            if name.endswith(("_scale", "_scales")):
                del node.attributes[name]
    file.metadata_props.clear()
    with pytest.raises(ConversionError) as caught:
        read_access(file, TARGET)
    assert {item.rule for item in caught.value.diagnostics} >= {"AT-1", "SC-1"}
    assert len(caught.value.diagnostics) > 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 3}', "null"])
def test_a_damaged_map_table_is_no_table(text):
    _, file = written(chain(1, 0))
    file.metadata_props["dlaconv.maps"] = text
    assert stored_maps(file) == {}
    assert read_access(file, TARGET).model is not None


def test_the_map_table_names_every_map_with_its_real_step():
    network, file = written(residual(1, 0), io="absorb")
    table = json.loads(file.metadata_props["dlaconv.maps"])
    assert set(table) == set(network.maps)
    assert all(row["real_step"] > 0 for row in table.values())


def test_file_and_scaled_model_simulate_alike():
    network, file = written(everything())
    again = network_of(read_access(file, TARGET).model)
    feeds = {"x": np.random.default_rng(0).integers(-128, 128, (1, 16, 8, 8))}
    one, other = (Simulator(each, fetch="all").run(feeds) for each in (network, again))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("real_step", 0), ("real_step", -1.0), ("real_step", "x"), ("real_step", float("inf")),
        ("real_step", None), ("exponent", 1.5), ("qmin", "a"), ("qmax", 1 << 40), ("clip", [1]),
        ("clip", 3), ("clip", [None, 1]), ("step_errors", "abc"), ("gain_errors", [1]),
        ("gain_errors", {"x": None}), ("source_step", False), ("real_step", 10**400),
    ],
)  # fmt: skip
def test_a_damaged_row_of_the_map_table_is_left_out(key, value):
    _, file = written(chain(1, 0))
    table = json.loads(file.metadata_props["dlaconv.maps"])
    name = next(iter(table))
    table[name][key] = value
    file.metadata_props["dlaconv.maps"] = json.dumps(table)
    assert name not in stored_maps(file)
    assert len(stored_maps(file)) == len(table) - 1
    assert read_access(file, TARGET).model is not None


def test_a_map_that_is_called_as_weights_will_be_keeps_its_name():
    net = chain(2, 0)
    first, second = [node for node in net.model.graph if node.op_type == "Conv"]
    stored = second.inputs[0]
    stored.name = f"{second.name}.weight"
    _, model = written(net)
    [layer] = [node for node in model.graph if node.name == second.name]
    assert layer.inputs[0].name == f"{second.name}.weight"
    names = [value.name for node in model.graph for value in node.outputs]
    names += [*model.graph.initializers, *(value.name for value in model.graph.inputs)]
    assert len(set(names)) == len(names)
    assert f"{first.name}.weight" in names
