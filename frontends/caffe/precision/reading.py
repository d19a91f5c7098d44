"""Gives every layer its precision, from wherever it is said."""

from __future__ import annotations

from collections.abc import Sequence

from dlaconv.diagnostics import Diagnostics, Location
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
    """
    written = quantised(layers)
    said = []
    if sources.thresholds is not None:
        said.append("--thresholds")
    if sources.uniform is not None:
        said.append("--precision")
    if written:
        said.append("the prototxt")
    if len(said) > 1:
        place = written[0].location(file) if written else Location(file=file)
        drop = " or ".join(word for word in said if word != "the prototxt")
        found.error(
            "DLA146",
            "several-precisions",
            f"{' and '.join(said)} say how layers are quantised",
            location=place,
            help=f"drop {drop}" + (", or precision_param from the prototxt" if written else ""),
            notes=("dlaconv does not choose: each of them is another network",),
        )
        return
    if sources.thresholds is not None:
        read_thresholds(layers, sources.thresholds, found)
    elif sources.uniform is not None:
        give_uniform(layers, sources.uniform, file)
    else:
        read_written(layers, file, found)
