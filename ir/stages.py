"""The stages of a conversion, each with the table of structural invariants that hold in it.

Only the structure is checked here: an invariant that does not hold is a bug of ours. Hardware
limits are rules (`dlaconv.backends.access.rules`) and speak to the user.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.graph import consumers, is_constant, is_op, producer
from dlaconv.ir.layers import PIPELINED, ROUNDING


class Stage(enum.Enum):
    """How far a model has come; each stage includes the invariants of those before it."""

    IMPORTED = "imported"
    """Standard operators of opset 18, and quantise nodes as the source has them."""
    CANONICAL = "canonical"
    """One form per operator, static shapes, constants folded, batch norms folded."""
    LEGAL = "legal"
    """Rewritten, where that is possible, so that operators and windows fit the hardware."""
    MAPPED = "mapped"
    """Every stored map has exactly one quantise node."""
    SCALED = "scaled"
    """One power-of-two step per map, weights and biases on their grids."""


@dataclass(frozen=True)
class Row:
    """What a node must satisfy.

    Attributes:
        words: the invariant.
        holds: its predicate.
        ops: operators that it is about, of any domain; all if there are none.
    """

    words: str
    holds: Callable[[ir.Node], bool]
    ops: tuple[str, ...] = ()


LINEAR = ("Conv", "Gemm")


def _parameters_constant(node: ir.Node) -> bool:
    return node.domain != dialect.DOMAIN or all(is_constant(value) for value in node.inputs[1:])


def _explicit_window(node: ir.Node) -> bool:
    if not is_op(node, "Conv", "MaxPool", "AveragePool"):
        return True
    written = {"kernel_shape", "strides", "pads"} | ({"group"} if is_op(node, "Conv") else set())
    return "auto_pad" not in node.attributes and written <= node.attributes.keys()


def _static(node: ir.Node) -> bool:
    for value in node.outputs:
        if (value.shape is None or not value.shape.is_static()) and value.uses():
            return False
    return True


def _fc_form(node: ir.Node) -> bool:
    if not is_op(node, "Gemm"):
        return True
    attributes = node.attributes
    return (
        attributes.get_float("alpha", 1.0) == 1.0
        and attributes.get_float("beta", 1.0) == 1.0
        and attributes.get_int("transA", 0) == 0
        and attributes.get_int("transB", 0) == 1
        and _constant_weights(node.inputs[1])
    )


def _constant_weights(value: ir.Value | None) -> bool:
    holder = value.producer() if value is not None else None
    return is_constant(holder.inputs[0] if holder and dialect.is_dequantize(holder) else value)


def _integer_constants(node: ir.Node) -> bool:
    if not (dialect.is_quantize(node) or dialect.is_bipolar(node)):
        return True
    return not is_constant(node.inputs[0]) or node.outputs[0].is_graph_output()


def _one_shape_op(node: ir.Node) -> bool:
    if is_op(node, "Reshape"):
        return is_constant(node.inputs[1])
    return not is_op(node, "Flatten", "Squeeze", "Unsqueeze")


def _rounded_once(node: ir.Node) -> bool:
    """The result goes to one quantise node, at most through the activation that is pipelined."""
    if not is_op(node, *ROUNDING):
        return True
    value = node.outputs[0]
    for _ in range(2):
        readers = consumers(value)
        if value.is_graph_output() or len(readers) > 1:
            return False
        if not readers or dialect.is_quantize(readers[0]):
            return True
        if not is_op(readers[0], *PIPELINED):
            return False
        value = readers[0].outputs[0]
    return False


def _host_sign(node: ir.Node) -> bool:
    if not dialect.is_bipolar(node):
        return True
    x, nodes = node.inputs[0], consumers(node.outputs[0])
    read = x is not None and x.is_graph_input()
    return read and len(nodes) == 1 and dialect.is_quantize(nodes[0])


def _integers_with_steps(node: ir.Node) -> bool:
    if not is_op(node, "Conv", "Gemm"):
        return True
    holders = [producer(value) for value in node.inputs[1:] if value is not None]
    types = [
        holder.inputs[0].dtype
        for holder in holders
        if holder is not None and dialect.is_dequantize(holder) and holder.inputs[0] is not None
    ]
    return (
        len(types) == len(holders) and types == [ir.DataType.INT8, ir.DataType.INT32][: len(types)]
    )


def _power_of_two(node: ir.Node) -> bool:
    if not dialect.is_quantize(node):
        return True
    quantisation = dialect.quantisation_of(node)
    return (
        quantisation.per_tensor
        and quantisation.symmetric
        and PowerOfTwo.exactly(quantisation.scalar_step) is not None
    )


def _no_copy(node: ir.Node) -> bool:
    if is_op(node, "Identity"):  # a graph output cannot be an input, constant or other output
        source = node.inputs[0]
        needed = source is None or source.producer() is None or source.is_graph_output()
        return needed and node.outputs[0].is_graph_output()
    return not is_op(node, "Dropout", "Constant")


_QUANTISERS = tuple(dialect.op_types())
SPEC: dict[Stage, tuple[Row, ...]] = {
    Stage.IMPORTED: (
        Row("quantisation parameters are constants", _parameters_constant, _QUANTISERS),
    ),
    Stage.CANONICAL: (
        Row("shapes are static", _static),
        Row("elements of a map have one grid", lambda node: not dialect.is_fixed_point(node)),
        Row("windows are explicit", _explicit_window, ("Conv", "MaxPool", "AveragePool")),
        Row("fully connected layers are Gemm with transB", _fc_form, ("Gemm",)),
        Row(
            "constants are integers or floats, not quantised at run time",
            _integer_constants,
            _QUANTISERS,
        ),
        Row(
            "shapes change by Reshape with a constant shape",
            _one_shape_op,
            ("Reshape", "Flatten", "Squeeze", "Unsqueeze"),
        ),
        Row(
            "no Identity, Dropout or Constant node is left",
            _no_copy,
            ("Identity", "Dropout", "Constant"),
        ),
    ),
    Stage.LEGAL: (),
    Stage.MAPPED: (
        Row("each result of a layer goes to one quantise node", _rounded_once, ROUNDING),
        Row("signs are taken of graph inputs only", _host_sign, (dialect.BIPOLAR,)),
    ),
    Stage.SCALED: (
        Row("map steps are powers of two", _power_of_two, _QUANTISERS),
        Row("weights are int8 and biases int32, with their steps", _integers_with_steps, LINEAR),
    ),
}


def broken_invariants(model: ir.Model, stage: Stage) -> Iterator[tuple[str, str]]:
    """Yields (node name, invariant) for every invariant of ``stage`` that does not hold."""
    general, special = _rows(stage)
    for node in model.graph:
        for row in (*general, *special.get(node.op_type, ())):
            if not row.holds(node):
                yield node.name or node.op_type, f"'{row.words}' does not hold"


@cache
def _rows(stage: Stage) -> tuple[list[Row], dict[str, list[Row]]]:
    """The rows of a stage and of those before it: for every operator, and by operator."""
    order = list(Stage)
    general: list[Row] = []
    special: dict[str, list[Row]] = {}
    for row in (row for reached in order[: order.index(stage) + 1] for row in SPEC[reached]):
        if not row.ops:
            general.append(row)
        for op_type in row.ops:
            special.setdefault(op_type, []).append(row)
    return general, special
