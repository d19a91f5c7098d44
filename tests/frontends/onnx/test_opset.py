import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlaconv.diagnostics import Diagnostics
from dlaconv.frontends.onnx.opset import to_opset_18
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.ir import provenance
from dlaconv.ir.passes.infer_shapes import propagate_shapes
from tests.frontends.builders import network, onnxruntime_outputs, random, save

NAN = np.float32("nan")


def converted(tmp_path, model, *, shapes=True):
    read = read_onnx(save(tmp_path, model))
    provenance.mark_all(read, "net.onnx")
    diagnostics = Diagnostics()
    if shapes:
        propagate_shapes(read, strict=False)
    to_opset_18(read, diagnostics)
    return read, diagnostics


def constants(**arrays):
    return {name: np.asarray(array) for name, array in arrays.items()}


SHAPE = np.array([2, 3], np.int64)
ONE, ZERO = np.float32(1), np.float32(0)
BN = {name: np.full(3, value, np.float32) for name, value in
      (("g", 2.0), ("b", -1.0), ("m", 0.5), ("v", 1.5))}  # fmt: skip

# name: (opsets, op type, further inputs, attributes, outputs)
CASES = {
    "squeeze": ([7, 11, 12], "Squeeze", {}, {"axes": [0]}, 1),
    "squeeze all": ([7, 12, 13, 21], "Squeeze", {}, {}, 1),
    "unsqueeze": ([7, 12], "Unsqueeze", {}, {"axes": [0, 5]}, 1),
    "reduce mean": ([7, 12, 13, 17], "ReduceMean", {}, {"axes": [2, 3], "keepdims": 1}, 1),
    "reduce mean of all": ([7, 17, 18], "ReduceMean", {}, {"keepdims": 0}, 1),
    "reduce max": ([7, 12, 17], "ReduceMax", {}, {"axes": [1]}, 1),
    "reduce sum": ([7, 12], "ReduceSum", {}, {"axes": [-1]}, 1),
    "reduce l2": ([7, 17], "ReduceL2", {}, {"axes": [1]}, 1),
    "reduce sum square": ([7, 17], "ReduceSumSquare", {}, {"axes": [1]}, 1),
    "clip": ([7, 10], "Clip", {}, {"min": -0.5, "max": 1.5}, 1),
    "clip below": ([7, 10], "Clip", {}, {"min": 0.25}, 1),
    "clip to nothing": ([7], "Clip", {}, {}, 1),
    "clip by inputs": ([11, 12, 13, 21], "Clip", {"lo": ZERO, "hi": ONE}, {}, 1),
    "slice": ([7, 9], "Slice", {}, {"starts": [1, 0], "ends": [-1, 2], "axes": [2, 1]}, 1),
    "slice of the first axes": ([7], "Slice", {}, {"starts": [0, 1], "ends": [1, 3]}, 1),
    "pad": ([7, 10], "Pad", {}, {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 2.0}, 1),
    "pad with zeros": ([7], "Pad", {}, {"pads": [0, 0, 1, 1, 0, 0, 1, 1]}, 1),
    "pad reflecting": (
        [7, 10], "Pad", {}, {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "reflect"}, 1
    ),
    "pad by inputs": ([11, 13, 19, 21], "Pad", {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, {}, 1),
    "dropout": ([7, 10], "Dropout", {}, {"ratio": 0.3}, 1),
    "dropout by input": ([12, 13], "Dropout", {"r": np.float32(0.3)}, {}, 1),
    "upsample": ([7], "Upsample", {}, {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 3.0]}, 1),
    "upsample by input": ([9], "Upsample", {"s": np.float32([1, 1, 2, 3])}, {}, 1),
    "upsample linearly": ([9], "Upsample", {"s": np.float32([1, 1, 2, 2])}, {"mode": "linear"}, 1),
    "resize 10": ([10], "Resize", {"s": np.float32([1, 1, 2, 3])}, {}, 1),
    "resize 10 linearly": ([10], "Resize", {"s": np.float32([1, 1, 2, 2])}, {"mode": "linear"}, 1),
    "resize 11": (
        [11, 12], "Resize", {"roi": np.float32([]), "s": np.float32([1, 1, 2, 0.5])},
        {"coordinate_transformation_mode": "half_pixel"}, 1,
    ),
    "resize 11 to sizes": (
        [11], "Resize",
        {"roi": np.float32([]), "s": np.float32([]), "z": np.array([1, 3, 7, 3])},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, 1,
    ),
    "resize 13 and on": (
        [13, 17, 18, 19, 21], "Resize", {"": None, "s": np.float32([1, 1, 2, 2])},
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, 1,
    ),
    "batch norm": ([7, 9, 14, 15, 21], "BatchNormalization", BN, {"epsilon": 1e-3}, 1),
    "softmax of the last axis": ([7, 11, 12, 13], "Softmax", {}, {"axis": 3}, 1),
    "softmax flattening": ([7, 11, 12], "Softmax", {}, {"axis": 1}, 1),
    "softmax by default": ([7, 11, 12, 13], "Softmax", {}, {}, 1),
    "log softmax flattening": ([11], "LogSoftmax", {}, {"axis": 2}, 1),
    "split": ([7, 11, 12], "Split", {}, {"axis": 1, "split": [1, 2]}, 2),
    "split evenly": ([7, 12, 13, 17], "Split", {}, {"axis": 3}, 2),
    "split by input": ([13, 17], "Split", {"p": np.array([2, 1])}, {"axis": 1}, 2),
    "top k": ([7, 9], "TopK", {}, {"k": 2, "axis": 1}, 2),
    "top k by input": ([10, 11], "TopK", {"k": np.array([2])}, {"axis": 1}, 2),
    "average pool": ([7, 10, 11, 19], "AveragePool", {}, {"kernel_shape": [2, 2]}, 1),
    "average pool dilated by 1": (
        [19, 21], "AveragePool", {}, {"kernel_shape": [2, 2], "dilations": [1, 1]}, 1
    ),
    "max pool": ([7, 8, 10, 12], "MaxPool", {}, {"kernel_shape": [3, 3], "pads": [1] * 4}, 1),
    "cast": ([7, 9, 13, 19, 21], "Cast", {}, {"to": TensorProto.INT32}, 1),
    "flatten": ([7, 9, 13, 21], "Flatten", {}, {"axis": 2}, 1),
    "reshape": ([7, 13, 14, 19, 21], "Reshape", {"shape": np.array([0, -1])}, {}, 1),
    "transpose": ([7, 13, 21], "Transpose", {}, {"perm": [0, 2, 3, 1]}, 1),
    "prelu": ([7, 9, 16], "PRelu", {"slope": np.float32([[[0.5]], [[0.1]], [[2]]])}, {}, 1),
    "gather": ([7, 11, 13], "Gather", {"i": np.array([2, 0])}, {"axis": 1}, 1),
    "scatter": (
        [9, 10], "Scatter",
        {"i": np.zeros((1, 1, 1, 1), np.int64), "u": np.full((1, 1, 1, 1), 9, np.float32)}, {}, 1,
    ),
    "arg max": ([7, 11, 12, 13], "ArgMax", {}, {"axis": 1}, 1),
    "depth to space": ([7, 11, 13], "DepthToSpace", {}, {"blocksize": 1}, 1),
    "leaky relu": ([7, 16], "LeakyRelu", {}, {"alpha": 0.1}, 1),
    "quantise": ([10, 13, 19], "QuantizeLinear", {"s": np.float32(0.1), "z": np.int8(3)}, {}, 1),
    "quantise to a type": ([21], "QuantizeLinear", {"s": np.float32(0.1)}, {"output_dtype": 3}, 1),
    "quantise in blocks of none": (
        [21], "QuantizeLinear", {"s": np.float32(0.1), "z": np.uint8(3)},
        {"block_size": 0, "saturate": 1}, 1,
    ),
    "hard swish": ([14, 21], "HardSwish", {}, {}, 1),
}  # fmt: skip


