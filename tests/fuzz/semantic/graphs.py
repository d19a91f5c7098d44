"""Nodes and edges: rewired, doubled, removed, in cycles, in masses."""

from __future__ import annotations

from random import Random

import onnx
from onnx import TensorProto, helper

from tests.fuzz.semantic.draft import Draft, Mutation, fresh, pick, some_node, value_names

_EVERY_OP = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
_LIKELY = (
    "Relu", "LeakyRelu", "PRelu", "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Div",
    "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Transpose",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Quant", "IntQuant", "BipolarQuant", "Trunc",
    "FloatQuant", "MultiThreshold", "Tanh", "Sigmoid", "HardSwish", "ReduceSum", "ReduceMean",
    "Pad", "Identity", "Dropout", "BatchNormalization", "Constant", "Shape", "Cast", "Clip",
    "QuantizeLinear", "DequantizeLinear", "QLinearConv", "Upsample", "Resize", "Slice", "Split",
    "Quantize", "Dequantize", "",
)  # fmt: skip
_DOMAINS = (
    "", "ai.onnx", "ai.onnx.ml", "qonnx", "qonnx.custom_op.general", "onnx.brevitas",
    "qonnx.custom_op.channels_last", "finn.custom_op.fpgadataflow", "org.dlaconv", "local",
    "com.microsoft", "ä", "x" * 3000,
)  # fmt: skip


def rewire(draft: Draft, random: Random) -> str:
    """An input reads any other value: wrong shapes, cycles, itself."""
    node = some_node(draft, random)
    if node is None or (index := pick(random, node.input)) is None:
        return ""
    node.input[index] = random.choice([*value_names(draft.graph), "", "nowhere"])
    return f"input {index} of {node.name!r} reads {node.input[index]!r}"


