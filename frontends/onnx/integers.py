"""What the integers between ONNX's quantisers are worth: the tensors of a file and their reals.

ONNX computes with integers between QuantizeLinear (or a QLinear operator) and DequantizeLinear;
scale and zero point stand at the operators. Stage IMPORTED holds real values only, so every integer
tensor gets a real one of the same shape, and whatever reads or moves the integers reads or moves
the reals instead. ``clip(round(x / s) + z, low, high)`` less ``z`` is ``clip(round(x / s),
low - z, high - z)``: with the zero point in the ends nothing is lost, ties at odd zero points
included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.handlers import Import
from dlaconv.frontends.onnx import parameters
from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    insert_before,
    is_constant,
    is_optional_input_absent,
    unique_name,
)
from dlaconv.ir.quantisation import Quantisation

RANGES: dict[ir.DataType, tuple[int, int]] = {
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-(1 << 15), (1 << 15) - 1),
    ir.DataType.UINT16: (0, (1 << 16) - 1),
    ir.DataType.INT32: (-(1 << 31), (1 << 31) - 1),
}
"""The element types that quantised tensors have, and their ends."""
_TYPES = (np.int8, np.int16, np.int32)


@dataclass(frozen=True, eq=False)
class Grid:
    """How the integers of a tensor stand for real values: ``(q - zero_point) * scale``.

    Attributes:
        scale: float32, shape ``[]`` or one that broadcasts against the tensor.
        zero_point: int64, likewise.
        low: smallest integer.
        high: largest integer.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    low: int
    high: int

    @property
    def per_tensor(self) -> bool:
        """True if one scale and one zero point serve the whole tensor."""
        return bool(self.scale.size == 1 and self.zero_point.size == 1)

    def same_values(self, other: Grid) -> bool:
        """True if every integer is worth the same on both."""
        return (
            self.scale.shape == other.scale.shape
            and bool((self.scale == other.scale).all())
            and self.zero_point.shape == other.zero_point.shape
            and bool((self.zero_point == other.zero_point).all())
        )

    def real(self, integer: int | np.ndarray) -> np.ndarray:
        """The real value of integers, float32."""
        return np.asarray((np.float32(1) * (integer - self.zero_point)) * self.scale, np.float32)

    def quantisation(self, *, zero_first: bool = False) -> Quantisation:
        """The same in the terms of the dialect; every zero point is equal.

        Args:
            zero_first: adds the zero point before rounding, which makes a difference at ties if it
                is odd.
        """
        zero = int(self.zero_point.flat[0])
        if zero_first and zero % 2:
            return Quantisation(self.scale, np.asarray(zero, np.float32), self.low, self.high)
        zeros = np.zeros((), np.float32)
        return Quantisation(self.scale, zeros, self.low - zero, self.high - zero)


@dataclass(frozen=True, eq=False)
class Stored:
    """An integer tensor of the source.

    Attributes:
        real: the real values in its place.
        grid: what its integers are worth.
        dtype: its element type.
        unrounded: what is rounded to them, None if a Clip cannot narrow that rounding.
    """

    real: ir.Value
    grid: Grid
    dtype: ir.DataType
    unrounded: ir.Value | None = None


@dataclass
class OnnxImport(Import):
    """A plain ONNX model on its way to stage IMPORTED.

    Attributes:
        stored: what became of each integer tensor so far.
        unknown: results of nodes that were refused, of which nothing more needs to be said.
        replaced: nodes of the source whose results nothing reads any more.
        interface: integer graph inputs and outputs that became real ones, in words.
    """

    stored: dict[ir.Value, Stored] = field(default_factory=dict)
    unknown: set[ir.Value] = field(default_factory=set)
    replaced: list[ir.Node] = field(default_factory=list)
    interface: list[str] = field(default_factory=list)


