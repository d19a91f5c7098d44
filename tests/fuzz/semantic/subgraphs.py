"""Graphs inside nodes, and functions: nested, recursive, exploding, shadowing operators."""

from __future__ import annotations

import itertools
from random import Random

import onnx
from onnx import TensorProto, helper

from tests.fuzz.semantic.draft import Draft, Mutation, fresh, some_node, value_names


def _branch(draft: Draft, random: Random, depth: int) -> onnx.GraphProto:
    outer = [name for name in value_names(draft.graph) if name] or ["x"]
    name = f"inner{depth}"
    node = helper.make_node("Identity", [random.choice(outer)], [name], name=f"i{depth}")
    if depth:
        inner = _branch(draft, random, depth - 1)
        node = helper.make_node(
            "If", [outer[0]], [name], f"if{depth}", then_branch=inner, else_branch=inner
        )
    info = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([node], f"branch{depth}", [], [info])


def branch(draft: Draft, random: Random) -> str:
    """An If, Loop or Scan on an edge, nested or not."""
    node = some_node(draft, random)
    if node is None or not node.input:
        return ""
    depth = random.choice((0, 0, 1, 3, 7))
    graph = _branch(draft, random, depth)
    name = fresh(draft, "branch")
    kind = random.choice(("If", "Loop", "Scan"))
    graphs = {"then_branch": graph, "else_branch": graph} if kind == "If" else {"body": graph}
    extra = {"num_scan_inputs": random.choice((1, 0, 2**40))} if kind == "Scan" else {}
    made = helper.make_node(kind, list(node.input[:1]), [name], name, **graphs, **extra)
    draft.graph.node.append(made)
    node.input[0] = name
    return f"{kind} {depth} deep before {node.name!r}"


def graph_attribute(draft: Draft, random: Random) -> str:
    """A graph where an operator wants none: the whole network inside one of its nodes."""
    node = some_node(draft, random)
    if node is None:
        return ""
    copy = onnx.GraphProto()
    copy.CopyFrom(draft.graph)
    if copy.ByteSize() > 200_000:
        return ""
    graphs = random.choice((copy, [copy, copy]))
    node.attribute.append(helper.make_attribute(random.choice(("body", "value", "pads")), graphs))
    return f"the network inside {node.name!r}"


def recursion(draft: Draft, random: Random) -> str:
    """Functions that call themselves, or each other."""
    count = random.choice((1, 2, 5))
    for number in range(count):
        callee = f"F{(number + 1) % count}"
        _define(draft, f"F{number}", [helper.make_node(callee, ["a"], ["b"], domain="local")])
    return _call(draft, random, "F0") and f"{count} functions in a circle"


def explosion(draft: Draft, random: Random) -> str:
    """Functions that call the one below many times: few bytes, many nodes."""
    depth, width = random.choice(((3, 3), (8, 10), (30, 2), (64, 10), (900, 1), (5000, 1)))
    for level in range(depth):
        below = [f"E{level - 1}", "local"] if level else ["Relu", ""]
        names = ["a", *(f"v{number}" for number in range(width - 1)), "b"]
        body = [
            helper.make_node(below[0], [source], [result], domain=below[1])
            for source, result in itertools.pairwise(names)
        ]
        _define(draft, f"E{level}", body)
    return _call(draft, random, f"E{depth - 1}") and f"{depth} levels of {width} calls"


def shadow(draft: Draft, random: Random) -> str:
    """A function with the name of an operator that the network uses."""
    node = some_node(draft, random)
    if node is None:
        return ""
    count = random.choice((len(node.input), 1, 0))
    names = [f"a{number}" for number in range(count)]
    op, extra = random.choice((("Relu", {}), ("Identity", {}), ("Cast", {"to": 1}), (None, {})))
    if op is None:
        body = [helper.make_node(node.op_type, names, ["b"], domain=node.domain)]
    else:
        body = [helper.make_node(op, names[:1], ["b"], **extra)]
    made = helper.make_function(
        node.domain, node.op_type, names, ["b"], body, [helper.make_opsetid("", 18)]
    )
    draft.model.functions.append(made)
    return f"{node.domain!r} {node.op_type} is a function"


def function_body(draft: Draft, random: Random) -> str:
    """A function of the model loses inputs, nodes or its opset, or gets odd ones."""
    functions = draft.model.functions
    if not functions:
        return ""
    chosen = random.choice(functions)
    how = random.choice(("inputs", "outputs", "nodes", "opsets", "reference", "twice", "opset"))
    if how == "reference" and chosen.node:
        chosen.node[0].attribute.add(name="alpha", ref_attr_name="none", type=1)
    elif how == "twice":
        functions.append(chosen)
    elif how == "opset" and chosen.opset_import:
        chosen.opset_import[0].version = random.choice((0, 1, 7, 13, 21, 99))
    else:
        name = {"inputs": "input", "outputs": "output", "nodes": "node", "opsets": "opset_import"}
        part = getattr(chosen, name.get(how, "node"))
        if not len(part):
            return ""
        del part[random.randrange(len(part)) :]
    return f"{chosen.name!r}: {how}"


def _define(draft: Draft, name: str, body: list[onnx.NodeProto]) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    draft.model.functions.append(helper.make_function("local", name, ["a"], ["b"], body, opsets))


def _call(draft: Draft, random: Random, name: str) -> str:
    node = some_node(draft, random)
    if node is None or not node.input:
        return ""
    if not any(entry.domain == "local" for entry in draft.model.opset_import):
        draft.model.opset_import.add(domain="local", version=1)
    result = fresh(draft, "called")
    draft.graph.node.append(helper.make_node(name, [node.input[0]], [result], domain="local"))
    node.input[0] = result
    return name


MUTATIONS: tuple[Mutation, ...] = (
    branch, branch, graph_attribute, recursion, explosion, shadow, function_body, function_body,
)  # fmt: skip
