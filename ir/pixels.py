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
from dlaconv.ir.graph import insert_before, ints_attribute, is_op, shape_of, unique_name

MARK = "/pixels"
"""Ends the name of what the host feeds in place of a graph input."""
LARGEST = 255
CENTRE = 128
"""The pixel that is fed as 0 where maps have a sign."""
TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Permutations that put the channels of pictures first, and last."""
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
        turn: pictures have their channels last, and the host feeds them first.
    """

    zero: int
    factors: tuple[float, ...] = (1.0,)
    offsets: tuple[float, ...] = (0.0,)
    axis: int | None = None
    reverse: bool = False
    border: int = 0
    turn: bool = False

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

        Where the map has a sign, int8 is what the host feeds but for its order. Channels are put
        first, and the further one is added, where that is so.

        Args:
            name: the graph input.
            values: any numbers, batch first.

        Raises:
            UsageError: if a value is no pixel.
        """
        if values.dtype == np.int8 and self.zero:
            return self._arranged(values)
        bad = (values < 0) | (values > LARGEST)
        if values.dtype.kind == "f":
            bad |= values != np.rint(values)
        if bad.any():
            raise UsageError(_no_pixels(name, values[bad]))
        wide = values if values.dtype.kind == "f" else values.astype(np.int64)
        return self._arranged(wide - self.zero)

    def shown(self, fed: np.ndarray) -> np.ndarray:
        """The pixels of what the host feeds; what lies between two of them is rounded."""
        pixels = np.clip(np.rint(fed), self.low, self.high) + np.float32(self.zero)
        pixels = pixels.transpose(TO_LAST) if self.turn else pixels
        return np.delete(pixels, -1, self.axis) if self.border else pixels

    def picture(self, fed: Sequence[int]) -> tuple[int, ...]:
        """The shape of pictures, from that of what is fed."""
        shape = [fed[index] for index in TO_LAST] if self.turn else fed
        return resized(shape, self.axis, -int(self.border > 0))

    def stored(self, picture: Sequence[int]) -> tuple[int, ...]:
        """The shape of what is fed, from that of pictures."""
        shape = resized(picture, self.axis, int(self.border > 0))
        return tuple(shape[index] for index in TO_FIRST) if self.turn else shape

    def fits(self, picture: Sequence[int]) -> bool:
        """False if pictures of this shape cannot be meant."""
        channels = 1 if self.axis is None else (*picture, *[0] * 8)[self.axis]
        ranks = self.turn <= (len(picture) == len(TO_FIRST))
        return ranks and {len(self.factors), len(self.offsets)} <= {1, channels} and channels > 0

    def _arranged(self, values: np.ndarray) -> np.ndarray:
        if self.border:
            widths = [(0, int(index == self.axis)) for index in range(values.ndim)]
            values = np.pad(values, widths, constant_values=self.border)
        return np.ascontiguousarray(values.transpose(TO_FIRST)) if self.turn else values

    def as_json(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return {
            "zero": self.zero,
            "factors": [float(value) for value in self.factors],
            "offsets": [float(value) for value in self.offsets],
            "axis": self.axis,
            "reverse": self.reverse,
            "border": self.border,
            "turn": self.turn,
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
        border, turn = given["border"], given["turn"]
        if zero not in (0, CENTRE) or type(zero) is not int or type(reverse) is not bool:
            raise ValueError("no pixel is fed as 0")
        if axis is not None and (type(axis) is not int or not 0 < axis < 8):
            raise ValueError("there is no such axis")
        factors, offsets = (_numbers(given[name]) for name in ("factors", "offsets"))
        if {len(factors), len(offsets)} - ({1} if axis is None else {1, max(len(factors), 1)}):
            raise ValueError("numbers of channels differ")
        if type(border) is not int or not 0 <= border <= LARGEST - zero or (border and not axis):
            raise ValueError("no further channel of pixels")
        if type(turn) is not bool or (turn and axis not in (None, len(TO_FIRST) - 1)):
            raise ValueError("no axis is the last one")
        return cls(zero, factors, offsets, axis, reverse, border, turn)


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


def _unrelated(name: str, shape: Sequence[int]) -> Diagnostic:
    return Diagnostic(
        "DLA903",
        "unrelated-files",
        f"graph input {name!r} has shape {list(shape)}, and the file says something else of its "
        "pixels",
        help="give the file that this one was converted from",
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
        if not how.fits(shape):
            raise UsageError(_unrelated(value.name or "", shape))
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
    nodes = [_made("Sub", value, zero, f"{name}/shift")]
    shape = shape_of(value) or ()
    if how.border:
        pads = dialect.constant(f"{name}/pads", one_more(how.axis, len(shape)))
        border = dialect.constant(f"{name}/border", np.array(how.border, np.float32))
        nodes.append(ir.node("Pad", [nodes[-1].outputs[0], pads, border], name=f"{name}/further"))
    if how.turn:
        turned = {"perm": TO_FIRST}
        nodes.append(ir.node("Transpose", [nodes[-1].outputs[0]], turned, name=f"{name}/turn"))
    insert_before(before, *nodes)
    result = nodes[-1].outputs[0]
    result.name, result.dtype, result.shape = name, ir.DataType.FLOAT, ir.Shape(how.stored(shape))
    return result


def begins_with_turn(value: ir.Value) -> bool:
    """True if all that reads a graph input puts its last axis behind the first one.

    Arithmetic and quantisers may come first.
    """
    queue, found = [value], False
    for _ in range(64):
        if not queue:
            return found
        for use in queue.pop().uses():
            node = use.node
            if is_op(node, "Transpose"):
                if ints_attribute(node, "perm") != TO_FIRST:
                    return False
                found = True
            elif is_op(node, "Identity", "Cast", *_ARITHMETIC) or dialect.is_quantize(node):
                queue.append(node.outputs[0])
            else:
                return False
    return False


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
