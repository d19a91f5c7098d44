"""QONNX networks of features that generated networks do not have: seeds for the fuzzer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.frontends.builders import QONNX, network, parameters, quant, random

_POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
_CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
_LAST = "qonnx.custom_op.channels_last"


def models() -> dict[str, onnx.ModelProto]:
    """The networks by name."""
    return {
        "operators": operators(),
        "activations": activations(),
        "perceptron": perceptron(),
        "bipolar": bipolar(),
        "channels-last": channels_last(),
        "branches": branches(),
        "computed-weights": computed_weights(),
        "refused": refused(),
        "asymmetric": asymmetric(),
        "function": function(),
    }


def _net(
    nodes: Sequence[Any],
    constants: dict[str, Any] | None = None,
    *,
    channels: int = 16,
    size: int = 6,
    outputs: Sequence[str] = ("y",),
    **more: Any,
) -> onnx.ModelProto:
    given = {**parameters(0.0625), "ws": np.float32(1 / 64), **(constants or {})}
    inputs = more.pop("inputs", {"x": [1, channels, size, size]})
    return network(nodes, given, inputs, outputs, **more)


def operators() -> onnx.ModelProto:
    """Pad, pools, transposed layout, BatchNormalization, ReduceMean, Reshape, Gemm."""
    nodes = [
        quant("x", "q0"),
        ("Pad", ["q0", "pads"], ["padded"]),
        quant("w", "wq", "ws"),
        ("Conv", ["padded", "wq"], ["c"], {"kernel_shape": [3, 3]}),
        ("BatchNormalization", ["c", "one", "two", "one", "var"], ["n"], {"epsilon": 1e-5}),
        ("Relu", ["n"], ["r"]),
        quant("r", "q1", signed=0),
        ("MaxPool", ["q1"], ["m"], {**_POOL, "ceil_mode": 0}),
        ("AveragePool", ["m"], ["a"], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        quant("a", "q2"),
        ("Transpose", ["q2"], ["t"], {"perm": [0, 2, 3, 1]}),
        ("Transpose", ["t"], ["u"], {"perm": [0, 3, 1, 2]}),
        ("ReduceMean", ["u", "axes"], ["mean"], {"keepdims": 0}),
        quant("mean", "q3"),
        ("Unsqueeze", ["q3", "axes"], ["four"]),
        ("Reshape", ["four", "shape"], ["flat"]),
        quant("fw", "fwq", "ws"),
        ("Gemm", ["flat", "fwq", "two"], ["g"], {"transB": 1, "alpha": 1.0}),
        quant("g", "y"),
    ]
    constants = {
        "w": random(16, 16, 3, 3, spread=0.2),
        "fw": random(16, 16, seed=1, spread=0.2),
        "one": random(16, seed=2) ** 2 + 0.1,
        "two": random(16, seed=3),
        "var": random(16, seed=4) ** 2 + 0.1,
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "axes": np.array([2, 3]),
        "shape": np.array([1, -1]),
    }
    return _net(nodes, constants)


def activations() -> onnx.ModelProto:
    """Every activation that the hardware has, and Div, Mul and Sub."""
    nodes: list[Any] = [quant("x", "q")]
    last = "q"
    kinds = (
        ("LeakyRelu", [], {"alpha": 0.125}), ("PRelu", ["slope"], {}), ("Tanh", [], {}),
        ("Sigmoid", [], {}), ("HardSwish", [], {}), ("Div", ["half"], {}), ("Mul", ["half"], {}),
        ("Sub", ["half"], {}),
    )  # fmt: skip
    for index, (op, more, attributes) in enumerate(kinds):
        end = "y" if index == len(kinds) - 1 else f"q{index}"
        nodes += [
            quant("w", f"w{index}", "ws"),
            ("Conv", [last, f"w{index}"], [f"c{index}"], {"kernel_shape": [1, 1]}),
            (op, [f"c{index}", *more], [f"a{index}"], attributes),
            quant(f"a{index}", end),
        ]
        last = end
    constants = {
        "w": random(16, 16, 1, 1, spread=0.2),
        "slope": np.full((16, 1, 1), 0.25, np.float32),
        "half": np.float32(0.5),
    }
    return _net(nodes, constants, size=4)


def perceptron() -> onnx.ModelProto:
    """MatMul chains on two dimensions, with a bias as an Add and per-channel weights."""
    nodes = [
        quant("x", "q0"),
        quant("w", "wq", "pc"),
        ("MatMul", ["q0", "wq"], ["h"]),
        ("Add", ["h", "bias"], ["hb"]),
        ("Relu", ["hb"], ["r"]),
        quant("r", "q1", signed=0),
        ("MatMul", ["q1", "wq"], ["i"]),
        ("Squeeze", ["i", "zero"], ["u"]),
        ("Unsqueeze", ["u", "zero"], ["e"]),
        quant("e", "y"),
    ]
    constants = {
        "w": random(16, 16, spread=0.2),
        "pc": np.full((1, 16), 1 / 64, np.float32),
        "bias": random(16, seed=5),
        "zero": np.array([0]),
    }
    return _net(nodes, constants, inputs={"x": [1, 16]})


def bipolar() -> onnx.ModelProto:
    """Weights and maps of plus and minus one."""
    nodes = [
        helper.make_node("BipolarQuant", ["x", "s"], ["q0"], name="b0", domain=QONNX),
        helper.make_node("BipolarQuant", ["w", "s"], ["wq"], name="b1", domain=QONNX),
        ("Conv", ["q0", "wq"], ["c"], _CONV),
        quant("c", "y", bits="one"),
    ]
    return _net(nodes, {"w": random(16, 16, 3, 3), "one": np.float32(1)})


def channels_last() -> onnx.ModelProto:
    """The operators that ``qonnx-to-channels-last`` makes."""
    nodes = [
        ("Transpose", ["x"], ["t"], {"perm": [0, 2, 3, 1]}),
        quant("t", "q0"),
        quant("w", "wq", "ws"),
        helper.make_node("Conv", ["q0", "wq"], ["c"], name="c", domain=_LAST, **_CONV),
        quant("c", "q1"),
        helper.make_node("MaxPool", ["q1"], ["m"], name="m", domain=_LAST, **_POOL),
        quant("m", "y"),
    ]
    domains = ((QONNX, 2), (_LAST, 1))
    return _net(nodes, {"w": random(16, 3, 3, 16, spread=0.2)}, domains=domains)


def branches() -> onnx.ModelProto:
    """Two inputs and two outputs; Add, Concat and MatMul of maps; one map read by many."""
    nodes = [
        quant("x", "q0"),
        quant("z1", "q1"),
        ("Add", ["q0", "q1"], ["sum"]),
        quant("sum", "q2"),
        ("Concat", ["q2", "q0"], ["cat"], {"axis": 1}),
        quant("w", "wq", "ws"),
        ("Conv", ["cat", "wq"], ["c"], {**_CONV, "group": 2}),
        quant("c", "y"),
        ("MatMul", ["q2", "q0"], ["p"]),
        quant("p", "y2"),
    ]
    shape = [1, 16, 6, 6]
    return _net(
        nodes,
        {"w": random(16, 16, 3, 3, spread=0.2)},
        inputs={"x": shape, "z1": shape},
        outputs=("y", "y2", "q2"),
    )


def computed_weights() -> onnx.ModelProto:
    """Weights as Constant, Cast, Slice, Concat; bits and shapes computed by nodes."""
    whole = helper.make_tensor("v", onnx.TensorProto.DOUBLE, [16, 16, 4, 4], random(4096))
    nodes = [
        quant("x", "q0"),
        helper.make_node("Constant", [], ["long"], name="long", value=whole),
        ("Cast", ["long"], ["float"], {"to": 1}),
        ("Slice", ["float", "start", "end", "axes"], ["w"]),
        ("Add", ["b4", "b4"], ["bits"]),
        quant("w", "wq", "ws", bits="bits"),
        ("Shape", ["x"], ["shape"]),
        ("Gather", ["shape", "first"], ["batch"]),
        ("Concat", ["batch", "rest"], ["target"], {"axis": 0}),
        ("Conv", ["q0", "wq"], ["c"], _CONV),
        quant("c", "q1"),
        ("Reshape", ["q1", "target"], ["flat"]),
        ("ConstantOfShape", ["square"], ["ones"]),
        ("Expand", ["ones", "square"], ["fw"]),
        quant("fw", "fwq", "ws"),
        ("MatMul", ["flat", "fwq"], ["m"]),
        quant("m", "y"),
    ]
    constants = {
        "start": np.array([0, 1]),
        "end": np.array([3, 4]),
        "axes": np.array([2, 3]),
        "b4": np.float32(4),
        "first": np.array([0]),
        "rest": np.array([-1]),
        "square": np.array([576, 16]),
    }
    return _net(nodes, constants)


def refused() -> onnx.ModelProto:
    """Operators that the hardware lacks, one and all."""
    nodes = [
        quant("x", "q0"),
        ("Resize", ["q0", "", "scales"], ["big"], {"mode": "nearest"}),
        ("Clip", ["big", "low", "high"], ["clipped"]),
        ("Split", ["clipped"], ["left", "right"], {"axis": 1, "num_outputs": 2}),
        ("Softmax", ["left"], ["soft"], {"axis": 1}),
        quant("soft", "q1"),
        ("ConvTranspose", ["q1", "w"], ["up"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Concat", ["up", "up"], ["y"], {"axis": 1}),
    ]
    constants = {
        "w": random(8, 8, 2, 2),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    return _net(nodes, constants, outputs=("y", "right"))


def asymmetric() -> onnx.ModelProto:
    """Zero points and scales per channel, on maps and weights."""
    nodes = [
        quant("x", "q0", "per", "z3", signed=0),
        quant("w", "wq", "pw", narrow=1, rounding_mode="HALF_UP"),
        ("Conv", ["q0", "wq", "bias"], ["c"], _CONV),
        quant("c", "y", zero="z128", signed=0, rounding_mode="CEIL"),
    ]
    constants = {
        "w": random(16, 16, 3, 3, spread=0.2),
        "per": np.linspace(0.01, 0.1, 16, dtype=np.float32).reshape(1, 16, 1, 1),
        "pw": np.linspace(0.01, 0.02, 16, dtype=np.float32).reshape(16, 1, 1, 1),
        "z3": np.float32(3),
        "z128": np.float32(128),
        "bias": random(16),
    }
    return _net(nodes, constants)


def function() -> onnx.ModelProto:
    """A model-local function, called twice, with an attribute that it passes on."""
    leaky = helper.make_node("LeakyRelu", ["a"], ["leaky"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    body = [leaky, quant("leaky", "out", "fs", "fz", "fb")]
    local = helper.make_function(
        "local",
        "Activation",
        ["a", "fs", "fz", "fb"],
        ["out"],
        body,
        [helper.make_opsetid("", 18), helper.make_opsetid(QONNX, 2)],
        ["slope"],
    )
    call = [
        helper.make_node(
            "Activation", [source, "s", "z", "b"], [result], name=result, domain="local", slope=0.5
        )
        for source, result in (("c", "q1"), ("d", "y"))
    ]
    nodes = [
        quant("x", "q0"),
        quant("w", "wq", "ws"),
        ("Conv", ["q0", "wq"], ["c"], _CONV),
        call[0],
        ("Conv", ["q1", "wq"], ["d"], _CONV),
        call[1],
    ]
    domains = ((QONNX, 2), ("local", 1))
    constants = {"w": random(16, 16, 3, 3, spread=0.2)}
    return _net(nodes, constants, domains=domains, functions=[local])
