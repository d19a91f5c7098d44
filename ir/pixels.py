"""Graph inputs that take pixels: how they become what the source takes, and what the host feeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError
from dlaconv.ir import dialect
from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.execution import Arrays
from dlaconv.ir.graph import insert_before, is_op, shape_of, unique_name

MARK = "/pixels"
"""Ends the name of what the host feeds in place of a graph input."""
LARGEST = 255
CENTRE = 128
"""The pixel that is fed as 0 where maps have a sign."""
_MOST_CHANNELS = 1 << 16
_MOVING = ("Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
_ARITHMETIC = ("Mul", "Div", "Add", "Sub", "BatchNormalization", "Neg")


@dataclass(frozen=True)
class Pixels:
    """What a graph input takes in place of the source's values.

    The source's channel c takes ``factors[c] * p + offsets[c]``, p being channel c of the picture,
    or the last but c if the source takes blue first. The host feeds ``p - zero``, and may feed one
    more channel of a constant, which tells the inside of the picture from what is padded.

    Attributes:
        zero: the pixel that is fed as 0.
        factors: one for all channels, or one for each.
        offsets: likewise.
        axis: where the channels are, None if all are alike.
        reverse: the source takes the channels in the opposite order.
        border: the constant in the further channel, the last one; 0 for none.
    """

    zero: int
    factors: tuple[float, ...] = (1.0,)
    offsets: tuple[float, ...] = (0.0,)
    axis: int | None = None
    reverse: bool = False
    border: int = 0

    @property
    def low(self) -> int:
        """The smallest integer that is fed."""
        return -self.zero

    @property
    def high(self) -> int:
        """The largest integer that is fed."""
        return LARGEST - self.zero

    def affine(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Factor and offset of the source's values as float64 arrays of a rank, in its order."""
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = -1
        return tuple(np.array(v, np.float64).reshape(shape) for v in (self.factors, self.offsets))  # type: ignore[return-value]

    def fed(self, name: str, values: np.ndarray) -> np.ndarray:
        """The integers that the host feeds for pixels; floats stay floats.

        Where the map has a sign, int8 is what the host feeds, and is returned as it is. The further
        channel is added, if there is one.

        Args:
            name: the graph input.
            values: any numbers, batch first.

        Raises:
            UsageError: if a value is no pixel.
        """
        if values.dtype == np.int8 and self.zero:
            return self._with_border(values)
        bad = (values < 0) | (values > LARGEST)
        if values.dtype.kind == "f":
            bad |= values != np.rint(values)
        if bad.any():
            raise UsageError(_no_pixels(name, values[bad]))
        wide = values if values.dtype.kind == "f" else values.astype(np.int64)
        return self._with_border(wide - self.zero)

    def shown(self, fed: np.ndarray) -> np.ndarray:
        """The pixels of what the host feeds; what lies between two of them is rounded."""
        pixels = np.clip(np.rint(fed), self.low, self.high) + np.float32(self.zero)
        return np.delete(pixels, -1, self.axis) if self.border else pixels

    def picture(self, fed: Sequence[int]) -> tuple[int, ...]:
        """The shape of pictures, from that of what is fed."""
        return tuple(fed) if not self.border else resized(fed, self.axis, -1)

    def stored(self, picture: Sequence[int]) -> tuple[int, ...]:
        """The shape of what is fed, from that of pictures."""
        return tuple(picture) if not self.border else resized(picture, self.axis, 1)

    def _with_border(self, values: np.ndarray) -> np.ndarray:
        if not self.border:
            return values
        widths = [(0, int(index == self.axis)) for index in range(values.ndim)]
        return np.pad(values, widths, constant_values=self.border)

    def as_json(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return {
            "zero": self.zero,
            "factors": [float(value) for value in self.factors],
            "offsets": [float(value) for value in self.offsets],
            "axis": self.axis,
            "reverse": self.reverse,
            "border": self.border,
        }

    @classmethod
    def from_json(cls, given: Any) -> Pixels:
        """Reads what `as_json` wrote, or anybody.

        Raises:
            ValueError: if it says nothing, or nothing that can be.
        """
        if not isinstance(given, dict) or given.keys() != cls(0).as_json().keys():
            raise ValueError("not what pixels become")
        zero, axis, reverse = given["zero"], given["axis"], given["reverse"]
        border = given["border"]
        if zero not in (0, CENTRE) or type(zero) is not int or type(reverse) is not bool:
            raise ValueError("no pixel is fed as 0")
        if axis is not None and (type(axis) is not int or not 0 < axis < 8):
            raise ValueError("there is no such axis")
        factors, offsets = (_numbers(given[name]) for name in ("factors", "offsets"))
        if {len(factors), len(offsets)} - ({1} if axis is None else {1, max(len(factors), 1)}):
            raise ValueError("numbers of channels differ")
        if type(border) is not int or not 0 <= border <= LARGEST - zero or (border and not axis):
            raise ValueError("no further channel of pixels")
        return cls(zero, factors, offsets, axis, reverse, border)


def one_more(axis: int | None, rank: int) -> np.ndarray:
    """One element more at the end of an axis, as the ``pads`` of ONNX's Pad, int64."""
    found = np.zeros(2 * rank, np.int64)
    if axis is not None:
        found[rank + axis] = 1
    return found


def resized(shape: Sequence[int], axis: int | None, more: int) -> tuple[int, ...]:
    """A shape with more elements on one axis."""
    return tuple(size + more * (index == axis) for index, size in enumerate(shape))


def _numbers(given: Any) -> tuple[float, ...]:
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_CHANNELS:
        raise ValueError("not a number for each channel")
    if not all(type(value) is float and math.isfinite(value) for value in given):
        raise ValueError("not numbers")
    return tuple(given)


def _no_pixels(name: str, bad: np.ndarray) -> Diagnostic:
    return Diagnostic(
        "DLA338",
        "no-pixels",
        f"graph input {name!r} takes pixels, integers of 0 to 255; {bad.size} of the values given "
        f"are none, the first is {bad[0]:.6g}",
        help="give pictures as they are, in bytes, without --mean, --std and --scale applied",
        notes=("the network was converted with --fold-preprocess, which does that itself",),
    )


class Fed(Dataset):
    """What the host feeds for samples of pixels."""

    def __init__(self, data: Dataset, pixels: Mapping[str, Pixels]) -> None:
        """Nothing is read yet.

        Args:
            data: samples, float32.
            pixels: the graph inputs that take pixels.
        """
        self._data, self._pixels = data, dict(pixels)
        self.names = data.names

    def __len__(self) -> int:
        return len(self._data)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`.

        Raises:
            UsageError: if a value is no pixel.
        """
        for feeds in self._data.samples():
            yield feeds | {name: how.fed(name, feeds[name]) for name, how in self._pixels.items()}


class Shown(Dataset):
    """The pixels of samples of what the host feeds; what lies between two of them is rounded."""

    def __init__(self, data: Dataset, pixels: Mapping[str, Pixels]) -> None:
        """See `Fed`."""
        self._data, self._pixels = data, dict(pixels)
        self.names = data.names

    def __len__(self) -> int:
        return len(self._data)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`."""
        for feeds in self._data.samples():
            yield feeds | {name: how.shown(feeds[name]) for name, how in self._pixels.items()}


def let_take_pixels(model: ir.Model, pixels: Mapping[str, Pixels]) -> None:
    """Puts what happens to pixels in front of a model, so that its inputs take pixels.

    What the host feeds has the name of the graph input with `MARK` behind it.
    """
    graph = model.graph
    for value in graph.inputs:
        how, first = pixels.get(value.name or ""), next(iter(graph), None)
        shape = shape_of(value)
        if how is None or first is None or shape is None:
            continue
        uses, name = list(value.uses()), unique_name(graph, f"{value.name}{MARK}")
        _feed(value, how, name, first)
        result = value
        if how.reverse and how.axis is not None:
            index = dialect.constant(f"{name}/order", np.arange(shape[how.axis])[::-1].copy())
            turned = _made("Gather", result, index, f"{name}/reversed", axis=how.axis)
            insert_before(first, turned)
            result = turned.outputs[0]
        for op_type, array in zip(("Mul", "Add"), how.affine(len(shape)), strict=True):
            constant = dialect.constant(f"{name}/{op_type}", array.astype(np.float32))
            node = _made(op_type, result, constant, f"{name}/{op_type.lower()}")
            insert_before(first, node)
            result = node.outputs[0]
        for use in uses:
            use.node.replace_input_with(use.idx, result)


def let_take_fed(model: ir.Model, pixels: Mapping[str, Pixels]) -> None:
    """The same for a model whose inputs take what the host feeds."""
    for value in model.graph.inputs:
        how, first = pixels.get(value.name or ""), next(iter(model.graph), None)
        shape = shape_of(value)
        if how is None or first is None or shape is None:
            continue
        uses, name = list(value.uses()), unique_name(model.graph, f"{value.name}{MARK}/fed")
        value.shape = ir.Shape(how.picture(shape))
        fed = _feed(value, how, name, first)
        for use in uses:
            use.node.replace_input_with(use.idx, fed)


def _feed(value: ir.Value, how: Pixels, name: str, before: ir.Node) -> ir.Value:
    """What the host makes of pixels, under a name."""
    zero = dialect.constant(f"{name}/zero", np.array(how.zero, np.float32))
    shift = _made("Sub", value, zero, f"{name}/shift" if how.border else name)
    insert_before(before, shift)
    result = shift.outputs[0]
    if how.border:
        shape = shape_of(value) or ()
        pads = dialect.constant(f"{name}/pads", one_more(how.axis, len(shape)))
        border = dialect.constant(f"{name}/border", np.array(how.border, np.float32))
        padding = ir.node("Pad", [result, pads, border], name=name)
        result = padding.outputs[0]
        result.name, result.dtype = name, ir.DataType.FLOAT
        result.shape = ir.Shape(how.stored(shape))
        insert_before(before, padding)
    return result


def begins_with_arithmetic(value: ir.Value) -> bool:
    """True if all that reads a graph input scales and shifts it, as one does with pixels.

    A quantiser that keeps integers as they are is looked through.
    """
    queue, seen = [value], 0
    while queue and seen < 64:
        current = queue.pop()
        for use in current.uses():
            node, seen = use.node, seen + 1
            whole = dialect.is_quantize(node) and _keeps_integers(node)
            if whole or is_op(node, *_MOVING):
                queue.append(node.outputs[0])
            elif not is_op(node, *_ARITHMETIC):
                return False
    return seen > 0


def _keeps_integers(node: ir.Node) -> bool:
    quantisation = dialect.quantisation_of(node)
    return quantisation.per_tensor and quantisation.scalar_step == 1


def _made(op_type: str, x: ir.Value, y: ir.Value, name: str, **attributes: int) -> ir.Node:
    node = ir.node(op_type, [x, y], attributes, name=name)
    node.outputs[0].name = name
    node.outputs[0].shape = x.shape
    node.outputs[0].dtype = ir.DataType.FLOAT
    return node
