"""Refuses what the hardware has no operator for, every node in one run."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import ConversionError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.blocks import each_block, forget
from dlaconv.ir.graph import is_constant, is_op, producer, shape_of
from dlaconv.ir.layers import PIPELINED, ROUNDING, SAME_SCALE
from dlaconv.ir.layout_names import own_layout
from dlaconv.ir.passes.maps.requantise import stored_quantisers
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.saturation import saturating_clip

_LEAST_RANK = 2
_SUPPORTED = frozenset(ROUNDING) | frozenset(SAME_SCALE) | frozenset(PIPELINED)


@ir_pass()
def known_operators(model: ir.Model, context: Context) -> None:
    """Checks that every node is an operator of the hardware, in a form that it could run.

    Limits of size are rules and come later; what is refused here has no meaning on the hardware.

    Raises:
        ConversionError: listing every such node, and the errors of the passes before.
    """
    problems = [*_port_problems(model), *_flat_maps(model)]
    lacking: list[ir.Node] = []
    for node in model.graph:
        problem = problem_of(node)
        if problem is not None and problem[1] == "unconvertible-operator":
            lacking.append(node)
        elif problem is not None:
            rule, name, message, help_ = problem
            problems.append(
                Diagnostic(
                    rule, name, message, location=provenance.location(node, model), help=help_
                )
            )
    if lacking:
        problems.append(_unconvertible(lacking, model, context))
    if problems or context.diagnostics.errors:
        raise ConversionError([*context.diagnostics, *problems])


def _port_problems(model: ir.Model) -> list[Diagnostic]:
    """Inputs of several samples, and outputs that depend on no input."""
    problems = []
    for value in model.graph.inputs:
        shape = shape_of(value) or (1,)
        if value.uses() and shape[:1] != (1,):
            source, sizes = own_layout(value.name or "", (1, *shape[1:]))
            problems.append(
                Diagnostic(
                    "DLA306",
                    "batch-size",
                    f"graph input {source!r} takes {shape[0]} samples at once; the hardware "
                    "runs one",
                    location=provenance.location(None, model),
                    help=f"give --set-shape {source}={','.join(map(str, sizes))}",
                )
            )
    problems += [
        Diagnostic(
            "DLA307",
            "constant-output",
            f"graph output {value.name!r} depends on no input",
            location=provenance.location(value.producer(), model),
            help="remove the output; its value never changes",
        )
        for value in model.graph.outputs
        if _fixed(value)
    ]
    return problems


def _flat_maps(model: ir.Model) -> list[Diagnostic]:
    """Maps without a channel axis that a layer of ours would have to requantise."""
    nodes = [node for node in model.graph if dialect.is_bipolar(node)]
    return [
        Diagnostic(
            "DLA308",
            "map-without-channels",
            f"map {node.outputs[0].name!r} of shape {list(shape)} has no axis of channels",
            location=provenance.location(node, model),
            help="give it the shape [1, C]",
        )
        for node in [*stored_quantisers(model), *nodes]
        if len(shape := shape_of(node.outputs[0]) or ()) < _LEAST_RANK
    ]


def _fixed(value: ir.Value) -> bool:
    """True for a constant, and for what is computed from constants only, such as weights."""
    node = value.producer()
    if node is None:
        return is_constant(value)
    return all(is_constant(source) for source in node.inputs if source is not None)


def _unconvertible(nodes: list[ir.Node], model: ir.Model, context: Context) -> Diagnostic:
    """One finding for all nodes that the hardware has no operator for."""
    counts = Counter(_operator(node) for node in nodes)
    named = ", ".join(op if n == 1 else f"{op} ({n} nodes)" for op, n in counts.items())
    first, *others = nodes
    listed = [
        f"{_operator(node)} in layer {provenance.location(node, model).layer!r}"
        + "".join(f" ({why})" for why in _reasons(node, context))
        for node in others
    ]
    if why := _reasons(first, context):
        listed.insert(0, "; ".join(why))
    return Diagnostic(
        "DLA301",
        "unconvertible-operator",
        f"the hardware has no {named}",
        location=provenance.location(first, model),
        help="give it to the host with --partition, or remove it from the network",
        notes=tuple(listed),
    )


def _reasons(node: ir.Node, context: Context) -> list[str]:
    """Why no rewrite helps a node."""
    reasons = context.blocked.get(node.outputs[0].name or "", [])
    if not reasons and is_op(node, "Mul") and not any(map(is_constant, node.inputs)):
        return ["both operands are computed, and the hardware multiplies by constants only"]
    return reasons


def _operator(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def problem_of(node: ir.Node) -> tuple[str, str, str, str] | None:
    """Why the hardware cannot run a node: id, name, message and remedy; None if it can."""
    if dialect.is_quantize(node) or dialect.is_dequantize(node) or dialect.is_bipolar(node):
        return None
    if not is_op(node, *_SUPPORTED) and saturating_clip(node) is None:
        return (
            "DLA301",
            "unconvertible-operator",
            f"the hardware has no {_operator(node)}",
            "remove it from the network, or run it on the host",
        )
    constants = [i for i, value in enumerate(node.inputs) if _constant_weight(value)]
    if is_op(node, "Conv", "Gemm") and 1 not in constants:
        return (
            "DLA302",
            "computed-weights",
            "the weights are computed by the network; the hardware wants constants",
            "",
        )
    if is_op(node, "Conv", "Gemm") and (unusable := _unusable(node)):
        return (
            "DLA309",
            "unusable-constant",
            unusable,
            "look for a division by zero in training or export, or for a layer without channels",
        )
    if 0 in constants or (is_op(node, "Add", "Div", "MatMul", "Concat") and constants):
        wanted = "two maps" if is_op(node, "Add", "Div", "MatMul", "Concat") else "a map"
        return (
            "DLA303",
            "unfolded-constant",
            f"an operand of {node.op_type} is a constant; the hardware reads {wanted}",
            "fold it into the bias or the weights of the layer before it",
        )
    if is_op(node, "Add", "Div", "MatMul") and len(node.inputs) != 2:
        return ("DLA304", "malformed-operator", f"{node.op_type} needs two operands", "")
    if is_op(node, "PRelu", "LeakyRelu") and not _finite_slopes(node):
        return (
            "DLA309",
            "unusable-constant",
            f"a slope of {node.op_type} is infinite or no number",
            "look for divisions by zero in training; export the network again",
        )
    return None


def _unusable(node: ir.Node) -> str:
    """What no integer can stand for in a layer's constants, in words; empty if there is nothing."""
    for word, value in zip(("weights", "bias"), node.inputs[1:], strict=False):
        if value is None:
            continue
        holder = producer(value)
        if holder is not None and dialect.is_dequantize(holder):
            value = holder.inputs[0]  # integers
        if not is_constant(value):
            continue
        array = np.atleast_1d(dialect.array_of(value))
        if not array.size:
            return f"the {word} of shape {list(array.shape)} are empty"
        if array.dtype.kind != "f" or (word == "bias" and _only_its_sign(node)):
            continue
        if wrong := _count_unfinite(array):
            return f"{wrong} of {array.size} values of the {word} are not finite"
    return ""


def _count_unfinite(array: np.ndarray) -> int:
    def count(rows: slice) -> int:
        block = array[rows]
        found = block.size - int(np.isfinite(block).sum())
        forget(block)
        return found

    return sum(each_block(count, array.shape))


def _only_its_sign(node: ir.Node) -> bool:
    """True if only signs are taken of a result: an infinite bias decides them like a large one."""
    uses = node.outputs[0].uses()
    return bool(uses) and all(dialect.is_bipolar(use.node) for use in uses)


def _finite_slopes(node: ir.Node) -> bool:
    slopes = [dialect.array_of(value) for value in node.inputs[1:] if is_constant(value)]
    if is_op(node, "LeakyRelu"):
        try:
            slopes.append(np.asarray(node.attributes.get_float("alpha", 0.01)))
        except TypeError:  # a function's attribute of another type, which ONNX does not check
            return False
    return all(np.isfinite(array).all() for array in slopes)


def _constant_weight(value: ir.Value | None) -> bool:
    return is_constant(value) or dialect.is_dequantize(producer(value))
