"""Makes one Transpose of several in a row."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.graph import bypass, drop_unread, ints_attribute, is_op, producer, rank_of
from dlaconv.ir.passes.layout_ops import Perm, compose, is_identity
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass()
def merge_transposes(model: ir.Model, context: Context) -> None:
    """Replaces ``Transpose(Transpose(x))`` with one Transpose of x, or with x."""
    del context
    for node in model.graph:
        inner = producer(node.inputs[0]) if is_op(node, "Transpose") else None
        if inner is None or not is_op(inner, "Transpose"):
            continue
        source = inner.inputs[0]
        first, second = _perm(inner), _perm(node)
        if source is None or first is None or second is None:
            continue
        merged = compose(first, second)
        node.replace_input_with(0, source)
        node.attributes["perm"] = ir.AttrInt64s("perm", merged)
        if is_identity(merged):
            bypass(node)
    drop_unread(model.graph)


def _perm(node: ir.Node) -> Perm | None:
    rank = rank_of(node.outputs[0])
    stated = ints_attribute(node, "perm")
    return stated or (None if rank is None else tuple(reversed(range(rank))))