def grid_of(
    node: ir.Node,
    scale_index: int | None,
    zero_index: int,
    state: OnnxImport,
    *,
    kind: ir.DataType | None,
    axis: int | None = None,
    rank: int | None = None,
    what: str = "",
) -> Grid | None:
    """Reads the parameters of a quantised tensor; None after adding a diagnostic.

    Args:
        node: the node that has them as constant inputs.
        scale_index: input of the scale; None if an integer is worth 1.
        zero_index: input of the zero point, which may be absent.
        state: takes the diagnostics.
        kind: element type of the tensor; that of the zero point if None, else uint8.
        axis: the axis that parameters per channel count, None if they cannot.
        rank: dimensions of the tensor, None if unknown.
        what: the tensor in words, for messages.
    """
    what = f" of {what}" if what else ""
    scale: np.ndarray | None = np.ones((), np.float32)
    if scale_index is not None:
        scale = parameters.scale(node, scale_index, state, f"scale{what}")
    zero = np.zeros((), np.int64)
    if not is_optional_input_absent(node, zero_index):
        found = parameters.numbers(node, zero_index, f"zero point{what}", state)
        if found is None:
            return None
        value = node.inputs[zero_index]
        kind = kind or (value.dtype if value is not None else None)
        zero = parameters.squeezed(found.astype(np.int64))
    if scale is None:
        return None
    kind = kind or ir.DataType.UINT8
    if kind not in RANGES:
        state.refuse(
            node,
            "DLA117",
            "element-type",
            f"the integers{what} are of type {kind}",
            remedy="quantise to int8, or to another integer type of 4 to 16 bits",
        )
        return None
    shaped = [_along(array, axis, rank) for array in (scale, zero)]
    if shaped[0] is None or shaped[1] is None:
        wrong = scale if scale.ndim else zero
        blocks = " (blocks are not read)" if wrong.ndim > 1 else ""
        state.refuse(
            node,
            "DLA118",
            "scale-shape",
            f"parameters{what} of shape {list(wrong.shape)}{blocks}, where one per tensor"
            + (" is needed" if axis is None else " or per channel is needed"),
            remedy="quantise per tensor, or weights per output channel",
        )
        return None
    return Grid(shaped[0], shaped[1], *RANGES[kind])


def _along(array: np.ndarray, axis: int | None, rank: int | None) -> np.ndarray | None:
    """Parameters along an axis in a shape that broadcasts; None if they cannot."""
    if not array.ndim:
        return array
    if array.ndim != 1 or axis is None:
        return None
    if axis >= 0:
        if rank is None:
            return None
        axis -= rank
    if rank is not None and not -rank <= axis < 0:
        return None
    return array.reshape((-1,) + (1,) * (-axis - 1))


def axis_of(node: ir.Node) -> int:
    """The ``axis`` of QuantizeLinear and DequantizeLinear."""
    return int(attribute(node, "axis", 1))


def reals_of(node: ir.Node, index: int, grid: Grid, state: OnnxImport) -> ir.Value | None:
    """The real values of an integer input on a grid; None if they are unknown (which is said)."""
    value = node.inputs[index]
    if value is None:
        parameters.missing(node, f"an input {index}", state)
        return None
    if value in state.unknown:
        return None
    if is_constant(value):
        return _constant_reals(node, value, grid)
    stored = state.stored.get(value)
    if stored is None:
        refuse_arithmetic(node, value, state)
        return None
    if stored.grid.same_values(grid):
        return stored.real
    return _reread(node, stored, grid)


def refuse_arithmetic(node: ir.Node, value: ir.Value, state: OnnxImport) -> None:
    """Adds an error for integers of which no operator says what they are worth."""
    maker = value.producer()
    by = f", made by {maker.op_type}," if maker is not None else ""
    state.refuse(
        node,
        "DLA124",
        "integer-arithmetic",
        f"{node.op_type} reads the integers {value.name!r}{by} without a scale for its result",
        remedy="put the operator between DequantizeLinear and QuantizeLinear, or use its QLinear "
        "form; onnxruntime's quantize_static writes either",
        notes=("the accelerator needs the step of every map",),
    )


def _constant_reals(node: ir.Node, value: ir.Value, grid: Grid) -> ir.Value:
    """Weights: their integers less the zero point, with their step."""
    integers = value
    if grid.zero_point.any() or value.dtype not in {
        ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32,
    }:  # fmt: skip
        array = dialect.array_of(value)
        shifted = array.astype(np.int32 if array.dtype.itemsize < 4 else np.int64)
        shifted = smallest(shifted - grid.zero_point.astype(shifted.dtype))
        integers = dialect.constant(f"{value.name}/shifted", shifted)
    return dequantised(node, integers, grid.scale, value.name or "constant")


