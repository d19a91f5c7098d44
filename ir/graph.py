"""Small steps on graphs that many passes share: adding, replacing, walking nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """True if ``node`` is a standard ONNX node of one of ``op_types``."""
    return node is not None and node.domain in {"", "ai.onnx"} and node.op_type in op_types


def is_constant(value: ir.Value | None) -> bool:
    """True if a value is known at conversion time."""
    return value is not None and value.const_value is not None


def is_optional_input_absent(node: ir.Node, index: int) -> bool:
    """True if input ``index`` of a node is missing or empty."""
    return index >= len(node.inputs) or node.inputs[index] is None


def input_array(node: ir.Node, index: int) -> np.ndarray | None:
    """The constant array of an input, None if it is absent or no constant."""
    if is_optional_input_absent(node, index) or not is_constant(node.inputs[index]):
        return None
    return dialect.array_of(node.inputs[index])


def producer(value: ir.Value | None) -> ir.Node | None:
    """The node that makes a value, None for graph inputs and constants."""
    return value.producer() if value is not None else None


def consumers(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value, each once, in graph order of registration."""
    return list(dict.fromkeys(use.node for use in value.uses()))


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, None if there are several or it is a graph output."""
    nodes = consumers(value)
    return nodes[0] if len(nodes) == 1 and not value.is_graph_output() else None


def shape_of(value: ir.Value) -> tuple[int, ...] | None:
    """The static shape of a value, None if any part of it is unknown."""
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        return None
    return tuple(int(dim) for dim in value.shape)  # type: ignore[arg-type]


def rank_of(value: ir.Value) -> int | None:
    """The number of dimensions of a value, None if unknown."""
    return None if value.shape is None else len(value.shape)


def attribute(node: ir.Node, name: str, default: float | str) -> int | float | str:
    """A scalar attribute of a node, ``default`` if it is absent."""
    found = node.attributes.get(name)
    if found is None:
        return default
    value = found.value
    return value.decode() if isinstance(value, bytes) else value


def ints_attribute(node: ir.Node, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """A list-of-integers attribute of a node, ``default`` if it is absent."""
    found = node.attributes.get(name)
    return tuple(default) if found is None else tuple(int(value) for value in found.value)


def moved(node: ir.Node, array: np.ndarray) -> np.ndarray:
    """What a Transpose or Reshape makes of an array that broadcasts against its input."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    shape, target = shape_of(source) or (), shape_of(result) or ()
    if is_op(node, "Transpose"):
        backwards = tuple(range(len(shape)))[::-1]
        return array.transpose(ints_attribute(node, "perm", backwards))
    if array.size == 1:
        return array.reshape((1,) * len(target))
    return np.broadcast_to(array, shape).reshape(target)


def register_constants(graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Makes the constants that new nodes read initializers of the graph, under unique names."""
    for node in nodes:
        for value in node.inputs:
            if value is None or value.const_value is None or value.is_initializer():
                continue
            if value.producer() is not None:  # a Constant node holds it
                continue
            value.name = unique_name(graph, value.name or "constant")
            value.const_value.name = value.name
            graph.register_initializer(value)


class _Names:
    """The value names of one graph, and how often a stem was asked for.

    Counting from 1 for every new name would make passes quadratic: sources share their constants,
    so thousands of new values have one stem.
    """

    def __init__(self, graph: ir.Graph) -> None:
        values = [*graph.inputs, *graph.initializers.values()]
        values += [output for node in graph for output in node.outputs]
        self.taken = {value.name or "" for value in values} | {""}
        self.counts: dict[str, int] = {}


_NAMES: WeakKeyDictionary[ir.Graph, _Names] = WeakKeyDictionary()


def unique_name(graph: ir.Graph, stem: str) -> str:
    """A name derived from ``stem`` that no value of the graph has, or ever had."""
    names = _NAMES.get(graph)
    if names is None:
        names = _NAMES[graph] = _Names(graph)
    name, count = stem, names.counts.get(stem, 0)
    while name in names.taken or name in graph.initializers:
        count += 1
        name = f"{stem}.{count}"
    names.counts[stem] = count
    names.taken.add(name)
    return name


def insert_before(anchor: ir.Node, *nodes: ir.Node) -> None:
    """Puts new nodes before ``anchor``, with its provenance unless they have their own."""
    graph = anchor.graph
    assert isinstance(graph, ir.Graph)
    for node in nodes:
        if "dlaconv.layer" not in node.metadata_props:
            provenance.inherit(node, anchor)
    graph.insert_before(anchor, list(nodes))
    register_constants(graph, nodes)


def insert_after(value: ir.Value, *nodes: ir.Node) -> None:
    """Puts new nodes right behind the maker of a value, or first for a graph input."""
    made_by = value.producer()
    graph = value.graph
    assert isinstance(graph, ir.Graph)
    if made_by is not None:
        graph.insert_after(made_by, list(nodes))
    elif (first := next(iter(graph), None)) is not None:
        graph.insert_before(first, list(nodes))
    else:
        graph.extend(nodes)
    register_constants(graph, nodes)


def replace_node(old: ir.Node, *nodes: ir.Node) -> None:
    """Replaces a one-output node: the last of ``nodes`` takes over name and uses of its output."""
    insert_before(old, *nodes)
    take_over(old.outputs[0], nodes[-1].outputs[0])
    remove(old)


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Moves the name, shape and every use (graph outputs too) of ``old`` to ``new``."""
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = f"{name}/replaced"
    new.name = name
    if new.shape is None:
        new.shape = old.shape
    if new.type is None:
        new.type = old.type


def bypass(node: ir.Node) -> bool:
    """Removes a node that does nothing: its first input takes the place of its first output.

    The output's name survives where it is a graph output.

    Returns:
        False if the node must stay: it copies a graph input, a constant or another graph output
        to a graph output.
    """
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    was_output = result.is_graph_output()
    if was_output and (source.producer() is None or source.is_graph_output()):
        return False
    if source.shape is None:
        source.shape = result.shape
    name = result.name
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    remove(node)
    if was_output:
        source.name = name
    return True


def remove(node: ir.Node) -> None:
    """Takes a node whose outputs are unused out of its graph."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    graph.remove(node, safe=True)


def drop_unread(graph: ir.Graph) -> None:
    """Removes every node and every initializer that nothing reads."""
    for node in reversed(graph):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    unread = [
        name
        for name, value in graph.initializers.items()
        if not (value.uses() or value.is_graph_output() or value.is_graph_input())
    ]
    for name in unread:
        del graph.initializers[name]
