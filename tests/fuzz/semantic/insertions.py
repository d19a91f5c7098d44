"""Operators put on an edge of the graph, with valid and with senseless parameters."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from dlaconv.ir import dialect
from tests.fuzz.semantic.draft import (
    FLOATS,
    INTEGERS,
    SMALL,
    Draft,
    Mutation,
    attribute_of,
    fresh,
    some_node,
)

_BIG = 2**31 - 1


def _put(
    draft: Draft,
    random: Random,
    op: str,
    constants: Sequence[Any] = (),
    attributes: dict[str, Any] | None = None,
    *,
    domain: str = "",
    behind: bool = True,
) -> str:
    """Puts a node on a random edge; constants become further inputs, None an absent one."""
    node = some_node(draft, random)
    if node is None or not node.input:
        return ""
    index = random.randrange(len(node.input)) if random.random() < 0.3 else 0
    name = fresh(draft, f"put_{op}")
    inputs = [node.input[index]] if behind else []
    for number, constant in enumerate(constants):
        if constant is None or isinstance(constant, str):
            inputs.append(constant or "")
            continue
        inputs.append(f"{name}/{number}")
        array = np.asarray(constant)
        draft.graph.initializer.append(numpy_helper.from_array(array, inputs[-1]))
    made = helper.make_node(op, inputs, [f"{name}/out"], name, domain=domain)
    made.attribute.extend(attribute_of(key, value) for key, value in (attributes or {}).items())
    draft.graph.node.append(made)
    node.input[index] = f"{name}/out"
    shown = [np.asarray(c).tolist() if c is not None else None for c in constants]
    return f"{op} {str(shown)[:80]} {attributes or ''} before {node.name!r}"


def _integers(random: Random, *lengths: int) -> np.ndarray:
    values = random.choice((SMALL, SMALL, (0, 1, 2, 3), INTEGERS))
    return np.array([random.choice(values) for _ in range(random.choice(lengths))], np.int64)


def reshape(draft: Draft, random: Random) -> str:
    targets = (
        [-1], [1, -1], [0, -1], [-1, -1], [0, 0, 0, 0, 0], [1, 16, -1], [2, -1], [1, 3, 0, -1], [0],
        [], [1, -1, 1, 1], [_BIG, -1], [2**62, 4], [-5], [1, 16, 2, 2, -1], [1, 1, 1, -1],
    )  # fmt: skip
    shape = np.array(random.choice(targets), np.int64)
    return _put(draft, random, "Reshape", [shape], random.choice(({}, {"allowzero": 1})))


def transpose(draft: Draft, random: Random) -> str:
    orders = (
        [0, 1, 3, 2], [0, 2, 3, 1], [1, 0, 2, 3], [3, 2, 1, 0], [0, 1], [1, 0], [0, 0, 0, 0],
        [0, 1, 2, 4], [-1, 0, 1, 2], [0, 1, 2], [0], [], [_BIG, 0, 1, 2],
    )  # fmt: skip
    return _put(draft, random, "Transpose", [], {"perm": random.choice(orders)})


def pad(draft: Draft, random: Random) -> str:
    pads = random.choice((_integers(random, 8, 8, 8, 4, 3, 0), np.array([0, 0, 1, 1] * 2)))
    value = random.choice((None, np.float32(random.choice(FLOATS)), np.int64(0)))
    mode = random.choice(("constant", "constant", "reflect", "edge", "wrap", "no"))
    return _put(draft, random, "Pad", [pads, value], {"mode": mode})


def pool(draft: Draft, random: Random) -> str:
    op = random.choice(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"))
    if op.startswith("Global"):
        return _put(draft, random, op)
    attributes: dict[str, Any] = {"kernel_shape": _integers(random, 2, 2, 1, 3).tolist()}
    if random.random() < 0.5:
        attributes["strides"] = _integers(random, 2, 2, 1).tolist()
    if random.random() < 0.5:
        attributes["pads"] = _integers(random, 4, 4, 2).tolist()
    if random.random() < 0.3:
        attributes["ceil_mode"] = random.choice((0, 1, 7))
    if random.random() < 0.2:
        attributes["dilations"] = _integers(random, 2).tolist()
    if random.random() < 0.3:
        attributes["count_include_pad"] = 1
    return _put(draft, random, op, [], attributes)


def activation(draft: Draft, random: Random) -> str:
    op = random.choice(
        ("Relu", "LeakyRelu", "PRelu", "Tanh", "Sigmoid", "HardSwish", "Elu", "Sign")
    )
    if op == "PRelu":
        slope = np.full(
            random.choice(((), (1,), (16, 1, 1), (3,), (1, 16, 1, 1))), 0.25, np.float32
        )
        return _put(draft, random, op, [slope * random.choice(FLOATS)])
    alpha = {"alpha": random.choice(FLOATS)} if op in {"LeakyRelu", "Elu"} else {}
    return _put(draft, random, op, [], alpha)


def arithmetic(draft: Draft, random: Random) -> str:
    op = random.choice(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "MatMul", "Mod"))
    shape = random.choice(((), (1,), (16, 1, 1), (1, 16, 1, 1), (6, 6), (0,), (5,), (16, 16)))
    kind = random.choice((np.float32, np.float32, np.float32, np.int64, np.float64, np.float16))
    with np.errstate(all="ignore"):
        array = np.full(shape, random.choice(FLOATS)).astype(kind)
    return _put(draft, random, op, [array])


def arithmetic_with_map(draft: Draft, random: Random) -> str:
    """Two maps of the graph meet, or one meets itself."""
    results = [name for node in draft.graph.node for name in node.output if name]
    if not results:
        return ""
    op = random.choice(("Add", "Add", "Concat", "Mul", "Div", "Sub", "MatMul", "Max", "Sum"))
    axis = {"axis": random.choice((1, 1, 1, 0, 3, -1, 9))} if op == "Concat" else {}
    return _put(draft, random, op, [random.choice(results)], axis)


def reduce(draft: Draft, random: Random) -> str:
    op = random.choice(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ArgMax", "CumSum"))
    axes = random.choice((None, [1], [2, 3], [-1], [1, 1], [0, 1, 2, 3], [7], [], [2**40]))
    constants = [] if axes is None or op == "ArgMax" else [np.array(axes, np.int64)]
    keep = {} if op == "CumSum" else {"keepdims": random.choice((0, 1))}
    return _put(draft, random, op, constants, keep)


def ranks(draft: Draft, random: Random) -> str:
    op = random.choice(("Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile"))
    if op == "Flatten":
        return _put(draft, random, op, [], {"axis": random.choice((0, 1, 2, 4, -1, -9, 9, _BIG))})
    return _put(draft, random, op, [_integers(random, 0, 1, 2, 4, 4, 40)])


def sizes(draft: Draft, random: Random) -> str:
    """Operators whose small constants ask for results beyond all memory."""
    shape = random.choice(([_BIG, _BIG], [2**40], [2**20, 2**20], [3, -1], [0], [], [2**63 - 1, 2]))
    op = random.choice(
        ("ConstantOfShape", "Range", "Expand", "Tile", "OneHot", "EyeLike", "Resize")
    )
    if op == "ConstantOfShape":
        return _put(draft, random, op, [np.array(shape, np.int64)], behind=False)
    if op == "Range":
        ends = [random.choice((0, 1, -1, 2**62, _BIG, 10**9)) for _ in range(3)]
        return _put(draft, random, op, [np.int64(end) for end in ends], behind=False)
    if op == "OneHot":
        values = np.array([0, 1], np.float32)
        depth = np.int64(random.choice((10, 0, -1, 2**40)))
        return _put(draft, random, op, [depth, values])
    if op == "EyeLike":
        return _put(draft, random, op)
    if op == "Resize":
        factors = [random.choice((0.0, 0.5, 1.0, 2.0, 1e9, -1.0, float("nan"))) for _ in range(4)]
        return _put(draft, random, op, [None, np.array(factors, np.float32)])
    return _put(draft, random, op, [np.array(shape, np.int64)])


def cut(draft: Draft, random: Random) -> str:
    op = random.choice(("Slice", "Gather", "Split", "GatherND", "ScatterND", "TopK", "NonZero"))
    if op == "Slice":
        count = random.choice((1, 2, 4))
        return _put(draft, random, op, [_integers(random, count) for _ in range(4)])
    if op in {"Gather", "GatherND"}:
        axis = {"axis": random.choice((0, 1, 3, -1, 9))} if op == "Gather" else {}
        return _put(draft, random, op, [_integers(random, 1, 2)], axis)
    if op == "TopK":
        return _put(draft, random, op, [_integers(random, 1)])
    return _put(draft, random, op, [_integers(random, 1, 2)] if op != "NonZero" else [])


def kinds(draft: Draft, random: Random) -> str:
    op = random.choice(("Cast", "Cast", "Identity", "Dropout", "Shape", "Size", "IsNaN", "Not"))
    to = (
        {"to": random.choice((0, 1, 1, 6, 7, 8, 9, 10, 11, 14, 16, 17, 99))} if op == "Cast" else {}
    )
    return _put(draft, random, op, [], to)


def convolution(draft: Draft, random: Random) -> str:
    """A convolution with weights of many shapes, also on the edges of other convolutions."""
    out, inner, side = (random.choice((1, 1, 16, 16, 3, 0, 8)) for _ in range(3))
    shape = random.choice(((out, inner, side, side), (16, 16, 1, 1), (16, 1, 3, 3), (16, 16), (3,)))
    weights = np.full(shape, random.choice(FLOATS), np.float32)
    op = random.choice(("Conv", "Conv", "Conv", "Gemm", "MatMul", "ConvTranspose"))
    attributes: dict[str, Any] = {}
    if op == "Conv" and random.random() < 0.5:
        attributes = {"group": random.choice((1, 16, 0, -1, 3, 2**40))}
    if op == "Conv" and random.random() < 0.3:
        attributes["auto_pad"] = random.choice(("SAME_UPPER", "SAME_LOWER", "VALID", "?"))
    if op == "Gemm" and random.random() < 0.5:
        attributes = {"transB": 1, "alpha": random.choice(FLOATS), "beta": random.choice(FLOATS)}
    bias = [np.full(out, random.choice(FLOATS), np.float32)] if random.random() < 0.3 else []
    return _put(draft, random, op, [weights, *([] if op == "MatMul" else bias)], attributes)


def normalisation(draft: Draft, random: Random) -> str:
    op = random.choice(("BatchNormalization", "InstanceNormalization", "LayerNormalization"))
    length = random.choice((16, 16, 3, 1, 0))
    rows = [np.full(length, random.choice((*FLOATS, 1.0, 1.0, -1.0)), np.float32) for _ in range(4)]
    count = {"BatchNormalization": 4, "InstanceNormalization": 2}.get(op, 1)
    return _put(draft, random, op, rows[:count], {"epsilon": random.choice(FLOATS)})


def own_dialect(draft: Draft, random: Random) -> str:
    """Nodes of the converter's own operators, which no source has."""
    op = random.choice((*dialect.op_types(), "Quantise"))
    constants = [np.float32(random.choice(FLOATS)) for _ in range(random.choice((0, 1, 2, 2, 4)))]
    if random.random() < 0.5:
        draft.model.opset_import.add(domain=dialect.DOMAIN, version=random.choice((1, 2)))
    low, high = random.choice(((-128.0, 127.0), (0.0, 255.0), (5.0, -5.0), (float("nan"), 1e30)))
    attributes = random.choice(({}, {"qmin": low, "qmax": high}, {"qmin": -8, "qmax": "x"}))
    return _put(draft, random, op, constants, attributes, domain=dialect.DOMAIN)


MUTATIONS: tuple[Mutation, ...] = (
    reshape, transpose, pad, pool, activation, arithmetic, arithmetic_with_map, arithmetic_with_map,
    reduce, ranks, sizes, cut, kinds, convolution, normalisation, own_dialect,
)  # fmt: skip