def read_itself(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None or (index := pick(random, node.input)) is None or not node.output:
        return ""
    node.input[index] = node.output[0]
    return f"{node.name!r} reads itself"


def swap_inputs(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None or len(node.input) < 2:
        return ""
    names = list(node.input)
    random.shuffle(names)
    node.input[:] = names
    return f"inputs of {node.name!r} shuffled"


def drop_inputs(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None or (index := pick(random, node.input)) is None:
        return ""
    del node.input[index:]
    return f"{node.name!r} has {index} inputs"


def add_inputs(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None:
        return ""
    count = random.choice((1, 1, 2, 40))
    node.input.extend(random.choice([*value_names(draft.graph), ""]) for _ in range(count))
    return f"{count} more inputs of {node.name!r}"


def change_outputs(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None:
        return ""
    how = random.choice(("none", "more", "empty", "taken"))
    if how == "none":
        del node.output[:]
    elif how == "more":
        node.output.extend(
            [fresh(draft, "more"), "", fresh(draft, "most")][: random.choice((1, 3))]
        )
    elif how == "empty" and node.output:
        node.output[0] = ""
    elif node.output:
        node.output[0] = random.choice(value_names(draft.graph))
    return f"outputs of {node.name!r}: {how}"


def remove_node(draft: Draft, random: Random) -> str:
    index = pick(random, draft.graph.node)
    if index is None:
        return ""
    name = draft.graph.node[index].name
    del draft.graph.node[index]
    return f"{name!r} removed"


def bridge(draft: Draft, random: Random) -> str:
    """Removes a node, and its readers read what it read."""
    index = pick(random, draft.graph.node)
    if index is None:
        return ""
    gone = draft.graph.node[index]
    if not gone.input or not gone.output:
        return ""
    name, source, result = gone.name, gone.input[0], gone.output[0]
    del draft.graph.node[index]
    for node in draft.graph.node:
        node.input[:] = [source if name == result else name for name in node.input]
    for output in draft.graph.output:
        if output.name == result:
            output.name = source
    return f"{name!r} bridged"


def repeat_node(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None:
        return ""
    copy = draft.graph.node.add()
    copy.CopyFrom(node)
    if random.random() < 0.7:
        copy.output[:] = [fresh(draft, f"{name}_again") for name in node.output]
    return f"{node.name!r} twice"


def shuffle_nodes(draft: Draft, random: Random) -> str:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in draft.graph.node]
    random.shuffle(nodes)
    del draft.graph.node[:]
    draft.graph.node.extend(nodes)
    return "order"


def other_operator(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None:
        return ""
    before = node.op_type
    node.op_type = random.choice(random.choice((_LIKELY, _EVERY_OP)))
    if random.random() < 0.5:
        del node.attribute[:]
    if node.op_type in {"Quant", "Trunc", "BipolarQuant"} or random.random() < 0.2:
        node.domain = random.choice(_DOMAINS)
    return f"{before} {node.name!r} becomes {node.op_type}"


def other_domain(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None:
        return ""
    node.domain = random.choice(_DOMAINS)
    return f"{node.name!r} in domain {node.domain[:40]!r}"


def output_anything(draft: Draft, random: Random) -> str:
    """Inputs, constants, inner values, the same value twice, unknown ones as graph outputs."""
    count = random.choice((1, 1, 2, 500))
    names = [*value_names(draft.graph), "nowhere"] if random.random() < 0.2 else None
    names = names or [*value_names(draft.graph)] or ["nowhere"]
    chosen = random.sample(names, min(count, len(names)))
    for name in chosen:
        if random.random() < 0.5:
            draft.graph.output.add(name=name)
        else:
            draft.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return f"graph outputs {chosen[:3]}"


def remove_outputs(draft: Draft, random: Random) -> str:
    del draft.graph.output[random.choice((0, 0, 1)) :]
    return f"{len(draft.graph.output)} graph outputs left"


def remove_nodes(draft: Draft, random: Random) -> str:
    del draft.graph.node[random.choice((0, 1, 2)) :]
    return f"{len(draft.graph.node)} nodes left"


def only_input_to_output(draft: Draft, random: Random) -> str:
    """A graph without nodes whose output is its input or a constant."""
    del draft.graph.node[random.choice((0, 1)) :]
    names = value_names(draft.graph)
    del draft.graph.output[:]
    draft.graph.output.add(name=random.choice(names))
    return f"the output is {draft.graph.output[0].name!r}"


def change_inputs(draft: Draft, random: Random) -> str:
    how = random.choice(("none", "more", "twice", "constants"))
    inputs = draft.graph.input
    if how == "none":
        del inputs[:]
    elif how == "more":
        for _ in range(random.choice((1, 3, 300))):
            name = fresh(draft, "spare")
            shape = random.choice(([1], [1, 3, 8, 8], [], None))
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    elif how == "twice":
        inputs.extend(list(inputs))
    else:
        for tensor in draft.graph.initializer:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            inputs.append(info)
    return f"graph inputs: {how}"


def input_as_constant(draft: Draft, random: Random) -> str:
    """A constant that a node reads becomes a graph input."""
    index = pick(random, draft.graph.initializer)
    if index is None:
        return ""
    tensor = draft.graph.initializer[index]
    info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    draft.graph.input.append(info)
    name = tensor.name
    del draft.graph.initializer[index]
    return f"{name!r} is fed"


def remove_constants(draft: Draft, random: Random) -> str:
    index = pick(random, draft.graph.initializer)
    if index is None:
        return ""
    if random.random() < 0.1:
        del draft.graph.initializer[:]
        return "all constants removed"
    name = draft.graph.initializer[index].name
    del draft.graph.initializer[index]
    return f"constant {name!r} removed"


def long_chain(draft: Draft, random: Random) -> str:
    """Hundreds of nodes on one edge."""
    node = some_node(draft, random)
    if node is None or (index := pick(random, node.input)) is None:
        return ""
    op, count = random.choice(("Identity", "Relu", "Flatten", "Cast")), random.choice((100, 500))
    source, last = node.input[index], node.input[index]
    made = []
    for number in range(count):
        result = f"chain/{source}/{number}"
        extra = {"to": 1} if op == "Cast" else {}
        made.append(helper.make_node(op, [last], [result], **extra))
        last = result
    draft.graph.node.extend(made)
    node.input[index] = last
    return f"{count} {op} before {node.name!r}"


def wide_fan(draft: Draft, random: Random) -> str:
    """One value with hundreds of readers that are all graph outputs."""
    node = some_node(draft, random)
    if node is None or not node.output:
        return ""
    op, count = random.choice(("Relu", "Identity", "Tanh")), random.choice((50, 200))
    for number in range(count):
        name = f"fan/{node.output[0]}/{number}"
        draft.graph.node.append(helper.make_node(op, [node.output[0]], [name]))
        draft.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return f"{count} {op} read {node.output[0]!r}"


def share_weights(draft: Draft, random: Random) -> str:
    """Two nodes with one constant, of whatever meaning."""
    nodes = [node for node in draft.graph.node if len(node.input) > 1]
    if len(nodes) < 2:
        return ""
    one, other = random.sample(nodes, 2)
    place = random.randrange(1, min(len(one.input), len(other.input)))
    one.input[place] = other.input[place]
    return f"{one.name!r} and {other.name!r} share input {place}"


MUTATIONS: tuple[Mutation, ...] = (
    rewire, rewire, rewire, read_itself, swap_inputs, drop_inputs, add_inputs, change_outputs,
    remove_node, bridge, bridge, repeat_node, shuffle_nodes, other_operator, other_operator,
    other_domain, output_anything, output_anything, remove_outputs, remove_nodes,
    only_input_to_output, change_inputs, input_as_constant, remove_constants, long_chain, wide_fan,
    share_weights,
)  # fmt: skip
