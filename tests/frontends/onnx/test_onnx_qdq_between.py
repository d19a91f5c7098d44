"""Operators between QuantizeLinear and DequantizeLinear: clips, moves, arithmetic."""

import numpy as np
import pytest
from onnx import TensorProto

from tests.frontends.builders import rules
from tests.frontends.onnx.pairs import numbers, quantisers, ties
from tests.frontends.onnx.plain import (
    assert_same,
    load,
    operators,
    plain,
)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize(("low", "high"), [(-8, 7), (0, 15), (-127, 127), (None, 7), (-2, None)])
def test_a_clip_behind_a_quantiser_says_its_range(tmp_path, kind, low, high):
    """Brevitas' QCDQ: QuantizeLinear, Clip, DequantizeLinear."""
    if kind is np.uint8:
        low, high = (None if end is None else abs(end) for end in (low, high))
        low, high = (high, low) if low and high and low > high else (low, high)
    ends = {name: end for name, end in (("lo", low), ("hi", high)) if end is not None}
    clip = ["q", "lo" if low is not None else "", "hi" if high is not None else ""]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Clip", clip, ["c"]),
        ("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    constants = {name: np.asarray(end, kind) for name, end in ends.items()}
    model = plain(nodes, numbers(0.25, 3, kind) | constants)
    before = assert_same(tmp_path, model, x=ties(spread=60))
    assert operators(before)[0] == "QuantizeHalfEven"
    assert "Clip" not in operators(before)
    info = np.iinfo(kind)
    ends = (info.min if low is None else low) - 3, (info.max if high is None else high) - 3
    assert (quantisers(before)[0].qmin, quantisers(before)[0].qmax) == ends


def test_a_clip_that_others_read_past_keeps_both_ranges(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Clip", ["q", "lo", "hi"], ["c"]),
        ("DequantizeLinear", ["c", "s", "z"], ["a"]),
        ("DequantizeLinear", ["q", "s", "z"], ["b"]),
        ("Concat", ["a", "b"], ["y"], {"axis": 1}),
    ]
    constants = numbers(0.25, 3) | {"lo": np.int8(-4), "hi": np.int8(5)}
    assert_same(tmp_path, plain(nodes, constants), x=ties())


def test_a_clip_further_on_is_one_of_reals(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("MaxPool", ["q"], ["p"], {"kernel_shape": [2, 2]}),
        ("Clip", ["p", "lo", "hi"], ["c"]),
        ("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    constants = numbers(0.25, 3) | {"lo": np.int8(-4), "hi": np.int8(50)}
    before = assert_same(tmp_path, plain(nodes, constants), x=ties())
    assert operators(before) == ["QuantizeHalfEven", "MaxPool", "Clip"]


MOVING = {
    "max pool": ("MaxPool", [], {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
    "reshape": ("Reshape", ["target"], {}),
    "flatten": ("Flatten", [], {}),
    "transpose": ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    "slice": ("Slice", ["starts", "ends"], {}),
    "gather": ("Gather", ["indices"], {"axis": 1}),
    "pad with the zero point": ("Pad", ["pads", "z"], {}),
    "pad with integer 0": ("Pad", ["pads"], {}),
    "pad with another integer": ("Pad", ["pads", "seven"], {}),
    "pad reflecting": ("Pad", ["pads"], {"mode": "reflect"}),
    "squeeze": ("Squeeze", ["first"], {}),
    "unsqueeze": ("Unsqueeze", ["first"], {}),
    "identity": ("Identity", [], {}),
    "tile": ("Tile", ["repeats"], {}),
    "expand": ("Expand", ["larger"], {}),
    "depth to space": ("DepthToSpace", [], {"blocksize": 1}),
    "resize": ("Resize", ["", "sizes"], {"mode": "nearest"}),
    "reduce max": ("ReduceMax", ["first"], {}),
}


OPERANDS = {
    "target": np.array([1, -1, 2]), "starts": np.array([0, 1]), "ends": np.array([1, 3]),
    "indices": np.array([2, 0]), "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]),
    "seven": np.asarray(7, np.uint8), "first": np.array([0]), "repeats": np.array([1, 1, 2, 1]),
    "larger": np.array([2, 3, 4, 4]), "sizes": np.float32([1, 1, 2, 2]),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVING)
@pytest.mark.parametrize("zero", [0, 9])
def test_operators_that_move_integers_move_reals(tmp_path, case, zero):
    op, names, attributes = MOVING[case]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        (op, ["q", *names], ["m"], attributes),
        ("DequantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    constants = {name: OPERANDS[name] for name in names if name in OPERANDS}
    model = plain(nodes, numbers(0.25, zero, np.uint8) | constants)
    before = assert_same(tmp_path, model, stages=("imported",), x=ties())
    assert op in [node.op_type for node in before.graph]


def test_a_concatenation_of_integers_on_one_grid(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Relu", ["x"], ["r"]),
        ("QuantizeLinear", ["r", "s", "z"], ["p"]),
        ("Concat", ["q", "p", "c"], ["m"], {"axis": 1}),
        ("DequantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    constants = numbers(0.25, 3) | {"c": np.full((1, 1, 4, 4), 55, np.int8)}
    assert_same(tmp_path, plain(nodes, constants), x=ties())


def test_a_split_gives_integers_on_every_side(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Split", ["q", "parts"], ["a", "b"], {"axis": 1}),
        ("DequantizeLinear", ["a", "s", "z"], ["y"]),
        ("DequantizeLinear", ["b", "s", "z"], ["v"]),
    ]
    constants = numbers(0.25, 3) | {"parts": np.array([1, 2])}
    assert_same(tmp_path, plain(nodes, constants, outputs=("y", "v")), x=ties())


def test_a_relu_of_integers_without_zero_point_is_one_of_reals(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Relu", ["q"], ["r"]),
        ("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    assert_same(tmp_path, plain(nodes, numbers(0.25, 0)), x=ties())
    assert rules(load(tmp_path, plain(nodes, numbers(0.25, 3)))) == ["DLA124"]


def test_integers_dequantised_by_hand_are_understood(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Cast", ["q"], ["f"], {"to": TensorProto.FLOAT}),
        ("Sub", ["f", "zf"], ["g"]),
        ("Mul", ["g", "s"], ["y"]),
    ]
    model = plain(nodes, numbers(0.25, 3) | {"zf": np.float32(3)})
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())


def test_the_class_of_integers_is_that_of_reals(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("ArgMax", ["q"], ["y"], {"axis": 1}),
    ]
    assert_same(tmp_path, plain(nodes, numbers(0.25, 3)), stages=("imported",), x=ties())


INTEGER_ARITHMETIC = {
    "add": ("Add", ["q", "q"], {}),
    "where": ("Where", ["flag", "q", "q"], {}),
    "cast to another type": ("Cast", ["q"], {"to": TensorProto.INT32}),
    "resize linearly": ("Resize", ["q", "", "sizes"], {"mode": "linear"}),
    "concatenation with other integers": ("Concat", ["q", "p"], {"axis": 1}),
}


@pytest.mark.parametrize("case", INTEGER_ARITHMETIC)
def test_arithmetic_on_integers_is_refused_once(tmp_path, case):
    op, inputs, attributes = INTEGER_ARITHMETIC[case]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("QuantizeLinear", ["x", "s2", "z"], ["p"]),
        (op, inputs, ["m"], attributes),
        ("MaxPool", ["m"], ["n"], {"kernel_shape": [2, 2]}),
        ("DequantizeLinear", ["n", "s", "z"], ["y"]),
    ]
    constants = numbers() | {"s2": np.float32(2), "sizes": OPERANDS["sizes"],
                             "flag": np.array(True)}  # fmt: skip
    found = load(tmp_path, plain(nodes, constants)).diagnostics
    assert rules(found) == ["DLA124"]
    assert found.errors[0].location.op == op
    assert found.errors[0].help
