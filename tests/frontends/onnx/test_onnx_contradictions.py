"""ONNX files whose parts contradict each other, or nest without end."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlaconv.frontends.onnx.reader import read_onnx
from tests.frontends.builders import network, parameters, quant, save
from tests.frontends.onnx.reading import conv, refused, relu, the_rule


def graph(*nodes, **more):
    return network(nodes, {"w": np.ones(3, np.float32)}, **more)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"the_{outputs[0]}", **attributes)


def empty_attribute():
    made = helper.make_node("My", ["x"], ["y"], domain="my")
    made.attribute.add(name="t", type=onnx.AttributeProto.TENSOR)
    return made


INVALID = {
    "a cycle": (
        graph(
            node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["a"], ["y"])
        ),
        "cycle through 'the_b', 'the_a'",
    ),
    "a node that feeds itself": (graph(node("Relu", ["y"], ["y"])), "cycle through 'the_y'"),
    "an undefined value": (graph(node("Add", ["x", "ghost"], ["y"])), "'ghost'"),
    "an undefined output": (graph(node("Relu", ["x"], ["a"])), "'y' is made by no node"),
    "a value made twice": (
        graph(node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])), "'y' is made twice"
    ),
    "an output over a weight": (graph(node("Relu", ["x"], ["w"]), outputs=["w"]), "made twice"),
    "two outputs of one name": (
        graph(node("Relu", ["x"], ["y"]), outputs=["y", "y"]), "two values are called 'y'"
    ),
    "an attribute of another type": (
        graph(node("Softmax", ["x"], ["y"], axis="last")), "axis"
    ),
    "an unknown attribute": (graph(node("Relu", ["x"], ["y"], colour=3)), "colour"),
    "no output": (graph(node("Relu", ["x"], ["y"]), outputs=[]), "no output"),
    "a node without results": (
        graph(node("Relu", ["x"], ["y"]), helper.make_node("My", ["x"], [], domain="my")),
        "the node has no result",
    ),
    "an attribute without its tensor": (graph(empty_attribute()), "'t' has no value"),
    "too many inputs": (graph(node("Relu", ["x", "w"], ["y"])), "input"),
    "an operator of a later opset": (graph(node("Gelu", ["x"], ["y"]), opset=13), "Gelu"),
    "a removed operator": (
        graph(node("Upsample", ["x", "w"], ["y"]), opset=13), "Upsample"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_a_graph_that_contradicts_itself_is_refused(tmp_path, case):
    model, said = INVALID[case]
    path = save(tmp_path, model)
    assert the_rule(path) == "DLA404"
    assert said in str(refused(path))


def test_two_initializers_of_one_name_are_refused(tmp_path):
    model = graph(node("Add", ["x", "w"], ["y"]))
    model.graph.initializer.append(model.graph.initializer[0])
    assert the_rule(save(tmp_path, model)) == "DLA404"


def test_an_attribute_given_twice_is_refused(tmp_path):
    model = graph(node("Softmax", ["x"], ["y"], axis=1))
    model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])
    assert the_rule(save(tmp_path, model)) == "DLA404"


def test_a_large_cycle_is_named_in_short(tmp_path):
    nodes = [node("Relu", [f"v{i}"], [f"v{(i + 1) % 3000}"]) for i in range(3000)]
    found = refused(save(tmp_path, graph(*nodes, outputs=["v0"])))
    assert "and 2995 more" in str(found)
    assert len(str(found)) < 2000


def test_many_problems_are_counted_not_listed(tmp_path):
    nodes = [node("Add", ["x", f"ghost{i}"], [f"v{i}"]) for i in range(500)]
    found = refused(save(tmp_path, graph(*nodes, outputs=["v0"])))
    assert len(found) == 21
    assert "480 more problems" in str(found)


def test_values_of_a_subgraph_are_checked_in_their_scope(tmp_path):
    def branch(source):
        inner = helper.make_node("Relu", [source], ["inner"], name="deep")
        value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        return helper.make_graph([inner], "branch", [], [value])

    def choice(source):
        flag = helper.make_node("Constant", [], ["flag"], value_int=1, name="flag")
        cast = helper.make_node("Cast", ["flag"], ["bool"], to=TensorProto.BOOL)
        when = {"then_branch": branch("x"), "else_branch": branch(source)}
        return graph(flag, cast, helper.make_node("If", ["bool"], ["y"], name="if", **when))

    read_onnx(save(tmp_path, choice("x")))
    found = refused(save(tmp_path, choice("ghost")))
    assert [error.location.layer for error in found] == ["deep"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.dims.__setitem__(0, 2**40), "needs"),
        (lambda t: t.dims.__setitem__(0, 1999), "needs"),
        (lambda t: t.dims.__setitem__(0, -1), "negative"),
        (lambda t: t.dims.extend([2**62] * 8), "needs"),
        (lambda t: t.dims.extend([1] * 40), "dimensions"),
        (lambda t: setattr(t, "data_type", 0), "no element type"),
        (lambda t: setattr(t, "data_type", 77), "unknown element type"),
        (lambda t: setattr(t, "data_type", TensorProto.DOUBLE), "needs"),
        (lambda t: setattr(t, "data_type", TensorProto.STRING), "are there"),
        (lambda t: t.ClearField("raw_data"), "0 are there"),
        (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "are there"),
        (lambda t: setattr(t, "raw_data", t.raw_data[:100]), "are there"),
    ],
)
def test_a_tensor_that_does_not_fit_its_data_is_refused(tmp_path, change, said):
    model = conv()
    change(model.graph.initializer[0])
    path = save(tmp_path, model)
    assert the_rule(path) == "DLA406"
    assert said in str(refused(path))
    assert "'w'" in str(refused(path))


def test_a_constant_node_is_checked_too(tmp_path):
    value = helper.make_tensor("value", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    value.dims[0] = 10**15
    model = graph(helper.make_node("Constant", [], ["y"], value=value))
    assert the_rule(save(tmp_path, model)) == "DLA406"


def test_text_that_is_no_utf8_is_refused(tmp_path):
    data = relu().SerializeToString().replace(b"relu_y", b"rel\xff_y")
    assert the_rule(save(tmp_path, data)) == "DLA402"
    attribute = network([quant("x", "y", rounding_mode="ROUND")], parameters())
    data = attribute.SerializeToString().replace(b"ROUND", b"\xff\xfe\xfdND")
    assert the_rule(save(tmp_path, data)) == "DLA404"


def test_graphs_nested_beyond_reason_are_refused(tmp_path):
    def field(number, payload):
        length, size = bytearray(), len(payload)
        while size > 0x7F:
            length.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([number << 3 | 2]) + bytes([*length, size]) + payload

    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))  # graph: node: attribute: g
    path = save(tmp_path, relu().SerializeToString() + field(7, graph))
    assert the_rule(path) == "DLA402"
    assert "deeper" in str(refused(path))


def test_functions_that_call_themselves_or_explode_are_refused(tmp_path):
    def function(name, callee, count):
        calls = [
            helper.make_node(callee, [f"v{i}"], [f"v{i + 1}"], domain="my") for i in range(count)
        ]
        return helper.make_function(
            "my", name, ["v0"], [f"v{count}"], calls, [helper.make_opsetid("my", 1)]
        )

    call = helper.make_node("F0", ["x"], ["y"], domain="my")
    domains = [("my", 1)]
    itself = network([call], domains=domains, functions=[function("F0", "F0", 1)])
    assert the_rule(save(tmp_path, itself)) == "DLA404"
    bombs = [function(f"F{i}", f"F{i + 1}", 10) for i in range(9)]
    assert the_rule(save(tmp_path, network([call], domains=domains, functions=bombs))) == "DLA407"
    uncalled = network([("Relu", ["x"], ["y"])], domains=domains, functions=bombs)
    assert the_rule(save(tmp_path, uncalled)) == "DLA407"
    deep = [function(f"F{i}", f"F{i + 1}", 1) for i in range(101)]
    found = refused(save(tmp_path, network([call], domains=domains, functions=deep)))
    assert "101 deep" in str(found)
