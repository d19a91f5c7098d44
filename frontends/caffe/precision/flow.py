"""Which layers read what a layer writes, and which of them CHaiDNN computes as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import Mode

CONVOLUTIONS = {"Convolution", "ConvolutionDepthwise", "DepthwiseConvolution"}
"""Layers that take a BatchNorm and a Scale along; CHaiDNN knows the first name only."""


class Flow:
    """Who reads what: a layer in place makes a new value, so readers behind it are not its own."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Goes through a network.

        Args:
            layers: in the order in which they run.
        """
        self._readers: dict[int, list[tuple[str, Layer]]] = {}
        writer: dict[str, Layer] = {}
        for layer in layers:
            for name in layer.bottoms:
                if name in writer:
                    self._readers.setdefault(id(writer[name]), []).append((name, layer))
            writer.update(dict.fromkeys(layer.tops, layer))

    def readers(self, layer: Layer, top: str | None = None) -> list[Layer]:
        """The layers that read a layer's results, once for each of them, or one of these."""
        read = self._readers.get(id(layer), [])
        return [reader for name, reader in read if top in {None, name}]

    def sole_reader(self, layer: Layer) -> Layer | None:
        """The layer that reads a layer's only result, if no other does and it reads nothing else.

        It has one result itself.
        """
        readers = self.readers(layer)
        if len(layer.tops) != 1 or len(readers) != 1 or len(readers[0].bottoms) != 1:
            return None
        return readers[0] if len(readers[0].tops) == 1 else None


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers that CHaiDNN computes as one, with one rounding at the end.

    Attributes:
        convolution: takes the others into its weights; None where they stand alone.
        norm: a BatchNorm.
        scale: the Scale behind it, None without one.
    """

    convolution: Layer | None
    norm: Layer
    scale: Layer | None

    @property
    def layers(self) -> list[Layer]:
        """All of them in order."""
        return [layer for layer in (self.convolution, self.norm, self.scale) if layer is not None]

    @property
    def last(self) -> Layer:
        """The one whose result is rounded."""
        return self.scale or self.norm


def taken_along(
    layers: Sequence[Layer], flow: Flow | None = None
) -> list[tuple[Layer, Layer, Layer]]:
    """Each convolution with the BatchNorm and the Scale that CHaiDNN computes into its weights.

    Args:
        layers: the network.
        flow: who reads what in it, if that is known.
    """
    flow = flow or Flow(layers)
    found = []
    for convolution in layers:
        norm = flow.sole_reader(convolution) if convolution.type in CONVOLUTIONS else None
        scale = flow.sole_reader(norm) if norm is not None and joins(norm, "BatchNorm") else None
        if norm is not None and scale is not None and joins(scale, "Scale"):
            found.append((convolution, norm, scale))
    return found


def chains(layers: Sequence[Layer], flow: Flow) -> list[Chain]:
    """The convolutions with BatchNorm and Scale behind them, and BatchNorms that stand alone.

    CHaiDNN joins a convolution with both or with neither. Ristretto joins nothing.

    Args:
        layers: the network.
        flow: who reads what in it.
    """
    found = [Chain(*three) for three in taken_along(layers, flow) if _quantises(three[0])]
    taken = {id(chain.norm) for chain in found}
    for norm in layers:
        if not joins(norm, "BatchNorm") or id(norm) in taken:
            continue
        scale = flow.sole_reader(norm)
        scale = scale if scale is not None and joins(scale, "Scale") else None
        if any(_quantised(layer) for layer in (norm, scale)):
            found.append(Chain(None, norm, scale))
    return found


def _quantised(layer: Layer | None) -> bool:
    """True if CHaiDNN has integers for a layer."""
    precision = layer.precision if layer is not None else None
    return precision is not None and precision.mode is not Mode.RISTRETTO


def _quantises(layer: Layer) -> bool:
    return _quantised(layer) and layer.precision is not None and layer.precision.weights is not None


def joins(layer: Layer, kind: str) -> bool:
    """True for a BatchNorm or Scale of the plain kind: stored statistics, factors per channel."""
    if layer.type != kind or len(layer.bottoms) != 1 or len(layer.tops) != 1:
        return False
    if layer.precision is not None and layer.precision.mode is Mode.RISTRETTO:
        return False
    if layer.message.has("phase") and layer.message.text("phase") == "TRAIN":
        return False
    if kind == "BatchNorm":
        param = layer.param("batch_norm_param")
        return param.flag("use_global_stats") or not param.has("use_global_stats")
    param = layer.param("scale_param")
    return param.integer("axis") == 1 and param.integer("num_axes") == 1
