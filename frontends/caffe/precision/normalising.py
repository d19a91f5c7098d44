"""Convolution, BatchNorm and Scale as one layer, and what CHaiDNN makes of their formats.

With ``S = gamma / sqrt(variance + eps)`` the three compute ``S (W x + b - mean) + beta``. CHaiDNN
computes ``S W`` and ``S (b - mean) + beta`` first and rounds these, but with formats of its own: in
Xilinx mode the largest magnitude of each filter of ``S W``, in DynamicFixed mode a format that
holds the largest of them all. The formats of the file are those with which the network was
calibrated, of ``W``. Here they are kept, and S goes to the steps; see `docs/caffe.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeGraph, CaffeLayer
from dlaconv.frontends.caffe.network import Layer, names_of
from dlaconv.frontends.caffe.normalisation import require_plain, statistics
from dlaconv.frontends.caffe.precision import FilterThresholds, MapFormat
from dlaconv.frontends.caffe.precision.filters import largest_of_filters, quantised_bias
from dlaconv.frontends.caffe.precision.flow import Chain
from dlaconv.frontends.caffe.precision.grids import ROUNDING
from dlaconv.frontends.caffe.precision.recomputed import Recomputed, belong_to_fused
from dlaconv.ir.formats import QFormat, Threshold, integer_range
from dlaconv.ir.rounding import Rounding, round_array

_GUARD_BITS = 8
_STORED_BITS = 16


@dataclass(frozen=True, eq=False)
class Normalisation:
    """``factor (x - mean) + offset`` per channel, float64 ``[C]``.

    Attributes:
        mean: of the BatchNorm.
        factor: ``gamma / sqrt(variance + eps)``.
        offset: beta of the Scale.
    """

    mean: np.ndarray
    factor: np.ndarray
    offset: np.ndarray


def normalisation_of(chain: Chain, graph: CaffeGraph, channels: int) -> Normalisation:
    """What BatchNorm and Scale compute.

    Raises:
        RefusalError: if their parameters are not there, or no numbers.
    """
    norm = CaffeLayer(chain.norm, graph, [])
    require_plain(norm)
    mean, variance, eps = statistics(norm, channels)
    gamma, beta = np.ones(channels), np.zeros(channels)
    if chain.scale is not None:
        scale = CaffeLayer(chain.scale, graph, [])
        gamma = scale.blob(0, (channels,), "scale").astype(np.float64)
        if scale.param("scale_param").flag("bias_term"):
            beta = scale.blob(1, (channels,), "bias").astype(np.float64)
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(variance.astype(np.float64) + eps)
    found = Normalisation(mean.astype(np.float64), factor, beta)
    if not all(np.isfinite(array).all() for array in (found.mean, factor, beta)):
        norm.refuse("the statistics are no numbers, or a variance is negative")
    return found


def result_of(chain: Chain) -> MapFormat | None:
    """The format of the chain's result: that of the last layer which has one."""
    formats = [layer.precision.maps_out for layer in chain.layers if layer.precision is not None]
    return next((form for form in reversed(formats) if form is not None), None)


def rounded_statistics(
    found: Normalisation, chain: Chain, maps_in: MapFormat | None
) -> Normalisation:
    """The statistics as CHaiDNN's hardware holds them where no convolution takes them along.

    They have 16 bits, eight more of them behind the binary point than the file says. The factor is
    rounded, the others are cut off, the mean at the format of what the layer reads.

    Args:
        found: the exact ones.
        chain: says which formats they have; those without one stay as they are.
        maps_in: the format of what the layer reads.
    """
    formats: dict[str, QFormat] = {}
    for layer in chain.layers:
        if layer.precision is not None:
            formats.update(layer.precision.statistics)
    mean = maps_in if isinstance(maps_in, QFormat) else None
    return Normalisation(
        _held(found.mean, mean, Rounding.DOWN),
        _held(found.factor, formats.get("scale_gamma_by_std"), ROUNDING),
        _held(found.offset, formats.get("scale_beta"), Rounding.DOWN),
    )


def _held(values: np.ndarray, form: QFormat | None, rounding: Rounding) -> np.ndarray:
    if form is None:
        return values
    unit = 2.0 ** -(form.frac + _GUARD_BITS)
    low, high = integer_range(_STORED_BITS, signed=True)
    held: np.ndarray = np.clip(round_array(values / unit, rounding), low, high) * unit
    return held


@dataclass
class _Folded:
    """What a convolution leaves to the layers that it takes along.

    Attributes:
        found: what they compute.
        bias: of the convolution, ``[O]``.
    """

    found: Normalisation
    bias: np.ndarray


