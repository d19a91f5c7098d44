"""`AccessModel`: attributes, scales, shapes and places of a file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.backends.access.model import AccessModel, Malformed
from dlaconv.ir import provenance
from tests.backends.access.rules.rule_nets import (
    MAP_SCALE,
    TARGET,
    WEIGHT_SCALE,
    Net,
    one_conv,
    one_depthwise,
    one_gemm,
    one_op,
    two_maps,
)


def view(model: ir.Model, convention: str | None = None) -> AccessModel:
    return AccessModel(model, TARGET, convention)


def test_an_unknown_convention_is_refused():
    with pytest.raises(ValueError, match="backwards"):
        view(one_conv(), "backwards")


@pytest.mark.parametrize("convention", ["guide", "int-per-real"])
def test_the_convention_is_detected_from_weights(convention):
    found = view(one_conv(convention=convention))
    assert found.convention == convention
    assert found.convention_source.startswith("detected: of 16 weight channels")


def test_recorded_metadata_wins_over_detection_and_an_argument_over_both():
    model = one_conv()
    model.metadata_props["dlaconv.scale_convention"] = "int-per-real"
    assert view(model).convention == "int-per-real"
    assert view(model).convention_source.startswith("recorded")
    assert view(model, "guide").convention_source == "given"
    model.metadata_props["dlaconv.scale_convention"] = "nonsense"
    assert view(model).convention_source.startswith("detected")


def test_without_evidence_the_guide_is_assumed():
    found = view(one_op("Relu"))
    assert (found.convention, found.convention_source[:7]) == ("guide", "assumed")


@pytest.mark.parametrize("convention", ["guide", "int-per-real"])
@pytest.mark.parametrize("build", [one_conv, one_depthwise])
def test_weights_and_bias_decode_to_the_integers_that_were_written(build, convention):
    shape = (16, 1 if build is one_depthwise else 16, 3, 3)
    integers = np.random.default_rng(1).integers(-128, 128, shape)
    bias = np.arange(16) * 2047 - 16000
    model = build(integers=integers, bias=bias, kernel=(3, 3), convention=convention)
    found, node = view(model), model.graph[0]
    assert np.array_equal(found.decode_weights(node).integers, integers)
    assert np.array_equal(found.decode_bias(node).integers, bias)


def test_gemm_weights_have_output_channels_first_in_both_layouts():
    integers = np.arange(48).reshape(16, 3)
    weights = (integers * np.float64(np.float32(WEIGHT_SCALE))).astype(np.float32)
    plain = one_gemm(3, weights=weights)
    transposed = one_gemm(3, weights=weights.T.copy(), transB=0)
    for model in (plain, transposed):
        decoded = view(model).decode_weights(model.graph[0])
        assert np.array_equal(decoded.integers, integers)


def test_what_is_not_there_decodes_to_none():
    model = one_conv(weight_ch_scales=None, bias=np.zeros(16))
    found, node = view(model), model.graph[0]
    assert found.decode_weights(node) is None
    assert found.decode_bias(node) is None
    model = one_conv(bias=np.zeros(16), input_scale=float("nan"))
    assert view(model).decode_bias(model.graph[0]) is None


def test_aliases_stand_for_every_map_of_a_node_but_names_come_first():
    model = one_conv(activation_bit=4, weight_bit=2, output_bitdepth=None, input_bitdepth=None)
    found, node = view(model), model.graph[0]
    assert found.number(node, "input_bitdepth") == 4
    assert found.number(node, "output_bitdepth") == 4
    assert found.number(node, "weight_bitdepth") == 8


def test_numbers_are_read_from_any_numeric_type():
    model = one_conv(input_scale=16, weight_ch_scales=2.0, output_scale="text")
    found, node = view(model), model.graph[0]
    assert found.number(node, "input_scale") == 16.0
    assert found.numbers(node, "weight_ch_scales").tolist() == [2.0]
    assert found.number(node, "output_scale") is None
    assert found.number(node, "absent") is None


def test_standard_attributes_of_another_type_are_malformed():
    model = one_conv(strides="text", group2="text")
    found, node = view(model), model.graph[0]
    with pytest.raises(Malformed, match="'strides' is no list of integers but STRING"):
        found.integers(node, "strides")
    with pytest.raises(Malformed, match="'group2' is no integer"):
        found.integer(node, "group2", 1)


def test_map_scales_come_from_producers_then_from_consumers():
    net = Net()
    x = net.input(1, 16, 8, 8, scale=0.5)
    stated = net.conv(x, output_scale=0.25, input_scale=0.5)
    silent = net.conv(stated, output_scale=None)
    last = net.conv(silent, input_scale=2.0, output_scale=None)
    found = view(net.model(last))
    scales = [found.map_scale(value) for value in (x, stated, silent, last)]
    assert scales == [0.5, 0.25, 2.0, None]


def test_scales_pass_through_operators_without_attributes():
    net = Net()
    bare = dict.fromkeys(TARGET.ops["Relu"])
    y = net.conv(net.input(1, 16, 8, 8), output_scale=0.25)
    flat = net.op("Flatten", net.op("Relu", y, **bare), **bare)
    assert view(net.model(flat)).map_scale(flat) == 0.25


def test_map_steps_follow_the_convention():
    model = one_conv(output_scale=4.0)
    value = model.graph.outputs[0]
    assert view(model, "guide").map_step(value) == 4.0
    assert view(model, "int-per-real").map_step(value) == 0.25
    assert view(one_conv(output_scale=-4.0)).map_step(value) is None


def test_each_operand_of_matmul_has_its_own_scale():
    model = one_op("MatMul", (1, 16), (16, 16), A_scale=0.5, B_scale=0.25)
    found, node = view(model), model.graph[0]
    assert (found.input_scale(node, 0), found.input_scale(node, 1)) == (0.5, 0.25)


def test_add_states_no_input_scale():
    model = two_maps("Add", input_scale=7.0)
    node = model.graph[-1]
    assert view(model).input_scale(node, 0) is None


def test_weights_and_index_tensors_are_no_maps():
    net = Net()
    x = net.input(1, 16, 4, 4)
    index = ir.val("index", dtype=ir.DataType.INT64, shape=(2,))
    y = net.op("Reshape", net.conv(x), index)
    net.inputs.append(index)
    model = net.model(y)
    found = view(model)
    assert [value.name for value in found.map_inputs(model.graph[0])] == ["x"]
    assert [value.name for value in found.map_inputs(model.graph[1])] == ["conv0_out"]


def test_initializers_repeated_as_inputs_are_no_inputs():
    model = one_conv()
    model.graph.inputs.append(model.graph.initializers["w0"])
    assert [value.name for value in view(model).inputs] == ["x"]


def test_final_maps_reach_back_through_activation_and_reshaping_only():
    net = Net()
    first = net.conv(net.input(1, 16, 8, 8))
    second = net.op("Relu", net.conv(first))
    model = net.model(net.op("Flatten", second))
    names = {value.name for value in view(model).final_maps}
    assert names == {"conv1_out", "relu2_out", "flatten3_out"}


def test_a_map_that_is_used_elsewhere_too_is_not_final():
    net = Net()
    y = net.conv(net.input(1, 16, 8, 8))
    model = net.model(net.op("Flatten", y), net.conv(y))
    names = {value.name for value in view(model).final_maps}
    assert names == {"flatten1_out", "conv2_out"}


def test_shapes_combine_what_is_stated_with_what_is_inferred():
    net = Net()
    y = net.conv(net.input("N", 16, 8, 8))
    model = net.model(net.conv(y))
    y.shape = ir.Shape(["N", None, None, 8])
    y.dtype = ir.DataType.FLOAT
    assert view(model).shape(y) == (None, 16, 8, 8)


def test_places_use_the_layers_of_the_source():
    model = one_conv()
    node = model.graph[0]
    assert view(model).location(node).layer == "conv0"
    provenance.mark(node, "stem", "Convolution", 41)
    place = view(model).location(node.outputs[0])
    assert (place.layer, place.op, place.line) == ("stem", "Convolution", 41)
    assert view(model).location(model.graph.inputs[0]).op == "graph input"


def test_nameless_nodes_are_called_by_their_result():
    model = one_conv()
    model.graph[0].name = None
    assert view(model).location(model.graph[0]).layer == "conv0_out"


def test_damaged_line_numbers_in_metadata_are_ignored():
    model = one_conv()
    model.graph[0].metadata_props["dlaconv.line"] = "forty"
    assert view(model).location(model.graph[0]).line == 0


def test_map_scale_constant_of_the_fixtures_is_a_power_of_two():
    assert np.log2(MAP_SCALE) == int(np.log2(MAP_SCALE))
