"""Multiplications of a network: what the size of a layer is measured in."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from dlaconv.ir.graph import attribute, is_op, shape_of


def macs(node: ir.Node) -> int:
    """Multiply-accumulate operations of one node for one sample; 0 while shapes are unknown.

    Counted are convolutions, transposed ones, fully connected layers and products of two maps;
    multiplications by a weight of zero count like all others.
    """
    if not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    shapes = [shape_of(value) if value is not None else None for value in node.inputs[:2]]
    result = shape_of(node.outputs[0])
    if None in shapes or result is None:
        return 0
    left, right = (shape or () for shape in shapes)
    if is_op(node, "Conv"):
        return math.prod(result) * math.prod(right[1:])
    if is_op(node, "ConvTranspose"):
        return math.prod(left) * math.prod(right[1:])
    if is_op(node, "Gemm"):
        return math.prod(result) * left[0 if attribute(node, "transA", 0) else -1]
    return math.prod(result) * (left[-1] if left else 0)


def total_macs(nodes: Iterable[ir.Node]) -> int:
    """The sum over nodes."""
    return sum(map(macs, nodes))
