"""Names, order and declarations as the rest of dlaconv expects them, whatever wrote the file."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlaconv.ir.graph import rank_of


def normalise(model: ir.Model) -> None:
    """Tidies a freshly read model; computes the same, and keeps the names it has.

    Initializers leave the graph inputs (older exporters repeat them there), metadata and doc
    strings of the exporter go, open dimensions written as 0 or -1 become open, every node and
    value gets a name of its own, and nodes come behind what they read.
    """
    graph = model.graph
    for value in [value for value in graph.inputs if value.const_value is not None]:
        graph.inputs.remove(value)
    for value in graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape(
                [None if isinstance(dim, int) and dim < 1 else dim for dim in value.shape]
            )
    _forget(model)
    _drop_unnamed_outputs(graph)
    graph.name = graph.name or "network"
    graph.sort()
    _name_all(graph)


def _forget(model: ir.Model) -> None:
    graph = model.graph
    for thing in (model, graph):
        _keep_ours(thing.metadata_props)
        thing.doc_string = None
    for value in [*graph.inputs, *graph.initializers.values()]:
        value.metadata_props.clear()
        value.meta.clear()
    for node in graph.all_nodes():
        _keep_ours(node.metadata_props)
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.meta.clear()
            if value.shape is not None and rank_of(value):
                dims = list(value.shape)
                if any(isinstance(dim, int) and dim < 1 for dim in dims):
                    value.shape = None  # stale: written for a batch of 0


def _keep_ours(properties: dict[str, str]) -> None:
    """Drops all metadata but the provenance that the frontend has noted."""
    for key in [key for key in properties if not key.startswith("dlaconv.")]:
        del properties[key]


def _drop_unnamed_outputs(graph: ir.Graph) -> None:
    """Optional outputs that are left out at the end of a node's list."""
    for node in graph.all_nodes():
        used = len(node.outputs)
        while used > 1 and not node.outputs[used - 1].name and not node.outputs[used - 1].uses():
            used -= 1
        if used < len(node.outputs):
            node.resize_outputs(used)


def _name_all(graph: ir.Graph) -> None:
    values = [value for node in graph for value in node.outputs]
    fresh = _names({value.name or "" for value in [*graph.inputs, *values]} | {*graph.initializers})
    for node in graph:
        for value in node.outputs:
            if not value.name:
                value.name = fresh(f"{node.name or node.op_type}/out")
    taken: set[str] = set()
    fresh = _names({node.name or "" for node in graph})
    for node in graph:
        if not node.name:
            node.name = fresh(node.outputs[0].name or node.op_type)
        elif node.name in taken:
            node.name = fresh(node.name)
        taken.add(node.name)


def _names(taken: set[str]) -> Callable[[str], str]:
    counts: dict[str, int] = {}

    def fresh(stem: str) -> str:
        name = stem
        while not name or name in taken:
            counts[stem] = counts.get(stem, 0) + 1
            name = f"{stem}.{counts[stem]}"
        taken.add(name)
        return name

    return fresh
