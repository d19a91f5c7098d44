"""One format for all layers: XportDNN's DynamicFixed mode for a network in floating point."""

from __future__ import annotations

from collections.abc import Sequence

from dlaconv.diagnostics import Diagnostic, Diagnostics
from dlaconv.errors import UsageError
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import Mode, Precision
from dlaconv.frontends.caffe.precision.flow import taken_along
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of, statistics_of
from dlaconv.frontends.caffe.precision.limits import (
    SHIFT_WHY,
    bits_problem,
    fraction_problem,
    shift_problem,
)
from dlaconv.frontends.caffe.precision.sources import Uniform
from dlaconv.ir.formats import QFormat

_BITS, _FRACTIONS = "--precision", "--fl-bitwidths"
_SIDES = ("input", "parameters", "output")


def parse_uniform(bits: str | None, fractions: str | None) -> Uniform | None:
    """Reads both options; None without them.

    Raises:
        UsageError: naming all that is wrong with them.
    """
    if bits is None and fractions is None:
        return None
    problems = Diagnostics()
    if bits is None or fractions is None:
        given, other = (_BITS, _FRACTIONS) if fractions is None else (_FRACTIONS, _BITS)
        example = "4,7,4" if fractions is None else "8,8,8"
        problems.add(_unusable(f"{given} needs {other}", f"add {other} {example}"))
    widths = _three(_BITS, bits, "8,8,8", problems)
    places = _three(_FRACTIONS, fractions, "4,7,4", problems)
    for side, width in zip(_SIDES, widths or (), strict=False):
        if problem := bits_problem(f"{_BITS} {bits}: the number for {side}", width):
            problems.add(_unusable(problem, "give bits such as 8,8,8 or 6,6,6"))
    for side, place in zip(_SIDES, places or (), strict=False):
        if problem := fraction_problem(f"{_FRACTIONS} {fractions}: the number for {side}", place):
            problems.add(_unusable(problem, "give fractional bits such as 4,7,4"))
    if places is not None and (problem := shift_problem(*places)):
        problems.error(
            "DLA142",
            "precision-shift",
            f"{_FRACTIONS} {fractions}: {problem}",
            help="give the output fewer fractional bits than input and parameters have together",
            notes=(SHIFT_WHY,),
        )
    if problems.errors:
        raise UsageError(problems)
    assert widths is not None
    assert places is not None
    return Uniform(widths, places)


def give_uniform(layers: Sequence[Layer], uniform: Uniform, file: str) -> None:
    """Gives every layer that CHaiDNN computes the same formats.

    Statistics of a BatchNorm or Scale get the format of parameters, unless a convolution takes
    them along. Concat and what keeps the integers that it reads get none.
    """
    maps_in, weights, maps_out = map(QFormat, uniform.bits, uniform.fractions)
    chained = {id(layer) for chain in taken_along(layers) for layer in chain}
    for layer in layers:
        kind = kind_of(layer)
        if kind in {Kind.NONE, Kind.JOINED}:
            continue
        weighted = kind in {Kind.WEIGHTED, Kind.SOFTWARE}
        names = () if id(layer) in chained else statistics_of(layer)
        layer.precision = Precision(
            Mode.DYNAMIC_FIXED,
            maps_in,
            maps_out,
            weights if weighted else None,
            maps_out if weighted else None,
            dict.fromkeys(names, weights),
            layer.location(file),
        )


def _three(
    name: str, text: str | None, example: str, problems: Diagnostics
) -> tuple[int, int, int] | None:
    if text is None:
        return None
    try:
        one, two, three = (int(part) for part in text.split(","))
    except ValueError:
        what = f"{name} {text!r} is not three whole numbers"
        problems.add(_unusable(what, f"write those of input, parameters and output: {example}"))
        return None
    return one, two, three


def _unusable(message: str, remedy: str) -> Diagnostic:
    return Diagnostic("DLA426", "option-value", message, help=remedy)
