"""What a Caffe file says of a layer's numbers: CHaiDNN's and Ristretto's formats, exactly.

A layer's `Precision` comes from its ``precision_param`` (CHaiDNN; older files and Ristretto call it
``quantization_param``), from a file of thresholds, or from options that give all layers the same
one. Whatever it came from, `dlaconv.frontends.caffe` applies it in one way.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from dlaconv.diagnostics import Location
from dlaconv.ir.formats import QFormat, Threshold

MapFormat = QFormat | Threshold
"""How a map is stored: the value of one unit, and a range of integers.

Of a `Threshold` of ``b`` bits CHaiDNN stores an image in ``-(2^(b-1) - 1)`` to ``2^(b-1) - 1``, and
lets results of layers saturate one unit lower.
"""


class Mode(enum.StrEnum):
    """``quant_type``, and Ristretto's arithmetic."""

    DYNAMIC_FIXED = "DynamicFixed"
    XILINX = "Xilinx"
    RISTRETTO = "Ristretto"


@dataclass(frozen=True, slots=True)
class FilterThresholds:
    """Weights in Xilinx mode: the largest integer stands for the threshold of its filter.

    Attributes:
        bits: bits of an integer.
        thresholds: one for each output channel; empty for the largest magnitude of each filter,
            which is what CHaiDNN takes where the file has none.
    """

    bits: int
    thresholds: tuple[Fraction, ...] = ()


@dataclass(frozen=True, slots=True)
class Precision:
    """The formats of a layer; None for what stays in floating point.

    Attributes:
        mode: whose arithmetic it is.
        maps_in: what the layer reads.
        maps_out: what it writes.
        weights: its weights.
        bias: its bias; CHaiDNN stores it like the result, Ristretto like the weights.
        statistics: the parameters of a BatchNorm or Scale that no convolution takes along, by the
            names of their fields without ``_fl`` or ``_bw``, such as ``scale_beta``.
        location: where it is said.
    """

    mode: Mode
    maps_in: MapFormat | None = None
    maps_out: MapFormat | None = None
    weights: QFormat | FilterThresholds | None = None
    bias: MapFormat | None = None
    statistics: Mapping[str, QFormat] = field(default_factory=dict)
    location: Location = field(default_factory=Location)