def case_model(op_type, extra, attributes, outputs, opset):
    names = ["y"] if outputs == 1 else [f"y{i}" for i in range(outputs)]
    node = (op_type, ["x", *extra], names, attributes)
    given = {name: array for name, array in extra.items() if array is not None}
    model = network([node], given, {"x": [1, 3, 4, 6]}, names, opset=opset, domains=())
    for value in model.graph.output:  # let onnxruntime infer the types
        value.ClearField("type")
    return model


@pytest.mark.parametrize(
    ("case", "opset"), [(case, opset) for case, row in CASES.items() for opset in row[0]]
)
@pytest.mark.parametrize("shapes", [True, False])
def test_a_converted_node_computes_the_same(tmp_path, case, opset, shapes):
    _, op_type, extra, attributes, outputs = CASES[case]
    model = case_model(op_type, extra, attributes, outputs, opset)
    got, diagnostics = converted(tmp_path, model, shapes=shapes)
    assert not list(diagnostics)
    assert got.graph.opset_imports[""] == 18
    x = random(1, 3, 4, 6)
    expected = onnxruntime_outputs(model, x=x)
    results = onnxruntime_outputs(ir.to_proto(got), x=x)
    for one, other in zip(expected, results, strict=True):
        assert one.dtype == other.dtype
        assert np.allclose(one, other, rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "INT8", "INT16", "UINT16"])
def test_a_quantiser_of_opset_21_gets_back_its_zero_point(tmp_path, kind):
    attributes = {"output_dtype": getattr(TensorProto, kind)}
    model = case_model("QuantizeLinear", {"s": np.float32(0.1)}, attributes, 1, 21)
    got, diagnostics = converted(tmp_path, model)
    assert not list(diagnostics)
    (node,) = got.graph
    assert node.inputs[2].dtype.name == kind


