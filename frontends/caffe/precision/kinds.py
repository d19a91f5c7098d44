"""What CHaiDNN asks of each type of layer, and which layers it computes as one."""

from __future__ import annotations

import enum

from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision.flow import CONVOLUTIONS

_WEIGHTED = {*CONVOLUTIONS, "Deconvolution"}
MOVING = {
    "Crop", "Dropout", "Flatten", "Permute", "PixelShuffle", "Reshape", "ShuffleChannel", "Slice",
    "Split", "Tile", "Unsqueeze", "Upsample",
}  # fmt: skip
"""Layers whose results are values of their first bottom."""


class Kind(enum.Enum):
    """Which formats a layer has.

    Attributes:
        WEIGHTED: maps, weights and a bias.
        SOFTWARE: the same, but CHaiDNN computes the layer in floating point.
        MAPS: maps.
        STATISTICS: maps, and statistics unless a convolution takes them along.
        JOINED: maps, which CHaiDNN does not look at.
        NONE: none; the layer keeps the format of what it reads.
    """

    WEIGHTED = enum.auto()
    SOFTWARE = enum.auto()
    MAPS = enum.auto()
    STATISTICS = enum.auto()
    JOINED = enum.auto()
    NONE = enum.auto()


def kind_of(layer: Layer) -> Kind:
    """Which formats a layer has."""
    if layer.type == "Pooling":
        averages = layer.param("pooling_param").text("pool") == "AVE"
        return Kind.MAPS if averages else Kind.NONE
    if layer.type in _WEIGHTED:
        return Kind.WEIGHTED
    return {
        "BatchNorm": Kind.STATISTICS,
        "Concat": Kind.JOINED,
        "Eltwise": Kind.MAPS,
        "InnerProduct": Kind.SOFTWARE,
        "LRN": Kind.MAPS,
        "Normalize": Kind.MAPS,
        "Scale": Kind.STATISTICS,
    }.get(layer.type, Kind.NONE)


def statistics_of(layer: Layer) -> tuple[str, ...]:
    """The statistics of a layer that have formats, by their fields without ``_bw`` or ``_fl``."""
    if layer.type == "BatchNorm":
        return ("batchnorm_mean", "batchnorm_variance")
    if layer.type == "Scale" and len(layer.bottoms) == 1:
        return ("scale_gamma", "scale_beta", "scale_gamma_by_std")
    return ()
