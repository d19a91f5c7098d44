"""The end of a layer: activation, the one division, rounding, saturation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.engine.builder import Builder, Signal
from dlaconv.backends.access.engine.precision import (
    DOUBLE,
    SINGLE,
    Factors,
    Term,
    adding_half_is_safe,
    half_units,
    holds,
    holds_ratio,
    moderate,
    odd_part,
    rounds_right,
    steps_right,
)
from dlaconv.backends.access.engine.rounding import emit_rounding
from dlaconv.backends.access.semantics.layer import ActivationOrder
from dlaconv.backends.access.semantics.problems import beyond_double
from dlaconv.ir.graph import is_op
from dlaconv.ir.layers import Layer
from dlaconv.ir.rounding import Rounding


@dataclass(frozen=True, eq=False)
class Accumulator:
    """A layer's result before its rounding: integers N, held exactly.

    Attributes:
        value: float tensor of N, or of N times its factor if ``folded``.
        bounds: largest magnitude of N in any order of summation; an array of integers that
            broadcasts.
        factors: worth of one N in units of the output.
        parts: N per unit of the hardware's accumulator, more than 1 if fed half units.
        double: True if ``value`` is float64.
        folded: True if no factor is left to apply.
        exact: False if the layer was fed real numbers, so that nothing is proven.
        kernels: float32 kernels that the sum took.
    """

    value: ir.Value
    bounds: np.ndarray
    factors: Factors
    parts: int = 1
    double: bool = False
    folded: bool = False
    exact: bool = True
    kernels: int = 1

    @property
    def bound(self) -> int:
        """Largest magnitude of any N."""
        return int(max(self.bounds.flat, default=0))

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The different factors, each with its largest bound."""
        bounds, which = np.broadcast_arrays(self.bounds, self.factors.which)
        largest = np.zeros(len(self.factors.distinct), bounds.dtype)
        np.maximum.at(largest, which.reshape(-1), bounds.reshape(-1))
        return tuple(
            Term(int(bound), factor)
            for bound, factor in zip(largest, self.factors.distinct, strict=True)
        )


@dataclass(frozen=True)
class Ending:
    """How every layer of a network ends.

    Attributes:
        rounding: how a result becomes an integer.
        activation_order: whether activations act before or after the rounding.
        folding: lets factors that are powers of two go into weights, which saves a division; the
            weights are then no longer those of other engines of the network.
    """

    rounding: Rounding
    activation_order: ActivationOrder
    folding: bool = True

    def after_clamp(self, layer: Layer) -> bool:
        """True if a layer's pipelined activation acts on its clamped integers."""
        return self.activation_order == "after-clamp" and layer.activation is not None


def finish(
    build: Builder, acc: Accumulator, layer: Layer, ending: Ending, *, rectified: bool = False
) -> Signal:
    """Applies activation, division, rounding and saturation in the order asked for.

    Args:
        build: the graph.
        acc: the result before its rounding.
        layer: the layer.
        ending: rounding and order.
        rectified: True if ``acc`` has been through LeakyRelu or PRelu already.
    """
    stored, slopes = layer.output, layer.slopes
    # R(max(v, 0)) = max(R(v), 0) in every mode, so a Relu is the lower end of the saturation.
    relu = layer.rectifier is not None and is_op(layer.rectifier, "Relu")
    low = max(stored.qmin, 0) if relu else stored.qmin
    later = ending.after_clamp(layer) and slopes is not None
    rounded = _round(build, acc, layer, ending.rounding, None if later or rectified else slopes)
    value = _clip(build, rounded, low, stored.qmax)
    if later:
        largest = np.array(max(abs(stored.qmin), abs(stored.qmax)), dtype=object)
        clamped = Accumulator(value, largest, Factors.one(Fraction(1)))
        again = _round(build, clamped, layer, ending.rounding, slopes)
        value = _clip(build, again, stored.qmin, stored.qmax)
    return Signal(build.publish(value, stored), low, stored.qmax)


@dataclass(frozen=True, eq=False)
class _Rounded:
    value: ir.Value
    double: bool


