"""What CHaiDNN asks of each type of layer, and which layers it computes as one."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from dlaconv.frontends.caffe.network import Layer

_CONVOLUTIONS = {
    "Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution",
}  # fmt: skip


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
    if layer.type in _CONVOLUTIONS:
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


def taken_along(layers: Sequence[Layer]) -> list[tuple[Layer, Layer, Layer]]:
    """Each Convolution with the BatchNorm and the Scale that CHaiDNN computes into its weights.

    It does so where both follow, each the only reader of what is before it.
    """
    maker: dict[str, Layer] = {}
    readers: dict[int, list[Layer]] = {}
    source: dict[int, Layer] = {}
    for layer in layers:
        for name in layer.bottoms:
            if name in maker:
                readers.setdefault(id(maker[name]), []).append(layer)
                source.setdefault(id(layer), maker[name])
        maker.update(dict.fromkeys(layer.tops, layer))
    found = []
    for scale in layers:
        norm = source.get(id(scale))
        if scale.type != "Scale" or norm is None or norm.type != "BatchNorm":
            continue
        convolution = source.get(id(norm))
        if convolution is None or convolution.type != "Convolution":
            continue
        if len(scale.bottoms) == len(readers[id(norm)]) == len(readers[id(convolution)]) == 1:
            found.append((convolution, norm, scale))
    return found
