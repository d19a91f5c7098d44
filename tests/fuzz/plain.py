"""Plain ONNX: in floating point, with QuantizeLinear and DequantizeLinear, with QLinear operators.

Seeds for the fuzzer. They are small, legal for the hardware where that is easy, and of several
opsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.frontends.builders import network, random

_CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
_POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
_BYTES = np.random.default_rng(8).integers(-128, 128, (16, 16, 3, 3)).astype(np.int8)


def models() -> dict[str, onnx.ModelProto]:
    """The networks by name."""
    return {
        "float": float_network(17),
        "float-opset-9": float_network(9),
        "float-nhwc": channels_last(),
        "float-legalised": legalised(),
        "float-computed-shapes": computed_shapes(),
        "qdq": qdq_network(),
        "qdq-unsigned": qdq_network(np.uint8, 114),
        "qdq-trained": trained(),
        "qcdq": clipped(),
        "qdq-16": qdq_network(np.int16, opset=21),
        "qoperator": qoperator(),
        "qoperator-integers": integers(),
        "weights-only": weights_only(),
    }


def _net(
    nodes: Sequence[Any],
    constants: dict[str, Any],
    *,
    shape: Sequence[int | str] = (1, 16, 6, 6),
    **more: Any,
) -> onnx.ModelProto:
    model: onnx.ModelProto = network(
        nodes, constants, {"x": list(shape)}, ("y",), **{"domains": (), **more}
    )
    return model


def _pair(x: str, y: str, scale: str = "s", zero: str = "z", **attributes: Any) -> list[Any]:
    return [
        ("QuantizeLinear", [x, scale, zero], [f"{y}_q"], attributes),
        ("DequantizeLinear", [f"{y}_q", scale, zero], [y], attributes),
    ]


def _integers(low: int, high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(9).integers(low, high, shape)


def float_network(opset: int) -> onnx.ModelProto:
    """A residual block with batch normalisation, pools and a fully connected layer."""
    nodes = [
        ("Conv", ["x", "w"], ["c"], _CONV),
        ("BatchNormalization", ["c", "one", "two", "one", "var"], ["n"]),
        ("Relu", ["n"], ["r"]),
        ("Conv", ["r", "w", "two"], ["d"], _CONV),
        ("Add", ["d", "r"], ["sum"]),
        ("MaxPool", ["sum"], ["m"], _POOL),
        ("GlobalAveragePool", ["m"], ["g"]),
        ("Flatten", ["g"], ["f"]),
        ("Gemm", ["f", "fw", "two"], ["y"], {"transB": 1}),
    ]
    return _net(nodes, _floats(), shape=("batch", 16, 6, 6), opset=opset)


def _floats() -> dict[str, Any]:
    return {
        "w": random(16, 16, 3, 3, spread=0.2),
        "fw": random(16, 16, seed=1, spread=0.2),
        "one": random(16, seed=2) ** 2 + 0.1,
        "two": random(16, seed=3),
        "var": random(16, seed=4) ** 2 + 0.1,
    }


def channels_last() -> onnx.ModelProto:
    """Transposes around every layer, as tf2onnx leaves some."""
    nodes = [
        ("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "w"], ["c"], _CONV),
        ("Transpose", ["c"], ["u"], {"perm": [0, 2, 3, 1]}),
        ("Add", ["u", "two"], ["b"]),
        ("Relu", ["b"], ["r"]),
        ("ReduceMean", ["r", "axes"], ["m"], {"keepdims": 0}),
        ("MatMul", ["m", "fw"], ["y"]),
    ]
    return _net(nodes, _floats() | {"axes": np.array([1, 2])}, shape=(1, 6, 6, 16))


def legalised() -> onnx.ModelProto:
    """What rewrites are for: groups, dilations, 12 channels, padded pools, factors and offsets."""
    nodes = [
        ("Mul", ["x", "half"], ["a"]),
        ("Conv", ["a", "grouped"], ["b"], {**_CONV, "group": 4}),
        ("Relu", ["b"], ["r"]),
        ("MaxPool", ["r"], ["m"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
        ("Pad", ["m", "pads"], ["p"]),
        ("Conv", ["p", "dilated"], ["d"], {"kernel_shape": [3, 3], "dilations": [2, 2]}),
        ("Sub", ["d", "two"], ["s"]),
        ("LeakyRelu", ["s"], ["l"], {"alpha": 0.125}),
        ("ReduceMean", ["l", "axes"], ["g"], {"keepdims": 0}),
        ("MatMul", ["g", "fw"], ["f"]),
        ("Dropout", ["f"], ["y"]),
    ]
    constants = {
        "half": np.float32(0.5),
        "grouped": random(12, 3, 3, 3, spread=0.2),
        "dilated": random(12, 12, 3, 3, seed=1, spread=0.2),
        "pads": np.array([0, 0, 2, 2, 0, 0, 1, 1]),
        "two": random(12, 1, 1, seed=3),
        "axes": np.array([2, 3]),
        "fw": random(12, 5, seed=4),
    }
    return _net(nodes, constants, shape=(1, 12, 8, 8))


def computed_shapes() -> onnx.ModelProto:
    """A Reshape and a Pad whose operands are computed, as TorchScript writes them."""
    nodes = [
        helper.make_node("Constant", [], ["zero"], name="k0", value_int=0),
        ("Shape", ["x"], ["shape"]),
        ("Gather", ["shape", "zero"], ["n"]),
        ("Unsqueeze", ["n", "first"], ["n1"]),
        ("Concat", ["n1", "rest"], ["target"], {"axis": 0}),
        ("ConstantOfShape", ["eight"], ["pads"]),
        ("Cast", ["pads"], ["whole"], {"to": TensorProto.INT64}),
        ("Pad", ["x", "whole"], ["p"]),
        ("Reshape", ["p", "target"], ["f"]),
        ("Gemm", ["f", "fw"], ["y"]),
    ]
    constants = {"first": np.array([0]), "rest": np.array([-1]), "eight": np.array([8]),
                 "fw": random(64, 16, spread=0.2)}  # fmt: skip
    return _net(nodes, constants, shape=("n", 16, 2, 2), opset=18)


def qdq_network(kind: Any = np.int8, zero: int = 0, opset: int = 18) -> onnx.ModelProto:
    """Pairs around every map, integers for weights and bias, as onnxruntime writes them."""
    nodes = [
        *_pair("x", "a"),
        ("DequantizeLinear", ["wq", "ws", "wz"], ["w"], {"axis": 0}),
        ("DequantizeLinear", ["bq", "bs"], ["b"], {"axis": 0}),
        ("Conv", ["a", "w", "b"], ["c"], _CONV),
        ("Relu", ["c"], ["r"]),
        *_pair("r", "d"),
        ("Add", ["d", "a"], ["e"]),
        *_pair("e", "f"),
        ("MaxPool", ["f"], ["m"], _POOL),
        *_pair("m", "n"),
        ("Flatten", ["n"], ["o"]),
        ("DequantizeLinear", ["fq", "ws", "wz"], ["fw"], {"axis": 0}),
        ("Gemm", ["o", "fw"], ["g"], {"transB": 1}),
        *_pair("g", "y"),
    ]
    scales = (2.0 ** -_integers(6, 9, 16)).astype(np.float32)
    constants = {
        "s": np.float32(0.0625), "z": kind(zero), "wq": _BYTES, "ws": scales,
        "wz": np.zeros(16, np.int8), "bq": _integers(-999, 999, 16).astype(np.int32),
        "bs": (scales / 16).astype(np.float32), "fq": _BYTES.reshape(16, -1),
    }  # fmt: skip
    return _net(nodes, constants, opset=opset)


def trained() -> onnx.ModelProto:
    """Pairs around float weights, as PyTorch exports quantisation-aware training."""
    nodes = [
        *_pair("x", "a", "one", "zu"),
        ("QuantizeLinear", ["w", "ws", "wz"], ["wq"], {"axis": 0}),
        ("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], {"axis": 0}),
        ("Conv", ["a", "wd"], ["c"], _CONV),
        ("Div", ["c", "factor"], ["d"]),
        ("BatchNormalization", ["d", "gain", "two", "two", "gain"], ["n"]),
        ("Relu", ["n"], ["r"]),
        *_pair("r", "y", "one", "zu"),
    ]
    constants = {
        "one": np.float32([0.05]), "zu": np.uint8([3]), "w": random(16, 16, 3, 3, spread=0.2),
        "ws": np.full(16, 0.01, np.float32), "wz": np.zeros(16, np.int8),
        "factor": random(16, 1, 1, seed=2) ** 2 + 0.1, "gain": random(16, seed=2) ** 2 + 0.1,
        "two": random(16, seed=3),
    }  # fmt: skip
    return _net(nodes, constants, opset=13)


def clipped() -> onnx.ModelProto:
    """QuantizeLinear, Clip, DequantizeLinear, as Brevitas writes fewer bits."""
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Clip", ["q", "low", "high"], ["k"]),
        ("DequantizeLinear", ["k", "s", "z"], ["a"]),
        ("Clip", ["wq", "low", "high"], ["wk"]),
        ("DequantizeLinear", ["wk", "s", "z"], ["w"]),
        ("Conv", ["a", "w"], ["c"], _CONV),
        ("QuantizeLinear", ["c", "s", "z"], ["p"]),
        ("MaxPool", ["p"], ["m"], _POOL),
        ("DequantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    constants = {"s": np.float32(0.125), "z": np.int8(0), "low": np.int8(-8), "high": np.int8(7),
                 "wq": _BYTES // 16}  # fmt: skip
    return _net(nodes, constants, opset=13)


def _contrib(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(
        op, list(inputs), [output], name=f"{op}_{output}", domain="com.microsoft", **attributes
    )


_X, _W = ("s", "z"), ("w", "ws", "wz")


def _qoperators() -> dict[str, Any]:
    return {
        "s": np.float32(0.0625), "z": np.uint8(117), "w": _BYTES, "ws": np.float32(2.0**-7),
        "wz": np.int8(0), "b": _integers(-999, 999, 16).astype(np.int32),
        "fw": _BYTES.reshape(16, -1)[:, :16].copy(),
    }  # fmt: skip


def qoperator() -> onnx.ModelProto:
    """Integers from the first quantiser to the last, in all kinds of QLinear operators."""
    nodes = [
        ("QuantizeLinear", ["x", *_X], ["q"]),
        helper.make_node("QLinearConv", ["q", *_X, *_W, *_X, "b"], ["c"], name="conv", **_CONV),
        _contrib("QLinearAdd", ["c", *_X, "q", *_X, *_X], "a"),
        _contrib("QLinearLeakyRelu", ["a", *_X, *_X], "l", alpha=0.125),
        _contrib("QLinearConcat", [*_X, "l", *_X, "a", *_X], "k", axis=1),
        ("Slice", ["k", "from", "to", "axes"], ["part"]),
        ("MaxPool", ["part"], ["m"], _POOL),
        _contrib("QLinearAveragePool", ["m", *_X, *_X], "p", kernel_shape=[3, 3]),
        ("Flatten", ["p"], ["f"]),
        _contrib("QGemm", ["f", *_X, "fw", "ws", "wz", "b", *_X], "g", transB=1),
        ("DequantizeLinear", ["g", *_X], ["y"]),
    ]
    constants = _qoperators() | {"from": np.array([0]), "to": np.array([16]), "axes": np.array([1])}
    return _net(nodes, constants, domains=[("com.microsoft", 1)])


def integers() -> onnx.ModelProto:
    """Integers at the border of the network."""
    nodes = [
        helper.make_node("QLinearConv", ["x", *_X, *_W, *_X], ["c"], name="conv", **_CONV),
        _contrib("QLinearGlobalAveragePool", ["c", *_X, *_X], "y"),
    ]
    model = _net(nodes, _qoperators(), domains=[("com.microsoft", 1)])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    return model


def weights_only() -> onnx.ModelProto:
    """Integers for weights in a network whose maps are float."""
    nodes = [
        ("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 0}),
        ("Conv", ["x", "w"], ["c"], _CONV),
        ("Relu", ["c"], ["r"]),
        ("Transpose", ["fd"], ["fw"], {"perm": [1, 0]}),
        ("DequantizeLinear", ["fq", "ws"], ["fd"], {"axis": 0}),
        ("Flatten", ["r"], ["f"]),
        ("MatMul", ["f", "fw"], ["y"]),
    ]
    constants = {"wq": _BYTES, "ws": np.full(16, 0.01, np.float32),
                 "fq": _integers(-128, 128, 16, 16 * 36).astype(np.int8)}  # fmt: skip
    return _net(nodes, constants)