@dataclass(frozen=True)
class _Scaling:
    """How factors are applied: nothing, one multiplication, one division, or both in this order."""

    operations: tuple[str, ...]

    @classmethod
    def of(cls, acc: Accumulator) -> _Scaling:
        if acc.folded or all(term.factor == 1 for term in acc.terms):
            return cls(())
        if all(odd_part(term.factor.numerator) == 1 for term in acc.terms):
            return cls(("Div",))
        if all(odd_part(term.factor.denominator) == 1 for term in acc.terms):
            return cls(("Mul",))
        return cls(("Mul", "Div"))

    def constants(self, factor: Fraction) -> tuple[tuple[int, int], ...]:
        """The operations' constants for one factor, each to be held exactly by the float type.

        Returns:
            Reduced fractions as (numerator, positive denominator).
        """
        top, bottom = factor.numerator, factor.denominator
        if self.operations == ("Mul", "Div"):
            odd = odd_part(top)
            return (odd, 1), (bottom, top // odd)
        return tuple((top, bottom) if op == "Mul" else (bottom, top) for op in self.operations)


@dataclass(frozen=True)
class _Branch:
    """Values of one sign: an accumulator, the slope it meets and how it is scaled."""

    term: Term
    slope: Fraction
    scaling: _Scaling

    @property
    def end(self) -> Term:
        """The accumulator with the slope in its factor."""
        return self.term.times(self.slope)

    def proven(self, half: int, bits: int) -> bool:
        """True if all operations but the last are exact and the last one rounds right."""
        constants = self.scaling.constants(self.term.factor)
        largest = self.term.bound * odd_part(abs(self.slope.numerator))
        if len(constants) == 2:
            largest *= constants[0][0]
        end = self.end
        return (
            largest <= 1 << bits
            and holds(self.slope, bits)
            and all(holds_ratio(*value, bits) for value in constants)
            and moderate(end.factor, bits)
            and (not constants or rounds_right(end, half, bits))
        )

    def tried(self, half: int) -> bool:
        """The same in double precision, by computing both sides of every threshold."""
        constants = self.scaling.constants(self.term.factor)
        if not (holds(self.slope, DOUBLE) and all(holds_ratio(*c, DOUBLE) for c in constants)):
            return False

        def compute(n: np.ndarray) -> np.ndarray:
            value = n * float(abs(self.slope))
            for op, (top, bottom) in zip(self.scaling.operations, constants, strict=True):
                value = value * (top / bottom) if op == "Mul" else value / (top / bottom)
            return value

        end = self.end
        return moderate(end.factor, DOUBLE) and steps_right(
            compute, replace(end, factor=abs(end.factor)), half
        )


def _round(
    build: Builder, acc: Accumulator, layer: Layer, mode: Rounding, slopes: np.ndarray | None
) -> _Rounded:
    scaling = _Scaling.of(acc)
    double, add_half = _arithmetic(acc, slopes, scaling, layer)
    value = build.to_double(acc.value) if double and not acc.double else acc.value
    if slopes is not None:
        zero = build.constant(0.0, double=double)
        slope = build.constant(slopes, double=double)
        negative = build.op("Mul", build.op("Min", value, zero), slope)
        value = build.op("Add", build.op("Max", value, zero), negative)
    elif scaling.operations[:1] == ("Mul",) and not double:
        value = _apart(build, value, acc)
    for index, op_type in enumerate(scaling.operations):

        def of(factor: Fraction, index: int = index) -> float:
            top, bottom = scaling.constants(factor)[index]
            return top / bottom  # exact

        constants = acc.factors.floats(of)
        value = build.op(op_type, value, build.constant(constants, double=double))
    return _Rounded(emit_rounding(build, value, mode, double=double, add_half=add_half), double)


def _apart(build: Builder, value: ir.Value, acc: Accumulator) -> ir.Value:
    """Keeps a Conv and the factor behind it apart where their fusion would round.

    onnxruntime multiplies the weights of a Conv by a constant factor that follows it. The sums
    then count in units of 2^-n instead of whole numbers, so each needs the factor's bits besides.
    The Clip changes no value, and onnxruntime joins it with the Conv.
    """
    producer = value.producer()
    if producer is None or producer.op_type != "Conv":
        return value
    if all(
        # with room for the 0.5 of a rounding, which may be added to the bias
        term.bound * odd_part(term.factor.numerator) + term.factor.denominator <= 1 << SINGLE
        for term in acc.terms
    ):
        return value
    return build.op("Clip", value, build.constant(-acc.bound), build.constant(acc.bound))


def _arithmetic(
    acc: Accumulator, slopes: np.ndarray | None, scaling: _Scaling, layer: Layer
) -> tuple[bool, bool]:
    """Whether double precision is needed, and whether adding 0.5 then rounds half up.

    Raises:
        ConversionError: if double precision is not enough.
    """
    if not acc.exact:
        return True, False
    half = half_units(layer.output)
    different = _distinct(slopes)
    branches = [_Branch(term, slope, scaling) for term in acc.terms for slope in different]
    for bits in (DOUBLE,) if acc.double else (SINGLE, DOUBLE):
        if all(branch.proven(half, bits) for branch in branches):
            safe = all(adding_half_is_safe(branch.end, half, bits) for branch in branches)
            return bits == DOUBLE, safe
    if all(branch.proven(half, DOUBLE) or branch.tried(half) for branch in branches):
        return True, False
    raise beyond_double(layer)


def _distinct(slopes: np.ndarray | None) -> list[Fraction]:
    """1 for the positive side, and what negative values are multiplied by (0 needs no proof)."""
    given = {Fraction(float(slope)) for slope in np.ravel(slopes)} if slopes is not None else set()
    return [Fraction(1), *sorted(given - {Fraction(0), Fraction(1)})]


def _clip(build: Builder, rounded: _Rounded, low: int, high: int) -> ir.Value:
    ends = (build.constant(end, double=rounded.double) for end in (low, high))
    value = build.op("Clip", rounded.value, *ends)
    return build.to_single(value) if rounded.double else value
