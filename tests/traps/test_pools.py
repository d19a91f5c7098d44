"""Pools that the hardware does not have: what becomes of them changes no integer.

Whole conversions, up to the simulated hardware, of quantised networks with steps of powers of two.
"""

import numpy as np
import pytest

import dlaconv
from dlaconv.options import Options
from tests.frontends.builders import network, parameters, quant, random, save
from tests.traps.support import grid

STEP, WEIGHT, MAP = 2.0**-5, 2.0**-7, 2.0**-4
CHANNELS, SIZE = 16, 14
POOL_RULES = ("PL-", "GR-3", "RS-", "CV-", "DW-", "IO-3")


def pooled(*nodes, signed=1.0, size=SIZE, flat=0, relu=False):
    """Quant -> Conv -> (Relu) -> Quant ("m") -> ``nodes`` ("p") -> Conv or Gemm -> Quant."""
    given = {
        "w": random(CHANNELS, CHANNELS, 1, 1, seed=1, spread=0.4), "ws": np.float32(WEIGHT),
        "v": random(CHANNELS, flat or CHANNELS, *(() if flat else (1, 1)), seed=2, spread=0.3),
        "ms": np.float32(MAP), "b7": np.float32(7), "rs": np.float32(0.25),
    }  # fmt: skip
    made = [
        quant("x", "xq"),
        quant("w", "wq", "ws"),
        ("Conv", ["xq", "wq"], ["c"]),
        *([("Relu", ["c"], ["r"])] if relu else []),
        quant("r" if relu else "c", "m", "ms"),
        *nodes,
        *([("Flatten", ["p"], ["f"])] if flat else []),
        quant("v", "vq", "ws"),
        ("Gemm", ["f", "vq"], ["g"], {"transB": 1}) if flat else ("Conv", ["p", "vq"], ["g"]),
        quant("g", "y", "rs"),
    ]
    return network(made, parameters(scale=STEP) | given, {"x": [1, CHANNELS, size, size]})


def window(op_type, kernel, stride, pad=0, result="p", **more):
    pads = pad if isinstance(pad, list) else [pad] * 4
    sides = kernel if isinstance(kernel, list) else [kernel] * 2
    return (
        op_type, ["m"], [result],
        {"kernel_shape": sides, "strides": [stride] * 2, "pads": pads, **more},
    )  # fmt: skip


def average(*window_, **more):
    """An average that is quantised."""
    return [window("AveragePool", *window_, result="a", **more), quant("a", "p", "ms")]


CASES = {
    "stem": [window("MaxPool", 3, 2, 1)],
    "pyramid": [window("MaxPool", 5, 1, 2)],
    "wide pyramid": [window("MaxPool", 9, 1, 4)],
    "stride 3": [window("MaxPool", 3, 3)],
    "stride 4": [window("MaxPool", 4, 4)],
    "ceil mode": [window("MaxPool", 3, 2, 0, ceil_mode=1)],
    "along columns": [window("MaxPool", [1, 2], 1)],
    "global maximum": [("GlobalMaxPool", ["m"], ["p"])],
    "padded average": average(3, 1, 1, count_include_pad=1),
    "average with stride 4": average(4, 4),
    "average with stride 3": average(3, 3),
    "uncounted padding": average(3, 1, 1),
    "average rounded up": average(3, 2, 0, ceil_mode=1),
    "global average": [("GlobalAveragePool", ["m"], ["a"]), quant("a", "p", "ms")],
}


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_no_integer_changes_and_no_rule_is_broken(tmp_path, name, relu):
    source = save(tmp_path, pooled(*CASES[name], relu=relu))
    x = grid(4, CHANNELS, SIZE, SIZE, step=STEP, seed=3)
    np.savez(tmp_path / "x.npz", x=x)
    conversion = dlaconv.convert(
        source,
        tmp_path / "net.dla.onnx",
        frontend="qonnx",
        options=Options(calibrate=tmp_path / "x.npz", allow_violations=True),
    )
    report = conversion.report
    outputs = report["verification"]["outputs"]
    assert [row["differing"] for row in outputs.values()] == [0]
    broken = [
        item for item in report["diagnostics"]
        if item["severity"] == "error" and item["rule"].startswith(POOL_RULES)
    ]  # fmt: skip
    assert broken == []
    assert {row["class"] for row in report["tensors"] if row["kind"] == "map"} == {"exact"}


def test_a_global_average_of_eight_by_eight_is_a_sum(tmp_path):
    nodes = [("GlobalAveragePool", ["m"], ["a"]), quant("a", "p", "ms")]
    source = save(tmp_path, pooled(*nodes, size=8, flat=CHANNELS))
    conversion = dlaconv.convert(source, tmp_path / "net.dla.onnx", frontend="qonnx")
    used = [item["name"] for item in conversion.report["rewrites"]]
    assert "global_average_sum" in used
    rows = conversion.report["verification"]["outputs"].values()
    assert [row["differing"] for row in rows] == [0]


def test_an_activation_behind_a_pool_is_that_of_the_layer_before(tmp_path):
    """relu(max_pool(conv(x))), as PyTorch's examples have it: one rounding, no further layer."""
    given = {
        "w": random(CHANNELS, CHANNELS, 3, 3, seed=1, spread=0.2), "ws": np.float32(WEIGHT),
        "ms": np.float32(MAP),
    }  # fmt: skip
    window_ = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    made = [
        quant("x", "xq"),
        quant("w", "wq", "ws"),
        ("Conv", ["xq", "wq"], ["c"]),
        ("MaxPool", ["c"], ["p"], window_),
        ("Relu", ["p"], ["r"]),
        quant("r", "y", "ms"),
    ]
    model = network(made, parameters(scale=STEP) | given, {"x": [1, CHANNELS, SIZE, SIZE]})
    conversion = dlaconv.convert(save(tmp_path, model), tmp_path / "n.dla.onnx", frontend="qonnx")
    report = conversion.report
    assert [row["differing"] for row in report["verification"]["outputs"].values()] == [0]
    assert [r["name"] for r in report["rewrites"]] == ["max_pool_padding"]
    assert {row["class"] for row in report["tensors"] if row["kind"] == "map"} == {"exact"}
