"""Gives every layer its precision, from wherever it is said."""

from __future__ import annotations

from collections.abc import Sequence

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.errors import UsageError
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision.sources import PrecisionSources
from dlaconv.frontends.caffe.precision.thresholds import read_thresholds
from dlaconv.frontends.caffe.precision.uniform import give_uniform
from dlaconv.frontends.caffe.precision.written import quantised, read_written


def read_precision(
    layers: Sequence[Layer], sources: PrecisionSources, file: str, found: Diagnostics
) -> None:
    """Sets ``precision`` of every layer that has one.

    Args:
        layers: the layers that run, in the order of the file.
        sources: what the user gives beside the prototxt.
        file: path of the prototxt.
        found: takes findings.

    Raises:
        UnreadableError: if the file of thresholds is none.
        UsageError: if options say two things.
    """
    given = {"--thresholds": sources.thresholds, "--precision": sources.uniform}
    options = [name for name, value in given.items() if value is not None]
    if len(options) > 1:
        raise UsageError(_several(options, "drop one of them", Location(file=file)))
    written = quantised(layers)
    if options and written:
        remedy = f"drop {options[0]}, or precision_param from the prototxt"
        found.add(_several([*options, "the prototxt"], remedy, written[0].location(file)))
    elif sources.thresholds is not None:
        read_thresholds(layers, sources.thresholds, found)
    elif sources.uniform is not None:
        give_uniform(layers, sources.uniform, file)
    else:
        read_written(layers, file, found)


def _several(said: Sequence[str], remedy: str, location: Location) -> Diagnostic:
    return Diagnostic(
        "DLA146",
        "several-precisions",
        f"{' and '.join(said)} say how layers are quantised",
        location=location,
        help=remedy,
        notes=("dlaconv does not choose: each of them is another network",),
    )