INEXPRESSIBLE = {
    "batch norm per pixel": (7, "BatchNormalization", BN, {"spatial": 0}, 1),
    "batch norm in training": (9, "BatchNormalization", BN, {}, 5),
    "average pool dilated": (
        19, "AveragePool", {}, {"kernel_shape": [2, 2], "dilations": [2, 2]}, 1
    ),
    "pad wrapping": (
        19, "Pad", {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, {"mode": "wrap"}, 1
    ),
    "gelu": (20, "Gelu", {}, {}, 1),
    "group norm": (
        21, "GroupNormalization", {"g": BN["g"], "b": BN["b"]}, {"num_groups": 3}, 1
    ),
    "resize symmetric": (
        19, "Resize", {"": None, "s": np.float32([1, 1, 2, 2])},
        {"coordinate_transformation_mode": "half_pixel_symmetric"}, 1,
    ),
    "resize shrinking": (10, "Resize", {"s": np.float32([1, 1, 0.5, 0.5])}, {}, 1),
    "upsample shrinking": (9, "Upsample", {"s": np.float32([1, 1, 1, 0.5])}, {}, 1),
    "resize for tensorflow": (
        11, "Resize", {"roi": np.float32([]), "s": np.float32([1, 1, 2, 2])},
        {"coordinate_transformation_mode": "tf_half_pixel_for_nn"}, 1,
    ),
    "dropout's mask": (7, "Dropout", {}, {}, 2),
    "quantise to floats": (
        21, "QuantizeLinear", {"s": np.float32(0.1)}, {"output_dtype": TensorProto.FLOAT8E5M2}, 1
    ),
    "quantise in blocks": (
        21, "QuantizeLinear", {"s": np.ones((1, 3, 4, 3), np.float32)},
        {"block_size": 2, "axis": 3}, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INEXPRESSIBLE)
def test_what_opset_18_cannot_say_is_reported_at_its_node(tmp_path, case):
    opset, op_type, extra, attributes, outputs = INEXPRESSIBLE[case]
    _, diagnostics = converted(tmp_path, case_model(op_type, extra, attributes, outputs, opset))
    assert [error.rule for error in diagnostics.errors] == ["DLA112"]
    (error,) = diagnostics.errors
    assert error.location.op == op_type
    assert error.location.layer


def test_every_node_that_cannot_be_converted_is_named(tmp_path):
    nodes = [("Gelu", ["x"], ["a"]), ("Relu", ["a"], ["c"]), ("Gelu", ["c"], ["y"])]
    _, diagnostics = converted(tmp_path, network(nodes, opset=20, domains=()))
    assert [error.location.layer for error in diagnostics.errors] == ["gelu_a", "gelu_y"]


@pytest.mark.parametrize("opset", [6, 22])
def test_opsets_out_of_range_are_refused(tmp_path, opset):
    _, diagnostics = converted(tmp_path, network([("Relu", ["x"], ["y"])], opset=opset, domains=()))
    assert [error.rule for error in diagnostics.errors] == ["DLA110"]


@pytest.mark.parametrize("opset", [9, 20])
def test_the_other_name_of_the_domain_is_understood(tmp_path, opset):
    model = network([("Clip", ["x"], ["y"], {} if opset > 9 else {"min": 0.0})], opset=opset)
    model.opset_import[-1].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"
    got, diagnostics = converted(tmp_path, model)
    assert not list(diagnostics)
    assert [node.domain for node in got.graph] == [""]
    assert set(got.graph.opset_imports) >= {""}
    assert "ai.onnx" not in got.graph.opset_imports


def test_nodes_of_other_domains_stay_as_they_are(tmp_path):
    node = helper.make_node("Squeeze", ["x"], ["y"], domain="com.example", axes=[0])
    got, diagnostics = converted(tmp_path, network([node], opset=9, domains=[("com.example", 3)]))
    assert not list(diagnostics)
    (kept,) = got.graph
    assert kept.attributes["axes"].as_ints() == (0,)


def test_scales_of_a_constant_node_are_seen(tmp_path):
    value = numpy_helper.from_array(np.float32([1, 1, 2, 2]))
    nodes = [
        helper.make_node("Constant", [], ["s"], value=value),
        ("Upsample", ["x", "s"], ["y"]),
    ]
    _, diagnostics = converted(tmp_path, network(nodes, opset=9, domains=()))
    assert not list(diagnostics)


def test_attributes_that_become_inputs_do_not_clash(tmp_path):
    """Two nodes of one name, and a value that is called like a new constant."""
    nodes = [("Clip", ["x"], [f"c{i}"], {"min": float(i)}) for i in range(3)]
    nodes += [("Add", ["c0", "c1"], ["same/min"]), ("Add", ["same/min", "c2"], ["y"])]
    model = network(nodes, opset=9, domains=())
    x = random(1, 3, 4, 4)
    (expected,) = onnxruntime_outputs(model, x=x)
    for node in model.graph.node[:3]:
        node.name = "same"
    got, _ = converted(tmp_path, model)
    assert np.array_equal(onnxruntime_outputs(ir.to_proto(got), x=x)[0], expected)


def test_weights_are_not_copied(tmp_path):
    weights = np.zeros((64, 3, 3, 3), np.float32)
    model = network([("Conv", ["x", "w"], ["y"])], {"w": weights}, opset=9, domains=())
    read = read_onnx(save(tmp_path, model))
    before = read.graph.initializers["w"].const_value
    to_opset_18(read, Diagnostics())
    assert read.graph.initializers["w"].const_value is before
