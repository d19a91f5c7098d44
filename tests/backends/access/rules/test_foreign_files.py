"""Whatever a file holds, checking it ends in diagnostics, never in an exception."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.backends.access.rules import check_model
from tests.backends.access.rules.rule_nets import TARGET, Net, one_conv, one_op

VALUES = (
    ir.AttrInt64("a", 0),
    ir.AttrInt64("a", -1),
    ir.AttrInt64("a", 2**62),
    ir.AttrFloat32("a", float("nan")),
    ir.AttrFloat32("a", float("inf")),
    ir.AttrFloat32("a", -1.5),
    ir.AttrFloat32("a", 1e-45),
    ir.AttrString("a", "SAME_UPPER"),
    ir.AttrString("a", "nonsense"),
    ir.AttrInt64s("a", []),
    ir.AttrInt64s("a", [0, 0]),
    ir.AttrInt64s("a", [-1, 2**40, 3, 1]),
    ir.AttrInt64s("a", [1]),
    ir.AttrFloat32s("a", []),
    ir.AttrFloat32s("a", [float("nan")] * 16),
    ir.AttrFloat32s("a", [0.0, float("inf"), -1.0, 1e-38] * 4),
    ir.AttrTensor("a", ir.tensor(np.zeros(3, np.float32))),
    ir.RefAttr("a", "outer", ir.AttributeType.FLOAT),
)
ARRAYS = (
    np.zeros((), np.float32),
    np.zeros((0, 16, 1, 1), np.float32),
    np.zeros((16, 0), np.float32),
    np.full((16, 16, 1, 1), np.nan, np.float32),
    np.full((16, 16, 1, 1), np.inf, np.float32),
    np.full((16,), 3e38, np.float32),
    np.full((16, 16), -7, np.int64),
    np.asarray(["text"] * 16),
)
SHAPES = (None, [], [None], ["N", 16, "H", 3], [0, 0, 0, 0], [-1, 16, 8, 8], [1] * 6, [1, 16, 8, 8])
STANDARD = (
    "kernel_shape", "strides", "pads", "dilations", "auto_pad", "group", "axis", "axes", "perm",
    "keepdims", "alpha", "beta", "transA", "transB", "ceil_mode", "count_include_pad",
)  # fmt: skip
PRIVATE = tuple(
    {name for attributes in TARGET.ops.values() for name in attributes}
    | set(TARGET.attribute_aliases)
)


def everything() -> ir.Model:
    """A network with every operator of the target."""
    net = Net()
    x = net.input(1, 16, 8, 8)
    y = net.conv(x, bias=np.arange(16), kernel=(3, 3), pads=[1, 1, 1, 1])
    y = net.op("Relu", net.conv(y, group=16))
    y = net.op("PRelu", y, net.constant(np.full((16, 1, 1), 0.25, np.float32), "slope"))
    y = net.op("LeakyRelu", y, alpha=0.125)
    stats = [net.constant(np.ones(16, np.float32), f"bn{index}") for index in range(4)]
    y = net.op("BatchNormalization", net.conv(y), *stats)
    y = net.op("HardSwish", net.op("Sigmoid", net.op("Tanh", y)))
    y = net.op("Div", net.op("Add", y, x), net.op("ReduceSum", y, axes=[1]))
    y = net.op("MaxPool", net.op("Concat", y, x, axis=1), kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("AveragePool", y, kernel_shape=[2, 2], auto_pad="SAME_LOWER")
    z = net.op("Transpose", y, perm=[0, 1, 3, 2])
    y = net.op("GlobalAveragePool", net.op("MatMul", y, z))
    y = net.op("Flatten", net.op("Unsqueeze", net.op("Squeeze", y, axes=[2]), axes=[2]))
    y = net.gemm(y, 10, 32, bias=np.arange(10))
    y = net.op("Reshape", y, net.constant(np.asarray([1, 10], np.int64), "shape"))
    return net.model(net.op("Softmax", y))


@st.composite
def vandalised(draw) -> ir.Model:
    model = everything()
    nodes = list(model.graph)
    for _ in range(draw(st.integers(1, 6))):
        node = draw(st.sampled_from(nodes))
        match draw(st.integers(0, 7)):
            case 0 | 1:
                name = draw(st.sampled_from(sorted({*node.attributes, *STANDARD})))
                node.attributes[name] = _named(draw(st.sampled_from(VALUES)), name)
            case 2:
                name = draw(st.sampled_from(sorted(PRIVATE)))
                node.attributes[name] = _named(draw(st.sampled_from(VALUES)), name)
            case 3 if node.attributes:
                del node.attributes[draw(st.sampled_from(sorted(node.attributes)))]
            case 4 if node.inputs:
                node.replace_input_with(draw(st.integers(0, len(node.inputs) - 1)), None)
            case 5:
                value = draw(st.sampled_from([*model.graph.inputs, *node.outputs]))
                shape = draw(st.sampled_from(SHAPES))
                value.shape = None if shape is None else ir.Shape(shape)
            case 6:
                value = draw(st.sampled_from(list(model.graph.initializers.values())))
                array = draw(st.sampled_from(ARRAYS))
                value.const_value = (
                    ir.StringTensor(array) if array.dtype.kind == "U" else ir.tensor(array)
                )
                value.shape = ir.Shape(array.shape)
            case _:
                node.op_type = draw(st.sampled_from([*TARGET.ops, "If"]))
    return model


def _named(attribute: ir.Attr, name: str) -> ir.Attr:
    if attribute.is_ref():
        return ir.RefAttr(name, "outer", attribute.type)
    return ir.Attr(name, attribute.type, attribute.value)


@settings(max_examples=200, deadline=None)
@given(vandalised())
def test_vandalised_files_are_checked_to_the_end(model):
    result = check_model(model, TARGET)
    assert result.violated  # Softmax at least
    assert all(str(item) and item.as_json() for item in result.diagnostics)
    assert not {*result.passed} & {*result.violated}


def test_a_file_with_demo_names_is_read_and_told_so():
    demo = dict.fromkeys(["input_bitdepth", "weight_bitdepth", "output_bitdepth"])
    result = check_model(one_conv(weight_bit=8, activation_bit=8, **demo), TARGET)
    assert result.violated == {"AT-8": 1}


def test_a_demo_name_stands_for_a_wrong_bit_depth_too():
    result = check_model(one_conv(weight_bit=4, weight_bitdepth=None), TARGET)
    assert result.violated == {"AT-7": 1, "AT-8": 1}


def test_a_plain_onnx_file_gets_one_finding_per_node_for_its_attributes():
    net = Net()
    bare = dict.fromkeys([name for op in TARGET.ops.values() for name in op])
    y = net.op("Relu", net.conv(net.input(1, 16, 8, 8), **bare), **bare)
    result = check_model(net.model(y), TARGET)
    assert result.violated == {"AT-1": 1, "AT-5": 1}


def test_weights_in_constant_nodes_are_weights():
    model = one_conv()
    node = next(iter(model.graph))
    value = node.inputs[1]
    constant = ir.node("Constant", [], {"value": value.const_value})
    constant.outputs[0].name = "w"
    model.graph.insert_before(node, constant)
    node.replace_input_with(1, constant.outputs[0])
    result = check_model(model, TARGET)
    assert not result.violated
    node.attributes["weight_ch_scales"] = ir.AttrFloat32s("weight_ch_scales", [0.3] * 16)
    assert {"SC-2", "SC-4"} <= set(check_model(model, TARGET).violated)


def test_weights_that_are_computed_are_reported():
    model = one_op("Conv", (1, 16, 8, 8), (16, 16, 1, 1), weight_ch_scales=[1.0] * 16)
    found = {item.rule: item.message for item in check_model(model, TARGET).diagnostics}
    assert found["SC-4"] == "the weights are no constant of numbers"


def test_shapes_that_the_file_lacks_are_inferred():
    net = Net()
    y = net.conv(net.input(1, 16, 300, 300))
    model = net.model(net.op("Relu", net.conv(y)))
    assert all(node.outputs[0].shape is None for node in list(model.graph)[:-1])
    messages = [item.message for item in check_model(model, TARGET).diagnostics.errors]
    assert messages == ["map 'conv0_out' is 300x300, each side must be 1 to 256"]


def test_a_dynamic_batch_hides_nothing_else():
    model = one_conv("N", 16, 300, 300, kernel=(9, 9))
    assert set(check_model(model, TARGET).violated) == {"GR-2", "CV-1", "IO-4"}


def test_what_an_unknown_size_hides_is_said():
    result = check_model(one_conv(1, 16, "H", "W"), TARGET)
    assert "CV-2" in result.undecided
    assert "CV-2" not in result.passed
    (note,) = [item for item in result.diagnostics if item.rule == "CV-2"]
    assert note.message == (
        "not decided for 1 node(s), this one first: the shape of 'x' is not static"
    )


@pytest.mark.parametrize("name", ["strides", "pads", "dilations", "kernel_shape", "group"])
def test_a_malformed_attribute_is_named(name):
    model = one_conv()
    model.graph[0].attributes[name] = ir.AttrString(name, "text")
    result = check_model(model, TARGET)
    assert any(f"'{name}'" in item.message for item in result.diagnostics.errors)


def test_an_empty_graph_is_no_offence_of_the_rules():
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 12}, name="empty")
    result = check_model(ir.Model(graph, ir_version=7), TARGET)
    assert result.diagnostics.errors == []


def test_the_file_is_not_changed_by_a_check():
    model = everything()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    check_model(model, TARGET)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
