"""Constants beside integers that only move: they are integers too, or the file is refused."""

import numpy as np
import pytest

from tests.frontends.onnx.plain import load, plain

PADS = np.array([0, 0, 1, 1, 0, 0, 1, 1])
WRONG = {
    "pad with a float": ("Pad", ["pads", "v"], np.float32(1.7e38)),
    "pad with infinity": ("Pad", ["pads", "v"], np.float32(np.inf)),
    "pad with nothing": ("Pad", ["pads", "v"], np.zeros((0,), np.int8)),
    "pad with two": ("Pad", ["pads", "v"], np.zeros((2,), np.int8)),
    "clip at none": ("Clip", ["v"], np.float32(np.nan)),
    "clip above at a float": ("Clip", ["", "v"], np.float32(3e38)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_constant_of_another_type_is_refused_by_the_node(tmp_path, case):
    op, names, value = WRONG[case]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        (op, ["q", *names], ["m"]),
        ("DequantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    constants = {"s": np.float32(0.25), "z": np.int8(3), "v": value}
    if "pads" in names:
        constants["pads"] = PADS
    found = load(tmp_path, plain(nodes, constants)).diagnostics.errors
    assert {error.rule for error in found} <= {"DLA117", "DLA404"}
    assert all(error.location.op in {op, ""} for error in found)
    assert found
