"""QLinear operators, against onnxruntime's kernels: bit by bit where float sums are exact."""

import numpy as np
import pytest
from onnx import helper

from dlaconv.frontends.onnx.qoperator import CONTRIBUTED, OPERANDS
from dlaconv.ir import dialect
from dlaconv.ir.execution import run
from tests.frontends.builders import random, rules, tensor
from tests.frontends.onnx.plain import (
    MICROSOFT,
    assert_same,
    canonical,
    contrib,
    load,
    operators,
    plain,
)

RNG = np.random.default_rng(0)
FILTERS = RNG.integers(0, 256, (5, 4, 3, 3)).astype(np.uint8)
MATRIX = RNG.integers(-128, 128, (7, 6)).astype(np.int8)
BIAS = RNG.integers(-999, 999, 7).astype(np.int32)
X, Y, W = ["q", "s", "z"], ["ys", "yz"], ["w", "ws", "wz"]


def weights(array, scale=2.0**-5, zero=None):
    scale = np.asarray(scale, np.float32)
    zero = np.zeros(scale.shape, array.dtype) if zero is None else np.asarray(zero, array.dtype)
    return {"w": array, "ws": scale, "wz": zero}


def file(op, inputs, attributes=None, shape=(1, 4, 6, 6), constants=None, y=(0.5, 100), zero=120,
         domain=MICROSOFT, opset=18, kind=np.uint8):  # fmt: skip
    """A quantised input, an operator and the reals of its result."""
    parameters = {"s": np.float32(0.25), "z": kind(zero), "ys": np.float32(y[0]), "yz": kind(y[1])}
    node = helper.make_node(op, inputs, ["r"], name="the_layer", domain=domain, **attributes or {})
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node,
        ("DequantizeLinear", ["r", "ys", "yz"], ["y"]),
    ]
    domains = [(MICROSOFT, 1)]
    return plain(
        nodes, parameters | (constants or {}), {"x": list(shape)}, domains=domains, opset=opset
    )


FLAT = {"shape": (1, 6)}
CONSTANT = {"k": RNG.integers(0, 256, (4, 1, 1)).astype(np.uint8), "ks": np.float32(0.125),
            "kz": np.uint8(7)}  # fmt: skip