class Normalising:
    """Builds chains, and knows where CHaiDNN would compute something else."""

    def __init__(self, graph: CaffeGraph) -> None:
        """Begins a network.

        Args:
            graph: where nodes and findings go.
        """
        self._graph = graph
        self._folded: dict[Chain, _Folded] = {}
        self._recomputed = Recomputed()
        self._of_fused: list[Layer] = []

    def fold(
        self,
        layer: CaffeLayer,
        chain: Chain,
        constant: ir.Value,
        thresholds: np.ndarray | None = None,
    ) -> np.ndarray:
        """Prepares a convolution that takes BatchNorm and Scale along.

        Args:
            layer: the convolution.
            chain: where it is the first.
            constant: its weights.
            thresholds: of its filters, ``[O]``; None for weights in Q format.

        Returns:
            The thresholds of the filters before anything is folded into them.
        """
        largest = largest_of_filters(constant, 0, 1)
        if not np.isfinite(largest).all():
            layer.refuse("weights that are not finite cannot be quantised")
        found = normalisation_of(chain, self._graph, largest.size)
        self._folded[chain] = _Folded(found, np.zeros(largest.size))
        name = layer.layer.name
        weights = layer.layer.precision.weights if layer.layer.precision is not None else None
        result = result_of(chain)
        if isinstance(result, Threshold):
            self._recomputed.cut(float(result.th), name)
        if isinstance(weights, QFormat):
            self._recomputed.format(weights, float((largest * np.abs(found.factor)).max()), name)
        if thresholds is None or not isinstance(weights, FilterThresholds):
            return largest
        if weights.thresholds and belong_to_fused(thresholds, largest, found.factor):
            self._of_fused.append(layer.layer)
            gain = np.abs(found.factor)
            with np.errstate(all="ignore"):
                unfused = thresholds / gain
            thresholds = np.where(np.isfinite(unfused) & (unfused > 0), unfused, largest)
        if weights.thresholds:
            self._recomputed.thresholds(thresholds, largest, found.factor, name)
        return thresholds

    def take_bias(self, chain: Chain, bias: np.ndarray) -> None:
        """Keeps the bias of a convolution for the end of its chain."""
        self._folded[chain].bias = bias.astype(np.float64)

    def build(self, layer: CaffeLayer, chain: Chain) -> list[ir.Value]:
        """Builds a BatchNorm or Scale; the last one of the chain computes it all.

        Args:
            layer: the layer.
            chain: its chain.
        """
        if layer.layer is not chain.last:
            return [layer.x]
        if chain.convolution is None:
            return [self._alone(layer, chain)]
        folded, precision = self._folded[chain], chain.convolution.precision
        found, result = folded.found, result_of(chain)
        with np.errstate(all="ignore"):
            offset = found.factor * (folded.bias - found.mean) + found.offset
        if result is not None and precision is not None:
            at = CaffeLayer(chain.convolution, self._graph, [])
            offset = quantised_bias(at, offset, result, precision.mode)
        return [_scaled(layer, layer.x, found.factor, offset)]

    def _alone(self, layer: CaffeLayer, chain: Chain) -> ir.Value:
        """A BatchNorm that no convolution takes along."""
        shape = layer.shape()
        if len(shape) < 2:
            layer.no_form(f"a BatchNorm of shape {list(shape)}")
        exact = normalisation_of(chain, self._graph, shape[1])
        formats = [one.precision.maps_in for one in chain.layers if one.precision is not None]
        maps_in = next((form for form in formats if form is not None), None)
        found = rounded_statistics(exact, chain, maps_in)
        mean = layer.constant("mean", found.mean.reshape(_broadcast(layer)))
        centred = layer.op("Sub", [layer.x, mean], shape)
        return _scaled(layer, centred, found.factor, found.offset)

    def finish(self) -> None:
        """Says what CHaiDNN would do otherwise, over the whole network."""
        if self._of_fused:
            self._graph.diagnostics.warning(
                "DLA150",
                "thresholds-of-fused-filters",
                f"th_params of {names_of(self._of_fused)} are the largest "
                "magnitudes of the filters with BatchNorm and Scale in them, and are used as such",
                location=self._of_fused[0].location(self._graph.file),
                help="save weights that are fused, too, if they are meant otherwise",
                notes=("most lie within 7 % of those magnitudes, and far from the stored ones",),
            )
        first = next(iter(self._folded), None)
        words = self._recomputed.words()
        if first is not None and words:
            self._graph.diagnostics.note(
                "DLA149",
                "fused-formats",
                f"{len(self._folded)} convolutions take BatchNorm and Scale along, with the "
                "formats of the file; " + "; ".join(words),
                location=first.layers[0].location(self._graph.file),
                help="nothing; results differ from CHaiDNN's by that much",
            )


def _scaled(layer: CaffeLayer, x: ir.Value, factor: np.ndarray, offset: np.ndarray) -> ir.Value:
    """``factor x + offset`` per channel."""
    shape, broadcast = layer.shape(), _broadcast(layer)
    scaled = layer.op("Mul", [x, layer.constant("factor", factor.reshape(broadcast))], shape)
    return layer.op("Add", [scaled, layer.constant("offset", offset.reshape(broadcast))], shape)


def _broadcast(layer: CaffeLayer) -> tuple[int, ...]:
    return (1, -1, *(1,) * (len(layer.shape()) - 2))
