"""Maps that are quantised at run time: real values here, and weights keep their integers."""

import numpy as np
import pytest
from onnx import TensorProto

from dlaconv.ir import dialect
from dlaconv.ir.execution import run
from tests.frontends.builders import onnxruntime_outputs, random, rules
from tests.frontends.onnx.plain import MICROSOFT, canonical, contrib, load, plain

RNG = np.random.default_rng(0)
CONV = RNG.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8)
MATRIX = RNG.integers(-127, 128, (16, 8)).astype(np.int8)
BIAS = random(16, seed=1)
COLUMNS = random(8, seed=1)


def behind(scale="ws"):
    """The real result of integers ``i``, and a bias."""
    return [
        ("Mul", ["s", scale], ["both"]),
        ("Cast", ["i"], ["f"], {"to": TensorProto.FLOAT}),
        ("Mul", ["f", "both"], ["r"]),
        ("Add", ["r", "b"], ["y"]),
    ]


def conv(zero=0, scale=0.01):
    """What quantize_dynamic makes of a convolution, the weights' zero point included."""
    nodes = [
        ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        ("ConvInteger", ["q", "w", "z", "wz"], ["i"], {"pads": [1] * 4}),
        *behind(),
    ]
    weights = (CONV.astype(int) + 128).astype(np.uint8) if zero else CONV
    constants = {"w": weights, "wz": weights.dtype.type(zero), "ws": np.float32(scale),
                 "b": BIAS.reshape(1, 16, 1, 1)}  # fmt: skip
    return plain(nodes, constants, {"x": [1, 3, 6, 6]}), CONV


def matmul(zero=None):
    nodes = [
        ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        ("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        *behind(),
    ]
    zero = np.zeros(8, np.int8) if zero is None else zero
    constants = {"w": MATRIX, "wz": zero, "ws": random(8) ** 2 + np.float32(0.01), "b": COLUMNS}
    return plain(nodes, constants, {"x": [1, 16]}), (MATRIX.astype(int) - zero).T


def contributed(op, before, inputs):
    model = plain(
        [*before, contrib(op, inputs, ["y"])],
        {"w": MATRIX, "ws": np.float32(0.02), "wz": np.int8(0), "b": COLUMNS},
        {"x": [1, 16]},
        domains=[(MICROSOFT, 1)],
    )
    return model, MATRIX.T


DYNAMIC = ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
CASES = {
    "convolution": conv,
    "convolution of uint8 weights": lambda: conv(128),
    "product": matmul,
    "product with zero points of columns": lambda: matmul(np.arange(8).astype(np.int8)),
    "fused product": lambda: contributed("DynamicQuantizeMatMul", [], ["x", "w", "ws", "wz", "b"]),
    "product to float": lambda: contributed(
        "MatMulIntegerToFloat", [DYNAMIC], ["q", "w", "s", "ws", "z", "wz", "b"]
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_network_is_the_source_s_without_what_run_time_rounds(tmp_path, case):
    model, weights = CASES[case]()
    x = random(*[dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim])
    imported = load(tmp_path, model)
    assert [item.rule for item in imported.diagnostics] == ["DLA122"]
    assert not imported.diagnostics.errors
    (got,) = run(imported.model, {"x": x}).values()
    (wanted,) = onnxruntime_outputs(model, x=x)
    assert got.shape == wanted.shape
    assert 0 < np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()
    canonical(imported, x=x.shape)
    [holder] = [
        dialect.array_of(node.inputs[0])
        for node in imported.model.graph
        if dialect.is_dequantize(node) and dialect.array_of(node.inputs[0]).size > 20
    ]
    assert np.array_equal(holder, weights)


@pytest.mark.parametrize("case", CASES)
def test_there_is_one_warning_which_asks_for_calibration(tmp_path, case):
    [found] = load(tmp_path, CASES[case]()[0]).diagnostics
    assert (found.rule, str(found.severity)) == ("DLA122", "warning")
    assert "--calibrate" in found.help
    assert found.location.layer


def test_integers_whose_scale_is_known_need_no_calibration_for_it(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("MatMulInteger", ["q", "w", "z"], ["i"]),
        *behind(),
    ]
    constants = {"s": np.float32(0.05), "z": np.uint8(121), "w": MATRIX, "ws": np.float32(0.02),
                 "b": COLUMNS}  # fmt: skip
    model = plain(nodes, constants, {"x": [1, 16]})
    x = random(1, 16)
    (got,) = run(load(tmp_path, model).model, {"x": x}).values()
    (wanted,) = onnxruntime_outputs(model, x=x)
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger"])
def test_zero_points_from_the_data_are_refused(tmp_path, op):
    nodes = [
        DYNAMIC,
        ("Cast", ["s"], ["sz"], {"to": TensorProto.UINT8}),
        ("Relu", ["x"], ["r"]),
        ("ReduceMax", ["r"], ["m"]),
        ("Cast", ["m"], ["mz"], {"to": TensorProto.UINT8}),
        (op, ["q", "w", "mz"], ["i"]),
        ("Cast", ["i"], ["y"], {"to": TensorProto.FLOAT}),
    ]
    weights = CONV if op == "ConvInteger" else MATRIX
    shape = [1, 3, 6, 6] if op == "ConvInteger" else [1, 16]
    found = load(tmp_path, plain(nodes, {"w": weights}, {"x": shape})).diagnostics
    assert "DLA104" in rules(found)
