import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.frontends.builders import QONNX, load, network, parameters, quant, rules


def refused(tmp_path, nodes, constants=None, **more):
    return load(tmp_path, network(nodes, constants, **more)).diagnostics


NUMBERS = {
    "zero scale": ({"scale": 0.0}, "DLA105", "0"),
    "negative scale": ({"scale": -0.5}, "DLA105", "-0.5"),
    "nan scale": ({"scale": np.nan}, "DLA105", "nan"),
    "infinite scale": ({"scale": np.inf}, "DLA105", "inf"),
    "scale beyond the steps around it": ({"scale": 3e38}, "DLA105", "3e+38"),
    "one bad channel": ({"scale": [[[[1.0]], [[0.0]], [[2.0]]]]}, "DLA105", "1 of 3"),
    "fractional zero point": ({"zero": 0.5}, "DLA106", "0.5"),
    "nan zero point": ({"zero": np.nan}, "DLA106", "nan"),
    "no bits": ({"bits": 0}, "DLA107", "0"),
    "too many bits": ({"bits": 64}, "DLA107", "64"),
    "half a bit": ({"bits": 7.5}, "DLA107", "7.5"),
    "nan bits": ({"bits": np.nan}, "DLA107", "nan"),
    "bits per channel": ({"bits": [4, 8, 8]}, "DLA107", "4 to 8"),
    "scale of another shape": ({"scale": [1.0, 2.0]}, "DLA118", "[2]"),
    "scale that enlarges": ({"scale": np.ones((2, 1, 1, 1))}, "DLA118", "[2, 1, 1, 1]"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_make_no_quantisation_are_refused(tmp_path, case):
    numbers, rule, said = NUMBERS[case]
    found = refused(tmp_path, [quant("x", "y")], parameters(**numbers))
    assert rules(found) == [rule]
    (error,) = found.errors
    assert error.location.layer == "quant_y"
    assert error.location.op == "Quant"
    assert error.location.file.endswith("net.onnx")
    assert said in error.message
    assert error.help


ATTRIBUTES = {
    "unknown rounding": ({"rounding_mode": "SIDEWAYS"}, "DLA109"),
    "stochastic rounding": ({"rounding_mode": "stochastic_round"}, "DLA109"),
    "learned rounding": ({"rounding_mode": "LEARNED_ROUND"}, "DLA109"),
    "rounding of another type": ({"rounding_mode": 3}, "DLA108"),
    "signed of another type": ({"signed": "yes"}, "DLA108"),
    "signed out of range": ({"signed": 2}, "DLA108"),
    "narrow of another type": ({"narrow": 0.5}, "DLA108"),
}


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_attributes_that_say_nothing_known_are_refused(tmp_path, case):
    attributes, rule = ATTRIBUTES[case]
    assert rules(refused(tmp_path, [quant("x", "y", **attributes)], parameters())) == [rule]


@pytest.mark.parametrize("name", ["s", "z", "b"])
def test_a_parameter_from_the_data_is_refused(tmp_path, name):
    constants = parameters()
    del constants[name]
    nodes = [("ReduceMax", ["x"], [name], {"keepdims": 0}), quant("x", "y")]
    found = refused(tmp_path, nodes, constants)
    assert rules(found) == ["DLA104"]
    assert repr(name) in found.errors[0].message


@pytest.mark.parametrize("count", [1, 2, 3])
def test_missing_inputs_are_refused(tmp_path, count):
    node = quant("x", "y")
    del node.input[count:]
    assert set(rules(refused(tmp_path, [node], parameters()))) == {"DLA103"}


def test_a_sign_with_a_zero_point_is_refused(tmp_path):
    assert rules(refused(tmp_path, [quant("x", "y")], parameters(zero=1, bits=1))) == ["DLA106"]


def test_an_unsigned_narrow_bit_is_refused(tmp_path):
    node = quant("x", "y", signed=0, narrow=1)
    assert rules(refused(tmp_path, [node], parameters(bits=1))) == ["DLA107"]


def test_integer_tensors_are_not_quantised(tmp_path):
    nodes = [("Cast", ["x"], ["i"], {"to": TensorProto.INT32}), quant("i", "y")]
    model = network(nodes, parameters())
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    assert "DLA117" in rules(load(tmp_path, model).diagnostics)


@pytest.mark.parametrize(
    ("op", "domain"),
    [
        ("FloatQuant", QONNX),
        ("FloatQuant", "onnx.brevitas"),
        ("MultiThreshold", "finn.custom_op.general"),
        ("QuantAvgPool2d", QONNX),
        ("XnorPopcountMatMul", QONNX),
        ("Im2Col", QONNX),
        ("MaxPoolNHWC", QONNX),
        ("MatrixVectorActivation", "finn.custom_op.fpgadataflow"),
        ("Frobnicate", "com.example"),
        ("Frobnicate", ""),
        ("Resize", "qonnx.custom_op.channels_last"),
    ],
)
def test_an_operator_without_counterpart_is_named(tmp_path, op, domain):
    node = helper.make_node(op, ["x"], ["y"], name="the_layer", domain=domain)
    found = refused(tmp_path, [node], domains=[(domain, 1)] if domain else ())
    assert rules(found) == ["DLA102"]
    assert op in found.errors[0].message
    assert found.errors[0].location.layer == "the_layer"
    assert found.errors[0].help


def test_everything_is_reported_in_one_run(tmp_path):
    nodes = [
        quant("x", "a", "bad_scale"),
        quant("a", "c", "s", "bad_zero"),
        quant("c", "d", rounding_mode="SIDEWAYS", signed=3),
        helper.make_node("FloatQuant", ["d"], ["e"], domain=QONNX, name="float"),
        ("If", ["flag"], ["y"], {"then_branch": branch("e"), "else_branch": branch("x")}),
    ]
    constants = parameters() | {
        "bad_scale": np.float32(-1),
        "bad_zero": np.float32(0.25),
        "flag": np.array(True),
    }
    found = refused(tmp_path, nodes, constants)
    assert sorted(rules(found)) == ["DLA102", "DLA105", "DLA106", "DLA108", "DLA109", "DLA111"]
    layers = {error.location.layer for error in found.errors}
    assert layers == {"quant_a", "quant_c", "quant_d", "float", "if_y"}


def branch(source):
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    node = helper.make_node("Relu", [source], ["inner"], name="inner")
    return helper.make_graph([node], "branch", [], [out])


def test_qdq_in_a_qonnx_file_is_refused(tmp_path):
    nodes = [
        quant("x", "a"),
        ("QuantizeLinear", ["a", "s"], ["c"]),
        ("DequantizeLinear", ["c", "s"], ["y"]),
    ]
    assert rules(refused(tmp_path, nodes, parameters())) == ["DLA115", "DLA115"]


@pytest.mark.parametrize("quantised", [True, False])
def test_a_file_without_qonnx_is_sent_to_from_onnx(tmp_path, quantised):
    nodes = [("Relu", ["x"], ["a"]), ("Relu", ["a"], ["y"])]
    if quantised:
        nodes = [("QuantizeLinear", ["x", "s"], ["a"]), ("DequantizeLinear", ["a", "s"], ["y"])]
    found = refused(tmp_path, nodes, parameters(), domains=())
    assert rules(found) == ["DLA101"]
    assert "from-onnx" in found.errors[0].help


def test_shapes_that_do_not_fit_are_reported_at_the_layer(tmp_path):
    nodes = [quant("x", "q"), ("Conv", ["q", "w"], ["y"])]
    constants = parameters() | {"w": np.ones((2, 5, 3, 3), np.float32)}
    found = refused(tmp_path, nodes, constants)
    assert rules(found) == ["DLA310"]
    assert found.errors[0].location.layer == "conv_y"


@pytest.mark.parametrize("opset", [1, 6, 22])
def test_other_opsets_are_refused(tmp_path, opset):
    found = refused(tmp_path, [quant("x", "y")], parameters(), opset=opset)
    assert rules(found) == ["DLA110"]
    assert str(opset) in found.errors[0].message


@pytest.mark.parametrize("op", ["QuantizeHalfEven", "Dequantize", "Bipolar", "Quantise"])
def test_operators_of_our_own_domain_are_none_of_a_source_s(tmp_path, op):
    node = helper.make_node(op, ["q", "s", "z"], ["y"], name="ours", domain="org.dlaconv")
    found = refused(tmp_path, [quant("x", "q"), node], parameters())
    assert rules(found) == ["DLA102"]
    assert "org.dlaconv" in found.errors[0].message


def test_a_flag_that_is_a_tensor_is_refused_by_its_type(tmp_path):
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [2], [0.0, 1.0])
    found = refused(tmp_path, [quant("x", "y", narrow=tensor, signed=[1, 2])], parameters())
    assert rules(found) == ["DLA108", "DLA108"]
    assert {word for item in found.errors for word in item.message.split()} >= {"TENSOR", "INTS"}
