"""Trunc: dropping the lowest bits of integers, after an average pool say.

Two incompatible operators share the name; the number of inputs tells them apart, the declared
version does not.

* v1 (Brevitas up to 0.11; x, scale, zeropt, in_bits, out_bits):
  ``y = mode(round(x/s + zp) / t)``, ``t = 2^(in_bits - out_bits)``, result ``(y - zp) * s``: the
  value shrinks by ``t``. The networks multiply by the kernel's area before.
* v2 (x, scale, zeropt, in_bits, out_scale, out_bits):
  ``y = mode(clip(round(x/s + zp) / t))``, ``t = 2^round(log2(out_scale / s))``, result
  ``(y - zp/t) * out_scale``: the value is kept.

Both become two quantise nodes, the first on the fine grid, the second on the coarse one. Every
coarse value lies on a tie or an edge of the rounding, so the integer must arrive there exactly:
``(q * s) / (s * t)`` is exact in float32 for a power of two ``s`` only. Other scales are divided
out first, ``x / s -> step 1 -> step t -> * out_scale / t``, which is exact for any; the pass
`dlaconv.ir.passes.absorb_scaling` puts the scales back into the steps where integers count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.handlers import Import
from dlaconv.frontends.qonnx import parameters
from dlaconv.ir import dialect
from dlaconv.ir.formats import PowerOfTwo, integer_range
from dlaconv.ir.graph import (
    input_array,
    is_op,
    producer,
    register_constants,
    replace_node,
    sole_consumer,
)
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding, round_exact

_KEEPS_BOUNDS = (
    "AveragePool", "GlobalAveragePool", "MaxPool", "GlobalMaxPool", "ReduceMean", "Relu",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity",
)  # fmt: skip
_MOST = 1 << 32


@dataclass(frozen=True)
class _Trunc:
    """The numbers of a Trunc node; scales are scalars."""

    scale: np.float32
    zero_point: float
    in_bits: int
    out_bits: int
    factor: float
    out_scale: np.float32
    signed: bool
    narrow: bool
    rounding: Rounding
    largest: int = _MOST
    """Of the fine integers, as far as can be seen."""


def trunc(node: ir.Node, state: Import) -> None:
    """Inputs as above. Attributes: rounding_mode; v2 also signed and narrow."""
    if len(node.inputs) not in {5, 6}:
        state.refuse(
            node,
            "DLA103",
            "missing-parameter",
            f"Trunc with {len(node.inputs)} inputs; version 1 has 5, version 2 has 6",
            remedy="export the network again with a current Brevitas",
        )
        return
    if parameters.quantised(node, state) is None:
        return
    read = _version_1 if len(node.inputs) == 5 else _version_2
    numbers = read(node, state)
    if numbers is not None:
        _replace(node, numbers, kept=len(node.inputs) == 6)


def _version_1(node: ir.Node, state: Import) -> _Trunc | None:
    scale = _scalar(node, parameters.scale(node, 1, state), "scale", state)
    zero_point = parameters.zero_point(node, 2, state)
    in_bits = parameters.bits(node, 3, state, "input bit width")
    out_bits = parameters.bits(node, 4, state, "output bit width")
    rounding = parameters.rounding(node, state, default=Rounding.FLOOR)
    if scale is None or zero_point is None or in_bits is None or out_bits is None:
        return None
    if rounding is None:
        return None
    if zero_point.any():
        _refuse_zero_point(node, float(zero_point.flat[0]), state)
        return None
    if out_bits > in_bits:
        _refuse_growth(node, in_bits, out_bits, state)
        return None
    low, high = _bounds(node.inputs[0])
    factor = 2.0 ** (in_bits - out_bits)
    largest = round(min(high / float(scale), _MOST))
    return _Trunc(scale, 0.0, in_bits, out_bits, factor, scale, low < 0, False, rounding, largest)


def _version_2(node: ir.Node, state: Import) -> _Trunc | None:
    scale = _scalar(node, parameters.scale(node, 1, state), "scale", state)
    zero_point = parameters.zero_point(node, 2, state)
    in_bits = parameters.bits(node, 3, state, "input bit width")
    out_scale = _scalar(node, parameters.scale(node, 4, state, "output scale"), "scale", state)
    out_bits = parameters.bits(node, 5, state, "output bit width")
    rounding = parameters.rounding(node, state, default=Rounding.FLOOR)
    signed = parameters.flag(node, "signed", state, default=True)
    narrow = parameters.flag(node, "narrow", state, default=False)
    if scale is None or zero_point is None or in_bits is None or out_bits is None:
        return None
    if out_scale is None or rounding is None or signed is None or narrow is None:
        return None
    factor = float(2.0 ** np.round(np.log2(out_scale / scale)))
    zero = float(zero_point.flat[0])
    if zero_point.size > 1 or zero % factor:
        _refuse_zero_point(node, zero, state)
        return None
    return _Trunc(scale, zero, in_bits, out_bits, factor, out_scale, signed, narrow, rounding)


def _replace(node: ir.Node, numbers: _Trunc, *, kept: bool) -> None:
    """Puts the two quantise nodes in place of a Trunc.

    Args:
        node: the Trunc node.
        numbers: its parameters.
        kept: True if the value is kept (v2), False if it shrinks by the factor (v1).
    """
    scale, out_scale, factor = numbers.scale, numbers.out_scale, np.float32(numbers.factor)
    chain = _Chain(node, numbers, kept=kept)
    power = PowerOfTwo.exactly(float(scale)) is not None
    if kept and power and out_scale == scale * factor:
        chain.quantise(scale, fine=True)
        chain.quantise(out_scale, fine=False)
    elif not kept and power:
        if not _merged(chain.value, 1 / factor):
            chain.scale("Mul", 1 / factor, "shrink")
        chain.quantise(scale / factor, fine=True)
        chain.quantise(scale, fine=False)
    else:
        chain.scale("Div", scale, "integers")
        chain.quantise(np.float32(1), fine=True)
        chain.quantise(factor, fine=False)
        chain.scale("Mul", out_scale / factor, "reals")
    replace_node(node, *chain.nodes)


class _Chain:
    """Nodes one behind the other, in place of a Trunc."""

    def __init__(self, node: ir.Node, numbers: _Trunc, *, kept: bool) -> None:
        assert node.inputs[0] is not None
        self.value = node.inputs[0]
        self.nodes: list[ir.Node] = []
        self._name = node.name or "trunc"
        self._numbers = numbers
        self._kept = kept

    def scale(self, op: str, by: np.float32, suffix: str) -> None:
        name = f"{self._name}/{suffix}"
        node = ir.node(op, [self.value, dialect.constant(name, np.asarray(by))], name=name)
        node.outputs[0].name = f"{name}/out"
        node.outputs[0].dtype = ir.DataType.FLOAT
        self._append(node)

    def quantise(self, step: np.float32, *, fine: bool) -> None:
        numbers = self._numbers
        quantisation = Quantisation.of(
            np.asarray(step),
            _fine_bits(numbers) if fine else numbers.out_bits,
            signed=numbers.signed,
            narrow=numbers.narrow and not fine,
            zero_point=numbers.zero_point / (1 if fine else numbers.factor),
            rounding=Rounding.HALF_EVEN if fine else numbers.rounding,
        )
        if not fine and not self._kept:
            quantisation = replace(quantisation, qmax=_largest(numbers))
        name = f"{self._name}/fine" if fine else self._name
        self._append(dialect.quantize(self.value, quantisation, name=name))

    def _append(self, node: ir.Node) -> None:
        self.nodes.append(node)
        self.value = node.outputs[0]


def _merged(x: ir.Value, by: np.float32) -> bool:
    """Multiplies by a power of two in the multiplication that makes ``x``, if one does."""
    before = producer(x)
    if before is None or not is_op(before, "Mul") or sole_consumer(x) is None:
        return False
    for index in (1, 0):
        array = input_array(before, index)
        if array is not None and array.size == 1 and array.dtype == np.float32:
            before.replace_input_with(index, dialect.constant(f"{before.name}/factor", array * by))
            if isinstance(before.graph, ir.Graph):
                register_constants(before.graph, [before])
            x.name = f"{x.name}/shrunk"  # no longer the source's value of that name
            return True
    return False


def _fine_bits(numbers: _Trunc) -> int:
    """Bits of the fine grid: the declared ones, or as many as the coarse range takes.

    QONNX does not clip there; with these bits the coarse clip decides every result.
    """
    dropped = math.log2(numbers.factor)
    return max(numbers.in_bits, numbers.out_bits + max(round(dropped), 0))


def _largest(numbers: _Trunc) -> int:
    """The largest coarse integer of v1, which does not clip: rounding up may exceed its bits."""
    _, top = integer_range(numbers.in_bits, signed=numbers.signed)
    top = min(top, numbers.largest)
    return round_exact(Fraction(top) / Fraction(numbers.factor), numbers.rounding)


def _bounds(value: ir.Value | None) -> tuple[float, float]:
    """Smallest and largest value, as far as can be seen; infinite where it cannot.

    What stands between a value and the quantiser that bounds it only moves, averages, rectifies or
    scales, so the bounds follow from one factor.
    """
    factor, low, high, rectified = 1.0, -math.inf, math.inf, False
    while (node := producer(value)) is not None:
        if dialect.is_quantize(node):
            quantisation = dialect.quantisation_of(node)
            ends = [
                (end - quantisation.zero_point) * quantisation.step
                for end in (quantisation.qmin, quantisation.qmax)
            ]
            low, high = float(ends[0].min()), float(ends[1].max())
        elif is_op(node, "Sigmoid", "Softmax"):
            low, high = 0.0, 1.0
        elif is_op(node, "Abs"):
            low = 0.0
        if low > -math.inf:
            break
        rectified = rectified or is_op(node, "Relu")
        if is_op(node, "Mul", "Div"):
            array = input_array(node, 1)
            if array is None or not (array > 0).all():
                break
            number = float(array.max() if is_op(node, "Mul") else 1 / array.min())
            factor *= number
        elif is_op(node, "ReduceSum"):
            factor = math.inf
        elif not is_op(node, *_KEEPS_BOUNDS):
            break
        value = node.inputs[0]
    low, high = (end * factor if end else end for end in (min(low, 0.0), max(high, 0.0)))
    return (0.0 if rectified else low), high


def _scalar(node: ir.Node, array: np.ndarray | None, what: str, state: Import) -> np.float32 | None:
    if array is None:
        return None
    if (array != array.flat[0]).any():
        state.refuse(
            node,
            "DLA105",
            "invalid-scale",
            f"Trunc with a {what} per channel ({array.size} values)",
            remedy="use a per-tensor activation quantiser before the pool",
        )
        return None
    return np.float32(array.flat[0])


def _refuse_zero_point(node: ir.Node, value: float, state: Import) -> None:
    state.refuse(
        node,
        "DLA106",
        "fractional-zero-point",
        f"Trunc with a zero point of {value:g}, which is none after dropping bits",
        remedy="use a symmetric quantiser before the pool",
    )


def _refuse_growth(node: ir.Node, in_bits: int, out_bits: int, state: Import) -> None:
    state.refuse(
        node,
        "DLA107",
        "invalid-bit-width",
        f"Trunc from {in_bits} to {out_bits} bits adds bits",
        remedy="export the network again",
    )
