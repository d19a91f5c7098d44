"""The diagnostics that the reference and the simulator share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import ConversionError, UsageError
from dlaconv.ir import provenance
from dlaconv.ir.layers import Layer, Map

INT32 = (-(1 << 31), (1 << 31) - 1)
"""Range of the accumulator."""


def overflow(layer: Layer, low: int, high: int) -> ConversionError:
    """The accumulator of a layer left 32 bits.

    Args:
        layer: the layer.
        low: smallest value that its accumulator reached.
        high: largest value that its accumulator reached.
    """
    return ConversionError(
        Diagnostic(
            "DLA910",
            "accumulator-overflow",
            f"the accumulator of {layer.output.name!r} reaches {low}..{high}, outside 32 bits",
            location=provenance.location(layer.node),
            help="split the layer, or bring the steps of its operands closer together",
            notes=("the hardware's int32 accumulator would wrap around",),
        )
    )


def beyond_double(layer: Layer) -> ConversionError:
    """A layer has multipliers that cannot be evaluated exactly in double precision."""
    return ConversionError(
        Diagnostic(
            "DLA911",
            "not-exactly-computable",
            f"the multipliers of {layer.output.name!r} have too many digits for an exact result "
            "in double precision",
            location=provenance.location(layer.node),
            help="put its weight steps on the grid 2^n/a and its slopes on 16 bits",
        )
    )


def checked_feeds(maps: Iterable[Map], feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The integers of every graph input as float32, exact.

    Args:
        maps: the graph inputs.
        feeds: arrays by input name, of any integer or float dtype.

    Raises:
        UsageError: naming every input that is missing, superfluous, of the wrong shape, not
            integer or out of range.
    """
    inputs = {source.name: source for source in maps}
    unknown = sorted(feeds.keys() - inputs.keys())
    problems = [_feed(f"the network has no input {name!r}", inputs) for name in unknown]
    checked: dict[str, np.ndarray] = {}
    for name, source in inputs.items():
        if name not in feeds:
            problems.append(_feed(f"input {name!r} is missing", inputs))
            continue
        array = np.asarray(feeds[name])
        if complaint := _complaint(array, source):
            problems.append(_feed(f"input {name!r} {complaint}", inputs))
        else:
            checked[name] = array.astype(np.float32)
    if problems:
        raise UsageError(problems)
    return checked


def _complaint(array: np.ndarray, source: Map) -> str:
    if array.shape != source.shape:
        return f"has shape {list(array.shape)}, expected {list(source.shape)}"
    if array.dtype.kind not in "iuf":
        return f"holds {array.dtype}, expected integers"
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array % 1 == 0).all()):
        return "holds values that are no integers"
    if array.size and not (source.qmin <= array.min() and array.max() <= source.qmax):
        low, high = array.min(), array.max()
        return f"holds {low:.0f}..{high:.0f}, outside {source.qmin}..{source.qmax}"
    return ""


def _feed(message: str, inputs: dict[str, Map]) -> Diagnostic:
    return Diagnostic(
        "DLA912",
        "input-values",
        message,
        help="feed integers: "
        + "; ".join(
            f"{name} {list(source.shape)} in {source.qmin}..{source.qmax}, "
            f"one unit is worth 2^{source.exponent}"
            for name, source in inputs.items()
        ),
    )