def smallest(array: np.ndarray) -> np.ndarray:
    """Integers in the smallest type that holds them; int32 saturates."""
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    fits = (t for t in _TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    kind = next(fits, np.int32)
    return np.asarray(np.clip(array, np.iinfo(kind).min, np.iinfo(kind).max), kind)


def dequantised(node: ir.Node, integers: ir.Value, step: np.ndarray, stem: str) -> ir.Value:
    """A ``Dequantize`` of constant integers, in front of a node."""
    assert isinstance(node.graph, ir.Graph)
    output = unique_name(node.graph, f"{stem}/dequantised")
    holder = dialect.dequantize(integers, step, name=output, output=output)
    insert_before(node, holder)
    return holder.outputs[0]


def _reread(node: ir.Node, stored: Stored, grid: Grid) -> ir.Value:
    """The same integers on another grid: ``(q - z') * s'`` from ``(q - z) * s``."""
    ratio = (grid.scale.astype(np.float64) / stored.grid.scale).astype(np.float32)
    offset = ((stored.grid.zero_point - grid.zero_point) * grid.scale).astype(np.float32)
    result = stored.real
    for op_type, operand in (("Mul", ratio), ("Add", offset)):
        if (operand == (1.0 if op_type == "Mul" else 0.0)).all():
            continue
        result = made(node, op_type, [result, dialect.constant(f"{node.name}/reread", operand)])
    return result


def made(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, ir.Attr] | None = None,
) -> ir.Value:
    """The result of a new standard node of float values in front of ``node``."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    name = unique_name(graph, f"{node.name or node.op_type}/{op_type.lower()}")
    new = ir.node(op_type, list(inputs), attributes or {}, name=name)
    new.outputs[0].name, new.outputs[0].dtype = name, ir.DataType.FLOAT
    shape = node.outputs[0].shape
    new.outputs[0].shape = shape if shape is None or len(inputs) == 1 else None
    insert_before(node, new)
    return new.outputs[0]


def store(
    node: ir.Node, x: ir.Value, grid: Grid, state: OnnxImport, *, zero_first: bool = False
) -> None:
    """Makes the result of a node the integers of ``x``: a quantise node takes its place.

    Args:
        node: the node of the source.
        x: real values.
        grid: what the integers are worth.
        state: learns of them.
        zero_first: rounds with the zero point added; see `Grid.quantisation`.
    """
    result = node.outputs[0]
    kind = result.dtype or ir.DataType.UINT8
    if (grid.zero_point != grid.zero_point.flat[0]).any():
        if is_constant(x):
            _store_constant(node, x, grid, kind, state)
            return
        low, high = int(grid.zero_point.min()), int(grid.zero_point.max())
        state.refuse(
            node,
            "DLA106",
            "fractional-zero-point",
            f"the zero points of a map differ between channels: {low} to {high}",
            remedy="quantise maps per tensor",
        )
        return
    name = result.name or node.name or "quantised"
    result.name = f"{name}/integers"
    quantisation = grid.quantisation(zero_first=zero_first)
    new = dialect.quantize(x, quantisation, name=node.name or name, output=name)
    new.outputs[0].shape = result.shape
    insert_before(node, new)
    unrounded = x if quantisation.symmetric else None
    state.stored[result] = Stored(new.outputs[0], grid, kind, unrounded)
    state.replaced.append(node)


def _store_constant(
    node: ir.Node, x: ir.Value, grid: Grid, kind: ir.DataType, state: OnnxImport
) -> None:
    """Weights with zero points per channel: their integers are computed here."""
    array = dialect.array_of(x)
    with np.errstate(all="ignore"):
        rounded = np.rint(array / grid.scale)
    if np.isnan(rounded).any():
        parameters.missing(node, "numbers to quantise, and some are none (NaN)", state)
        return
    ends = [(end - grid.zero_point).astype(np.float32) for end in (grid.low, grid.high)]
    name = node.outputs[0].name or node.name or "constant"
    constant = dialect.constant(
        f"{name}/values", smallest(np.clip(rounded, *ends).astype(np.int32))
    )
    real = dequantised(node, constant, grid.scale, name)
    state.stored[node.outputs[0]] = Stored(real, grid, kind)
    state.replaced.append(node)


def take_place(node: ir.Node, real: ir.Value, state: OnnxImport) -> None:
    """Lets real values take the place of a node's result; a graph output keeps its name."""
    result = node.outputs[0]
    if result.is_graph_output():
        real = made(node, "Identity", [real])
        real.name, result.name = result.name, f"{result.name}/integers"
    result.replace_all_uses_with(real, replace_graph_outputs=True)
    state.replaced.append(node)


def moved(stored: Stored, real: ir.Value) -> Stored:
    """What became of integers that an operator has moved."""
    return replace(stored, real=real, unrounded=None)
