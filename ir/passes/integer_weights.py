"""Turns quantised constants into integers with a step."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.blocks import tensor_of
from dlaconv.ir.graph import insert_before, is_constant, is_op, take_over, unique_name
from dlaconv.ir.passes.fold_constants import fold
from dlaconv.ir.passes.linear_ops import LINEAR, channel_steps, drop_unused, output_axis
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.quantised_constants import constant_integers

Integers = tuple[np.ndarray, np.ndarray]
"""Integers, and the real value of one unit."""


@ir_pass()
def integer_weights(model: ir.Model, context: Context) -> None:
    """Replaces ``Quantize(constant)`` with ``Dequantize(integers)`` or with the values themselves.

    Weights of Conv, ConvTranspose, Gemm and MatMul become integers times a step per output
    channel; every other reader (biases, operands of Add) gets a float constant that holds exactly
    the same values: the integers of a bias depend on its layer's steps and are made later. What
    standard operators make of such values is folded, since it may be quantised once more.
    Sources that store integers have ``Dequantize`` nodes already; their other readers get the
    values, too.
    """
    graph = model.graph
    for node in [node for node in graph if dialect.is_dequantize(node)]:
        _give_values(node, graph, context)
    done: dict[ir.Node, ir.Value | None] = {}
    while nodes := [node for node in graph if node not in done and _quantises_constant(node)]:
        done |= {node: node.inputs[0] for node in nodes}
        for node in nodes:
            _replace(node, _integers(node), graph, context)
        fold(model)
    for value in dict.fromkeys(done.values()):
        if value is not None:
            drop_unused(value)


def _quantises_constant(node: ir.Node) -> bool:
    if not (dialect.is_quantize(node) or dialect.is_bipolar(node)):
        return False
    source = node.inputs[0]
    return source is not None and is_constant(source) and source.producer() is None


def _give_values(node: ir.Node, graph: ir.Graph, context: Context) -> None:
    """Gives what a ``Dequantize`` is worth to those of its readers that want no integers."""
    result, integers = node.outputs[0], node.inputs[0]
    if not is_constant(integers):
        return
    uses = [(use.node, use.idx) for use in result.uses()]
    kept = [use for use in uses if _is_weight(*use) and _has_channel_steps(node, *use)]
    if len(kept) < len([use for use in uses if _is_weight(*use)]):
        _note_no_integers(node, context)
    others = [use for use in uses if use not in kept]
    if others:
        reals = dialect.array_of(integers).astype(np.float32) * dialect.step_of(node)
        values = dialect.constant(unique_name(graph, f"{result.name}/values"), reals)
        graph.register_initializer(values)
        for reader, index in others:
            reader.replace_input_with(index, values)
        drop_unused(result)


def _has_channel_steps(node: ir.Node, reader: ir.Node, index: int) -> bool:
    """True if the steps of a ``Dequantize`` are one per output channel of its reader."""
    step, shape = dialect.step_of(node), dialect.array_of(node.inputs[0]).shape
    axis = _axis(reader, index, node.outputs[0])
    if step.size == 1:
        return True
    return 0 <= axis < len(shape) and channel_steps(step, shape, axis) is not None


def _replace(node: ir.Node, made: Integers | None, graph: ir.Graph, context: Context) -> None:
    result = node.outputs[0]
    weight_uses = [(use.node, use.idx) for use in result.uses() if _is_weight(use.node, use.idx)]
    other_uses = [(use.node, use.idx) for use in result.uses() if not _is_weight(use.node, use.idx)]
    name = result.name or ""
    if made is not None:
        integers, step = made
        holder = dialect.dequantize(
            dialect.constant(f"{name}/integers", integers),
            step,
            name=node.name or name,
            output=f"{name}/dequantised",
        )
        provenance.inherit(holder, node)
        insert_before(node, holder)
        if not other_uses or result.is_graph_output():
            take_over(result, holder.outputs[0])
            graph.remove(node, safe=True)
            return
        for consumer, index in weight_uses:
            consumer.replace_input_with(index, holder.outputs[0])
    elif weight_uses:
        _note_no_integers(node, context)
    if result.is_graph_output():  # it needs a node to stay one
        return
    values = dialect.constant(unique_name(graph, f"{name}/values"), _values(node))
    graph.register_initializer(values)
    result.replace_all_uses_with(values)
    graph.remove(node, safe=True)


def _note_no_integers(node: ir.Node, context: Context) -> None:
    context.rewrites.append(
        Rewrite(
            "integer_weights",
            provenance.location(node, None).layer,
            f"the weights '{node.outputs[0].name}' have no single step per output channel, a zero "
            "point between integers, or integers above 24 bits; they are treated as float weights "
            "and quantised anew",
            exact=False,
        )
    )


def _is_weight(node: ir.Node, index: int) -> bool:
    return (is_op(node, *LINEAR) and index == 1) or is_op(node, "MatMul")


def _axis(node: ir.Node, index: int, weights: ir.Value) -> int:
    """The axis of ``weights`` that counts the output channels of their reader, -1 for none."""
    if not is_op(node, "MatMul"):
        return output_axis(node)
    rank = len(weights.shape) if weights.shape is not None else 2
    if rank < 2:
        return -1
    return rank - 1 if index == 1 else rank - 2


def _integers(node: ir.Node) -> Integers | None:
    """Integers and steps of a quantised constant that is read as weights or returned.

    None for others, and if the hardware's form cannot hold them.

    Args:
        node: ``Quantize`` or ``Bipolar`` of a constant.
    """
    result = node.outputs[0]
    uses = [use for use in result.uses() if _is_weight(use.node, use.idx)]
    if not (uses or result.is_graph_output()):
        return None
    axes = {_axis(use.node, use.idx, result) for use in uses}
    constant = tensor_of(node.inputs[0])
    if dialect.is_bipolar(node):
        step = dialect.step_of(node)
        integers = np.where(constant.numpy() >= 0, np.int8(1), np.int8(-1))
    else:
        quantisation = dialect.quantisation_of(node)
        step = quantisation.step
        quantised = constant_integers(constant, quantisation)
        if quantised is None:
            return None
        integers = quantised
    if step.ndim > integers.ndim or not np.isfinite(step).all():
        return None
    if step.size == 1:
        return integers, step.reshape(())
    if len(axes) != 1:
        return None
    axis = next(iter(axes))
    steps = channel_steps(step, integers.shape, axis) if 0 <= axis < integers.ndim else None
    if steps is None:
        return None
    shape = [-1 if i == axis else 1 for i in range(integers.ndim)]
    return integers, steps.astype(np.float32).reshape(shape)


def _values(node: ir.Node) -> np.ndarray:
    """What a quantised constant is worth, computed as the node's body does."""
    array = dialect.array_of(node.inputs[0])
    if dialect.is_bipolar(node):
        step = dialect.step_of(node)
        return np.where(array >= 0, step, -step).astype(np.float32)
    quantisation: Quantisation = dialect.quantisation_of(node)
    return quantisation.on_grid(array).astype(np.float32)
