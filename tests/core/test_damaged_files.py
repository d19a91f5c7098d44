"""Converted files that somebody has changed: run, verified and checked through the API."""

import json
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlaconv
from dlaconv.errors import ConversionError, UsageError
from tests import networks
from tests.frontends.builders import network, parameters, quant, save

INPUTS = {"input": np.zeros((1, 3, 8, 8), np.int8)}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A source, and the file that was made of it."""
    folder = tmp_path_factory.mktemp("converted")
    style = networks.Style(power_of_two=True, bias="none")
    source = save(folder, networks.chain(2, 0, style, size=8).model)
    output = folder / "net.dla.onnx"
    dlaconv.convert(source, output, options=dlaconv.Options(verify=False))
    return source, output


@pytest.fixture
def changed(converted, tmp_path):
    """Writes the file with a change."""

    def call(change):
        model = onnx.load(converted[1])
        change(model)
        return save(tmp_path, model)

    return call


def rules(call, kind=ConversionError):
    with pytest.raises(kind) as caught:
        call()
    return {item.rule for item in caught.value.diagnostics.errors}


def test_nodes_may_stand_in_any_order(converted, changed):
    def reverse(model):
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    wanted = dlaconv.run(converted[1], INPUTS)
    found = dlaconv.run(changed(reverse), INPUTS)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def wider_weights(model):
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    array = numpy_helper.to_array(weights)
    weights.CopyFrom(numpy_helper.from_array(np.concatenate([array, array], 1), weights.name))


def three_strides(model):
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "strides":
            attribute.ints.append(1)


@pytest.mark.parametrize("change", [wider_weights, three_strides])
def test_shapes_that_contradict_each_other_are_refused(changed, change):
    path = changed(change)
    assert rules(lambda: dlaconv.run(path, INPUTS)) == {"DLA310"}
    assert not dlaconv.check(path).ok


@pytest.mark.parametrize("size", [0, -1])
def test_an_input_without_a_size_is_refused(changed, size):
    def change(model):
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size

    path = changed(change)
    with pytest.raises(ConversionError):
        dlaconv.run(path, INPUTS)


def test_nodes_of_our_own_domain_are_no_operators_of_a_file(changed):
    def change(model):
        model.graph.node[0].domain = "org.dlaconv"

    assert "GR-3" in rules(lambda: dlaconv.run(changed(change), INPUTS))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_a_map_table_nested_beyond_reason_is_no_table(changed, text):
    def change(model):
        for entry in model.metadata_props:
            if entry.key == "dlaconv.maps":
                entry.value = text

    dlaconv.run(changed(change), INPUTS)


def test_complex_weights_are_no_weights(changed):
    def change(model):
        weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        array = numpy_helper.to_array(weights).astype(np.complex64)
        weights.CopyFrom(numpy_helper.from_array(array, weights.name))

    path = changed(change)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not dlaconv.check(path).ok


def test_numbers_that_overflow_print_nothing(changed):
    def change(model):
        for attribute in model.graph.node[0].attribute:
            if attribute.name == "weight_ch_scales":
                attribute.floats[:] = [1e-45, 3e38, float("nan"), *attribute.floats[3:]]

    path = changed(change)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not dlaconv.check(path).ok


def test_maps_of_another_source_are_refused(converted, changed):
    def change(model):
        for entry in model.metadata_props:
            if entry.key == "dlaconv.maps":
                table = json.loads(entry.value)
                table["output"]["tensor"] = table["output"]["layer"] = "input"
                entry.value = json.dumps(table)

    source, path = converted[0], changed(change)
    assert rules(lambda: dlaconv.verify(source, path), UsageError) == {"DLA903"}


def test_a_file_without_its_map_table_cannot_be_compared(converted, changed):
    path = changed(lambda model: model.ClearField("metadata_props"))
    assert rules(lambda: dlaconv.verify(converted[0], path), UsageError) == {"DLA903"}
    assert dlaconv.run(path, INPUTS)


def test_an_input_of_another_size_or_name_than_the_source_s_is_refused(
    converted, changed, tmp_path
):
    other = save(tmp_path, networks.chain(2, 0, size=10).model, "other.onnx")
    assert rules(lambda: dlaconv.verify(other, converted[1]), UsageError) == {"DLA903"}

    def rename(model):
        model.graph.input[0].name = model.graph.node[0].input[0] = "image"

    path = changed(rename)
    assert rules(lambda: dlaconv.verify(converted[0], path), UsageError) == {"DLA903"}


def test_graph_inputs_that_nothing_reads_are_fed_with_anything(converted, tmp_path):
    model = onnx.load(converted[0])
    model.graph.input.append(helper.make_tensor_value_info("spare", TensorProto.FLOAT, ["N", 7]))
    source, output = save(tmp_path, model), tmp_path / "net.dla.onnx"
    dlaconv.convert(source, output)
    assert dlaconv.run(output, INPUTS)
    assert dlaconv.verify(source, output).passed


def test_a_source_that_computes_infinity_cannot_be_compared_with(tmp_path):
    weights = np.full((16, 16, 3, 3), 4e36, np.float32)  # sums overflow, their bound / 127 does not
    nodes = [quant("x", "q"), ("Conv", ["q", "w"], ["y"])]
    model = network(nodes, {**parameters(), "w": weights}, {"x": [1, 16, 8, 8]})
    source = save(tmp_path, model)
    options = dlaconv.Options(allow_violations=True)
    assert rules(lambda: dlaconv.convert(source, None, options=options)) == {"DLA906"}