CASES = {
    "conv": ("QLinearConv", [*X, *W, *Y], {"pads": [1] * 4}, {"constants": weights(FILTERS),
             "domain": "", "y": (8, 100)}),
    "conv with zero point": (
        "QLinearConv", [*X, *W, *Y], {"strides": [2, 2]},
        {"constants": weights(FILTERS, zero=100), "domain": "", "y": (8, 100)},
    ),
    "conv with bias": (
        "QLinearConv", [*X, *W, *Y, "b"], {},
        {"constants": weights(FILTERS) | {"b": BIAS[:5]}, "domain": "", "y": (8, 100)},
    ),
    "conv per channel": (
        "QLinearConv", [*X, *W, *Y, "b"], {"pads": [1] * 4},
        {"constants": weights((FILTERS.astype(int) - 128).astype(np.int8), 2.0 ** -np.arange(3, 8))
         | {"b": BIAS[:5]}, "domain": "", "y": (8, 100)},
    ),
    "conv in groups": (
        "QLinearConv", [*X, *W, *Y], {"group": 2},
        {"constants": weights(FILTERS[:4, :2]), "domain": "", "y": (8, 100)},
    ),
    "conv of signed integers": (
        "QLinearConv", [*X, *W, *Y], {},
        {"constants": weights((FILTERS.astype(int) - 128).astype(np.int8)), "domain": "",
         "y": (8, 3), "kind": np.int8, "zero": -7},
    ),
    "matmul": (
        "QLinearMatMul", [*X, *W, *Y], {},
        {"constants": weights(MATRIX.T + np.int8(0)), "domain": "", "y": (4, 100)},
    ),
    "matmul per column": (
        "QLinearMatMul", [*X, *W, *Y], {},
        {"constants": weights(np.ascontiguousarray(MATRIX.T), 2.0 ** -np.arange(1, 8)),
         "domain": "", "y": (4, 100), **FLAT},
    ),
    "gemm": (
        "QGemm", [*X, *W, "b", *Y], {"transB": 1},
        {"constants": weights(MATRIX) | {"b": BIAS}, "y": (2, 100), **FLAT},
    ),
    "gemm per column": (
        "QGemm", [*X, *W, "b", *Y], {"transB": 1},
        {"constants": weights(MATRIX, 2.0 ** -np.arange(1, 8)) | {"b": BIAS}, "y": (2, 100),
         **FLAT},
    ),
    "gemm without bias": (
        "QGemm", [*X, *W, "", *Y], {}, {"constants": weights(MATRIX.T + np.int8(0)), "y": (2, 100),
                                        **FLAT},
    ),
    "gemm times alpha": (
        "QGemm", [*X, *W, "b", *Y], {"transB": 1, "alpha": 0.5},
        {"constants": weights(MATRIX) | {"b": BIAS}, "y": (2, 100), **FLAT},
    ),
    "add": ("QLinearAdd", [*X, *X, *Y], {}, {}),
    "add a constant": ("QLinearAdd", [*X, "k", "ks", "kz", *Y], {}, {"constants": CONSTANT}),
    "mul": ("QLinearMul", [*X, *X, *Y], {}, {"y": (4, 100)}),
    "mul by a constant": (
        "QLinearMul", [*X, "k", "ks", "kz", *Y], {}, {"constants": CONSTANT, "y": (1, 100)}
    ),
    "average": ("QLinearAveragePool", [*X, *Y], {"kernel_shape": [2, 2], "strides": [2, 2]}, {}),
    "average with padding": (
        "QLinearAveragePool", [*X, *Y],
        {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}, {},
    ),
    "global average": (
        "QLinearGlobalAveragePool", [*X, *Y], {}, {"shape": (1, 4, 4, 4)}
    ),
    "global average, channels last": (
        "QLinearGlobalAveragePool", [*X, *Y], {"channels_last": 1}, {"shape": (1, 4, 4, 8)}
    ),
    "concatenation": ("QLinearConcat", [*Y, *X, *X], {"axis": 1}, {}),
    "leaky relu": ("QLinearLeakyRelu", [*X, *Y], {"alpha": 0.125}, {}),
    "sigmoid": ("QLinearSigmoid", [*X, *Y], {}, {"y": (2.0**-8, 0)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("odd", [0, 1])
def test_an_operator_computes_what_onnxruntime_computes(tmp_path, case, odd):
    """Ties included, which some kernels decide with the zero point added and some without."""
    op, inputs, attributes, more = CASES[case]
    more = {"y": (0.5, 100), **more}
    if more["y"][1]:
        more["y"] = (more["y"][0], more["y"][1] + odd)
    model = file(op, inputs, attributes, **more)
    spread = 1.0 if "constants" in more and op != "QLinearAdd" else 15.0
    for seed in range(3):
        x = random(*more.get("shape", (1, 4, 6, 6)), seed=seed, spread=spread)
        assert_same(tmp_path, model, stages=("imported",), x=x)


@pytest.mark.parametrize("case", ["conv", "gemm", "add", "average", "concatenation", "sigmoid"])
def test_an_operator_comes_through_the_passes(tmp_path, case):
    op, inputs, attributes, more = CASES[case]
    x = random(*more.get("shape", (1, 4, 6, 6)), spread=1.0)
    assert_same(tmp_path, file(op, inputs, attributes, **more), x=x)


def test_weights_of_an_operator_keep_their_integers(tmp_path):
    op, inputs, attributes, more = CASES["conv with zero point"]
    after = canonical(load(tmp_path, file(op, inputs, attributes, **more)))
    node = next(node for node in after.graph if node.op_type == "Conv")
    holder = node.inputs[1].producer()
    assert np.array_equal(dialect.array_of(holder.inputs[0]), FILTERS.astype(int) - 100)
    assert float(dialect.step_of(holder)) == 2.0**-5
    assert node.metadata_props["dlaconv.layer"] == "the_layer"
    assert node.metadata_props["dlaconv.op"] == "QLinearConv"


@pytest.mark.parametrize("opset", [13, -1])
def test_a_softmax_is_quantised_once(tmp_path, opset):
    """onnxruntime computes it by a table of its own, off by a unit at times."""
    attributes = {"axis": -1, "opset": 13} if opset == 13 else {"axis": 3, "opset": 11}
    model = file("QLinearSoftmax", [*X, *Y], attributes, y=(2.0**-8, 0))
    x = random(1, 4, 6, 6, spread=2.0)
    (got,) = run(load(tmp_path, model).model, {"x": x}).values()
    reals = np.clip(np.rint(x / np.float32(0.25)), -120, 135) * np.float32(0.25)
    powers = np.exp(reals - reals.max(-1, keepdims=True))
    wanted = powers / powers.sum(-1, keepdims=True)
    assert np.abs(got - wanted).max() <= 2.0**-9 + 1e-6
    assert np.array_equal(got * 256, np.rint(got * 256))


def test_a_softmax_that_flattens_is_refused(tmp_path):
    model = file("QLinearSoftmax", [*X, *Y], {"axis": 1, "opset": 11}, y=(2.0**-8, 0))
    assert rules(load(tmp_path, model)) == ["DLA112"]


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_space_is_rounded_once(tmp_path, keepdims):
    model = file("QLinearReduceMean", [*X, *Y], {"axes": [2, 3], "keepdims": keepdims})
    x = random(1, 4, 4, 4, spread=15.0)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 4
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4
    (got,) = run(load(tmp_path, model).model, {"x": x}).values()
    reals = np.clip(np.rint(x / np.float32(0.25)), -120, 135) * np.float32(0.25)
    mean = reals.mean((2, 3), keepdims=bool(keepdims))
    assert np.array_equal(got, np.clip(np.rint(mean * 2), -100, 155) / 2)


def test_a_convolution_of_channels_last_maps_is_turned(tmp_path):
    """onnxruntime has no such kernel for this test to compare with on every machine."""
    op, inputs, attributes, more = CASES["conv"]
    first = file(op, inputs, attributes, **more)
    more = {**more, "domain": MICROSOFT, "shape": (1, 6, 6, 4)}
    last = file(op, inputs, {**attributes, "channels_last": 1}, **more)
    x = random(1, 4, 6, 6)
    (one,) = run(load(tmp_path, first).model, {"x": x}).values()
    (other,) = run(load(tmp_path, last).model, {"x": np.moveaxis(x, 1, 3)}).values()
    assert np.array_equal(np.moveaxis(one, 1, 3), other)


def test_a_gemm_without_result_parameters_gives_reals(tmp_path):
    constants = weights(MATRIX) | {"b": BIAS}
    node = contrib("QGemm", [*X, *W, "b"], ["y"], transB=1)
    nodes = [("QuantizeLinear", ["x", "s", "z"], ["q"]), node]
    model = plain(
        nodes, {"s": np.float32(0.25), "z": np.uint8(120)} | constants, {"x": [1, 6]},
        domains=[(MICROSOFT, 1)],
    )  # fmt: skip
    before = assert_same(tmp_path, model, tolerance=1e-6, x=random(1, 6))
    assert operators(before).count("QuantizeHalfEven") == 1


def test_a_chain_of_operators_and_moves(tmp_path):
    """As quantize_static writes it: integers from the first quantiser to the last."""
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", [*X, *W, *Y], ["c"], name="conv", pads=[1, 1, 1, 1]),
        ("MaxPool", ["c"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Pad", ["p", "pads", "yz"], ["d"]),
        contrib("QLinearAdd", ["d", *Y, "d", *Y, *Y], ["e"]),
        ("Flatten", ["e"], ["f"]),
        ("DequantizeLinear", ["f", *Y], ["y"]),
    ]
    constants = {"s": np.float32(0.25), "z": np.uint8(120), "ys": np.float32(8),
                 "yz": np.uint8(101), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}  # fmt: skip
    constants |= weights(FILTERS, zero=100)
    model = plain(nodes, constants, {"x": [1, 4, 6, 6]}, domains=[(MICROSOFT, 1)])
    before = assert_same(tmp_path, model, x=random(1, 4, 6, 6))
    assert not any(node.op_type.startswith("QLinear") for node in before.graph)
    assert "Pad" in operators(before)


def test_the_kind_of_a_result_without_zero_point_is_its_operand_s(tmp_path):
    node = contrib("QLinearSigmoid", ["q", "s", "z", "ys"], ["r"])
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node,
        ("DequantizeLinear", ["r", "ys"], ["y"]),
    ]
    constants = {"s": np.float32(0.25), "z": np.int8(3), "ys": np.float32(2.0**-6)}
    model = plain(nodes, constants, domains=[(MICROSOFT, 1)])
    imported = load(tmp_path, model)
    ends = [dialect.quantisation_of(n).qmax for n in imported.model.graph if dialect.is_quantize(n)]
    assert ends == [124, 127]


REFUSED = {
    "a scale of 0": ({"ys": np.float32(0)}, "DLA105"),
    "a result with scales per channel": ({"ys": np.ones(4, np.float32)}, "DLA118"),
    "an operand with scales per channel": ({"s": np.ones(4, np.float32)}, "DLA118"),
    "weights with scales of another number": ({"ws": np.ones(4, np.float32)}, "DLA118"),
    "a bias of floats": ({"b": np.ones(5, np.float32)}, "DLA117"),
    "a bias that is no vector": ({"b": np.ones((1, 5), np.int32)}, "DLA117"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parameters_that_make_no_layer_are_refused(tmp_path, case):
    changed, rule = REFUSED[case]
    op, inputs, attributes, more = CASES["conv with bias"]
    model = file(op, inputs, attributes, **more)
    for name, array in changed.items():
        index = next(i for i, t in enumerate(model.graph.initializer) if t.name == name)
        model.graph.initializer[index].CopyFrom(tensor(name, array))
    found = load(tmp_path, model).diagnostics
    assert rule in rules(found)
    assert all(error.help for error in found.errors)


@pytest.mark.parametrize(
    "op", [op for op in CONTRIBUTED if op not in {"QLinearConv", "QLinearMatMul"}]
)
def test_an_operator_without_its_operands_is_refused(tmp_path, op):
    for count in (0, 1, 2):
        nodes = [
            ("QuantizeLinear", ["x", "s", "z"], ["q"]),
            contrib(op, ["q", "s", "z"][:count], ["r"]),
            ("DequantizeLinear", ["r", "s", "z"], ["y"]),
        ]
        constants = {"s": np.float32(0.25), "z": np.uint8(3)}
        model = plain(nodes, constants, domains=[(MICROSOFT, 1)])
        assert "DLA103" in rules(load(tmp_path, model))


def test_a_bias_from_the_data_is_refused(tmp_path):
    op, inputs, attributes, more = CASES["conv with bias"]
    model = file(op, inputs, attributes, **more)
    index = next(i for i, t in enumerate(model.graph.initializer) if t.name == "b")
    del model.graph.initializer[index]
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["x", "axes"], ["m"], keepdims=0),
            helper.make_node("Cast", ["m"], ["b"], to=6),
            *nodes,
        ]
    )
    model.graph.initializer.append(tensor("axes", np.array([0, 1, 2])))
    assert rules(load(tmp_path, model)) == ["DLA104"]


def test_attributes_that_an_operator_does_not_have_are_left_behind(tmp_path):
    op, inputs, attributes, more = CASES["global average"]
    model = file(op, inputs, {**attributes, "colour": 3, "transB": 1}, **more)
    imported = load(tmp_path, model)
    assert not imported.diagnostics.errors
    node = next(n for n in imported.model.graph if n.op_type == "GlobalAveragePool")
    assert not node.attributes


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", [1.0]), ("alpha", "much"), ("channels_last", 0.5), ("axis", [1])]
)
def test_attributes_of_another_type_are_refused(tmp_path, name, value):
    model = file("QLinearLeakyRelu", [*X, *Y], {name: value})
    found = load(tmp_path, model).diagnostics
    assert rules(found) == ["DLA108"]
    assert repr(name) in found.errors[0].message


def test_every_operator_has_operands_that_say_what_they_are_worth():
    assert set(OPERANDS) == set(CONTRIBUTED)
