"""How the formats that CHaiDNN gives a convolution with a BatchNorm differ from the file's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from dlaconv.ir.formats import QFormat

_MOST = 0.75
"""Share of filters whose thresholds must fit; of few filters, chance makes half of them fit."""
_MATCHES, _DIFFERS = 0.1, 0.25
"""Octaves between thresholds and largest weights: so near where they belong together, at least so
far where they do not."""


def belong_to_fused(thresholds: np.ndarray, largest: np.ndarray, factor: np.ndarray) -> bool:
    """True if thresholds are clearly those of the filters times the factor of a BatchNorm.

    Args:
        thresholds: ``[O]``, as the file has them.
        largest: ``[O]``, the largest magnitude of each filter.
        factor: ``[O]``.
    """
    fused = largest * np.abs(factor)
    live = (thresholds > 0) & (fused > 0)
    if not live.any():
        return False
    near = float(np.quantile(np.abs(np.log2(thresholds[live] / fused[live])), _MOST))
    far = float(np.median(np.abs(np.log2(thresholds[live] / largest[live]))))
    return near < _MATCHES and far > _DIFFERS


@dataclass
class Recomputed:
    """How CHaiDNN's formats of fused filters differ from the file's, over a network.

    Attributes:
        ratios: CHaiDNN's threshold over the file's, each with its layer.
        fractions: CHaiDNN's ``wt_fl`` less the file's.
        cuts: thresholds of results that it cuts to integers.
    """

    ratios: list[tuple[float, str]] = field(default_factory=list)
    fractions: list[tuple[int, str]] = field(default_factory=list)
    cuts: list[tuple[float, str]] = field(default_factory=list)

    def format(self, weights: QFormat, largest: float, name: str) -> None:
        """Compares the format of weights.

        Args:
            weights: that of the file.
            largest: the largest magnitude of the fused weights.
            name: the layer.
        """
        self.fractions.append((weights.bits - _integer_bits(largest) - weights.frac, name))

    def thresholds(
        self, thresholds: np.ndarray, largest: np.ndarray, factor: np.ndarray, name: str
    ) -> None:
        """Compares thresholds and largest magnitudes ``[O]`` of filters before they are fused."""
        live = (thresholds > 0) & (largest > 0) & (factor != 0)
        self.ratios += [(float(ratio), name) for ratio in largest[live] / thresholds[live]]

    def cut(self, threshold: float, name: str) -> None:
        """Notes the threshold of a result."""
        if threshold != math.floor(threshold):
            self.cuts.append((threshold, name))

    def words(self) -> list[str]:
        """What is to be said, in sentences."""
        found = []
        if self.ratios:
            low, high = min(self.ratios), max(self.ratios)
            found.append(
                "CHaiDNN takes the largest magnitude of each fused filter for its threshold, "
                f"{low[0]:.3g} ({low[1]!r}) to {high[0]:.3g} ({high[1]!r}) times that of the file"
            )
        if any(gap for gap, _ in self.fractions):
            few, many = min(self.fractions), max(self.fractions)
            found.append(
                "CHaiDNN gives fused weights a wt_fl that fits their largest magnitude, "
                f"{few[0]:+d} ({few[1]!r}) to {many[0]:+d} ({many[1]!r}) from fl_params of the file"
            )
        if self.cuts:
            worst = min(self.cuts, key=lambda item: math.floor(item[0]) / item[0])
            found.append(
                f"CHaiDNN cuts th_layer_out of {len(self.cuts)} of them to an integer, "
                f"{worst[0]:.6g} of {worst[1]!r} to {math.floor(worst[0])}"
            )
        return found


def _integer_bits(largest: float) -> int:
    """The bits before the binary point, the sign included, that CHaiDNN gives fused weights."""
    if largest < 1:
        return 1
    return 2 if largest == 1 else math.ceil(math.log2(largest)) + 1
