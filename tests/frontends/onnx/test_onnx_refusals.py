"""Plain ONNX that cannot be converted, and files of other formats."""

import numpy as np
import pytest
from onnx import TensorProto, helper

import dlaconv
from dlaconv.errors import UserError
from dlaconv.frontends.onnx import looks_like_onnx
from dlaconv.frontends.qonnx import looks_like_qonnx
from dlaconv.plugins import Plugins
from tests.frontends.builders import QONNX, network, parameters, quant, rules, save
from tests.frontends.onnx.plain import (
    contrib,
    integer_input,
    load,
    plain,
)

UNKNOWN = {
    "of somebody's own": ("com.example", "Frobnicate", "register_layers"),
    "of no domain": ("", "Frobnicate", "register_layers"),
    "of our own domain": ("org.dlaconv", "QuantizeHalfEven", "register_layers"),
    "fused by onnxruntime": ("com.microsoft", "FusedConv", "without onnxruntime's optimisations"),
    "fused for another layout": (
        "com.ms.internal.nhwc", "Conv", "without onnxruntime's optimisations"
    ),
    "blocked": ("com.microsoft", "MatMulNBits", "--calibrate"),
    "unknown to onnxruntime": ("com.microsoft", "Frobnicate", "register_layers"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_operator_is_refused_with_a_remedy(tmp_path, case):
    domain, op, remedy = UNKNOWN[case]
    node = helper.make_node(op, ["x"], ["a"], domain=domain, name="the_layer")
    domains = [(domain, 1)] if domain else ()
    found = load(tmp_path, plain([node, ("Relu", ["a"], ["y"])], domains=domains)).diagnostics
    assert rules(found) == ["DLA102"]
    assert op in found.errors[0].message
    assert found.errors[0].location.layer == "the_layer"
    assert remedy in found.errors[0].help


def branch(source):
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    node = helper.make_node("Relu", [source], ["inner"], name="inner")
    return helper.make_graph([node], "branch", [], [out])


def loop_body():
    infos = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
    ]
    nodes = [
        helper.make_node("Identity", ["go"], ["go2"]),
        helper.make_node("Neg", ["v"], ["v2"]),
    ]
    outs = [
        helper.make_tensor_value_info("go2", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v2", TensorProto.FLOAT, None),
    ]
    return helper.make_graph(nodes, "body", infos, outs)


def test_control_flow_and_unknown_operators_are_reported_together(tmp_path):
    nodes = [
        ("If", ["flag"], ["a"], {"then_branch": branch("x"), "else_branch": branch("x")}),
        ("Loop", ["count", "flag", "a"], ["c"], {"body": loop_body()}),
        helper.make_node("Frobnicate", ["x"], ["d"], domain="com.example", name="own"),
        ("Add", ["c", "d"], ["y"]),
    ]
    constants = {"flag": np.array(True), "count": np.array(3)}
    found = load(tmp_path, plain(nodes, constants, domains=[("com.example", 1)])).diagnostics
    assert sorted(rules(found)) == ["DLA102", "DLA111", "DLA111"]
    assert {error.location.layer for error in found.errors} == {"if_a", "loop_c", "own"}


@pytest.mark.parametrize("opset", [1, 6, 22])
def test_other_opsets_are_refused(tmp_path, opset):
    found = load(tmp_path, plain([("Relu", ["x"], ["y"])], opset=opset)).diagnostics
    assert rules(found) == ["DLA110"]


@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT16", "INT64", "INT32", "BOOL"])
def test_inputs_of_other_types_are_refused(tmp_path, kind):
    model = plain([("Identity", ["x"], ["y"])])
    found = load(tmp_path, integer_input(model, "x", getattr(TensorProto, kind))).diagnostics
    assert rules(found) == ["DLA117"]
    assert "float32" in found.errors[0].help


def test_shapes_that_do_not_fit_are_reported_at_the_layer(tmp_path):
    nodes = [("Relu", ["x"], ["a"]), ("Conv", ["a", "w"], ["y"])]
    found = load(tmp_path, plain(nodes, {"w": np.ones((2, 5, 3, 3), np.float32)})).diagnostics
    assert rules(found) == ["DLA310"]
    assert found.errors[0].location.layer == "conv_y"


def test_a_qonnx_file_is_sent_to_from_qonnx(tmp_path):
    found = load(tmp_path, network([quant("x", "a"), quant("a", "y")], parameters())).diagnostics
    assert rules(found) == ["DLA121"]
    assert "from-qonnx" in found.errors[0].help
    assert "Quant (2)" in found.errors[0].message


FILES = {
    "float": (lambda: plain([("Relu", ["x"], ["y"])]), "onnx"),
    "float with an operator of somebody": (
        lambda: plain(
            [("Relu", ["x"], ["a"]), helper.make_node("F", ["a"], ["y"], domain="com.example")],
            domains=[("com.example", 1)],
        ),
        "onnx",
    ),
    "qdq": (
        lambda: plain(
            [("QuantizeLinear", ["x", "s"], ["q"]), ("DequantizeLinear", ["q", "s"], ["y"])],
            {"s": np.float32(1)},
        ),
        "onnx",
    ),
    "qoperator": (
        lambda: plain([contrib("QLinearAdd", ["x"] * 8, ["y"])], domains=[("com.microsoft", 1)]),
        "onnx",
    ),
    "dynamic": (lambda: plain([("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])]), "onnx"),
    "functions": (
        lambda: plain(
            [("Relu", ["x"], ["a"]), helper.make_node("f", ["a"], ["y"], domain="pkg")],
            domains=[("pkg", 1)],
        ),
        "onnx",
    ),
    "qonnx": (lambda: network([quant("x", "y")], parameters()), "qonnx"),
    "qonnx and qdq": (
        lambda: network([quant("x", "a"), ("QuantizeLinear", ["a", "s"], ["y"])], parameters()),
        "qonnx",
    ),
    "only an operator that qonnx knows": (
        lambda: network([helper.make_node("MultiThreshold", ["x"], ["y"], domain=QONNX)]),
        "qonnx",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_exactly_one_frontend_recognises_a_file(tmp_path, kind):
    make, expected = FILES[kind]
    path = save(tmp_path, make())
    assert looks_like_onnx(path) == (expected == "onnx")
    assert looks_like_qonnx(path) == (expected == "qonnx")
    assert Plugins().recognise([path]) == [expected]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[net]\nwidth=416\n",
        network([helper.make_node("F", ["x"], ["y"], domain="com.example")], domains=()),
    ],
)
def test_no_frontend_recognises_what_is_none_of_theirs(tmp_path, data):
    assert Plugins().recognise([save(tmp_path, data)]) == []


def test_the_two_frontends_send_files_to_each_other(tmp_path):
    plain_file = save(tmp_path, plain([("Relu", ["x"], ["y"])]), "plain.onnx")
    qonnx_file = save(tmp_path, network([quant("x", "y")], parameters()), "quant.onnx")
    for path, frontend, rule in ((plain_file, "qonnx", "DLA101"), (qonnx_file, "onnx", "DLA121")):
        with pytest.raises(UserError) as caught:
            dlaconv.convert(path, frontend=frontend)
        assert [error.rule for error in caught.value.diagnostics.errors] == [rule]
