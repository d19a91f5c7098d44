"""Where a node comes from in the source; every message and report row uses it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir

from dlaconv.diagnostics import Location

_LAYER, _OP, _LINE = "dlaconv.layer", "dlaconv.op", "dlaconv.line"
_LOSS = "dlaconv.loss"
_PRUNING = "dlaconv.pruning"
_FILE = "dlaconv.source_file"
_WEIGHT_FILES = "dlaconv.weight_files"


def mark(node: ir.Node, layer: str, op: str, line: int = 0) -> ir.Node:
    """Notes the source layer of a node and returns the node.

    Args:
        node: the node to mark.
        layer: the layer's name in the source.
        op: the layer's type in the source.
        line: 1-based line in the source file, 0 where the format has no lines.
    """
    node.metadata_props[_LAYER] = layer
    node.metadata_props[_OP] = op
    if line:
        node.metadata_props[_LINE] = str(line)
    return node


def name_source(model: ir.Model, file: str) -> None:
    """Notes the file that a model was read from."""
    model.metadata_props[_FILE] = file


def name_weight_files(model: ir.Model, files: Iterable[Path]) -> None:
    """Notes the further files that a model's weights are read from, later on as well."""
    model.meta[_WEIGHT_FILES] = tuple(files)


def weight_files(model: ir.Model) -> tuple[Path, ...]:
    """The further files that a model's weights are read from."""
    files: tuple[Path, ...] = model.meta.get(_WEIGHT_FILES, ())
    return files


def mark_all(model: ir.Model, file: str) -> None:
    """Marks every unmarked node of a freshly read model with its own name and type."""
    name_source(model, file)
    for node in model.graph.all_nodes():
        if _LAYER not in node.metadata_props:
            mark(node, node.name or (node.outputs[0].name or ""), node.op_type)


def inherit(node: ir.Node, source: ir.Node) -> ir.Node:
    """Gives a new node the provenance of the node it replaces, and returns it."""
    for key in (_LAYER, _OP, _LINE, _LOSS):
        if key in source.metadata_props:
            node.metadata_props[key] = source.metadata_props[key]
    return node


def mark_loss(node: ir.Node, words: str) -> None:
    """Notes on a quantise node how it differs from the source's, in words."""
    node.metadata_props[_LOSS] = words


def loss(node: ir.Node | None) -> str:
    """How a quantise node differs from the source's, empty if it does not."""
    return node.metadata_props.get(_LOSS, "") if node is not None else ""


def mark_pruning(node: ir.Node) -> None:
    """Notes on a multiplication that its zeros stand for elements without bits."""
    node.metadata_props[_PRUNING] = "1"


def is_pruning(node: ir.Node) -> bool:
    """True for a node that `mark_pruning` has marked."""
    return _PRUNING in node.metadata_props


def location(node: ir.Node | None, model: ir.Model | None = None) -> Location:
    """The place in the source that a node stands for."""
    if node is None:
        return Location(file=source_file(model))
    props = node.metadata_props
    line = props.get(_LINE, "")
    return Location(
        file=source_file(model),
        line=int(line) if line.isdecimal() and len(line) < 10 else 0,  # a file may say anything
        layer=props.get(_LAYER, node.name or ""),
        op=props.get(_OP, node.op_type),
    )


def source_file(model: ir.Model | None) -> str:
    """Path of the file that a model was read from, empty when unknown."""
    return model.metadata_props.get(_FILE, "") if model is not None else ""
