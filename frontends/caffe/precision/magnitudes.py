"""How large the parameters of layers are, where formats are chosen for them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dlaconv.frontends.caffe.blobs import Blob
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision.filters import largest_of_filters
from dlaconv.frontends.caffe.precision.limits import MOST_FRACTION
from dlaconv.ir import dialect
from dlaconv.ir.formats import QFormat

Blobs = Callable[[str], list[Blob]]
"""The blobs of a layer by its name."""


def filter_magnitudes(layer: Layer, blobs_of: Blobs) -> np.ndarray | None:
    """The largest magnitude of the weights of each filter, float64 ``[O]``.

    Returns:
        None if there are no weights, or none that fit; importing the layer says what is wrong.
    """
    blobs = blobs_of(layer.name)
    shape = blobs[0].shape if blobs else ()
    outputs, groups = 0, 1
    if layer.type == "InnerProduct":
        param = layer.param("inner_product_param")
        count, outputs = param.integer("num_output"), int(param.flag("transpose"))
        inner = math.prod(shape) // count if count > 0 else 0
        shape = (inner, count) if outputs else (count, inner)
    else:
        param = layer.param("convolution_param")
        count = param.integer("num_output")
        if layer.type == "Deconvolution":
            outputs, groups = 1, max(param.integer("group"), 1)
            fits = len(shape) > 1 and shape[0] % groups == 0 and shape[1] * groups == count
            shape = shape if fits else ()
    if not blobs or len(shape) < 2 or math.prod(shape) != blobs[0].array.size or 0 in shape:
        return None
    array = np.asarray(blobs[0].shaped(shape), np.float32)
    found = largest_of_filters(dialect.constant(layer.name, array), outputs, groups)
    return found if len(found) == count and np.isfinite(found).all() else None


def holding(largest: float, bits: int) -> QFormat:
    """The format with one bit before the binary point for each bit of a magnitude, and the sign.

    It is CHaiDNN's and Ristretto's: a magnitude of 1 has none, and saturates by one unit.
    """
    if not (largest > 0 and math.isfinite(largest)):
        return QFormat(bits, bits - 1)
    mantissa, exponent = math.frexp(largest)
    places = exponent - 1 if mantissa == 0.5 else exponent
    return QFormat(bits, min(max(bits - 1 - places, -MOST_FRACTION), MOST_FRACTION))


def statistic_formats(
    names: tuple[str, ...], layer: Layer, norm: Layer | None, bits: int, blobs_of: Blobs
) -> dict[str, QFormat]:
    """Formats that hold the statistics of a BatchNorm or Scale that no convolution takes along.

    Args:
        names: which ones, see `dlaconv.frontends.caffe.precision.kinds.statistics_of`.
        layer: the BatchNorm or the Scale.
        norm: the BatchNorm in front of a Scale, None if there is none.
        bits: bits of each.
        blobs_of: gives their values.
    """
    if not names:
        return {}
    values = {}
    stored = [np.asarray(blob.array, np.float64) for blob in blobs_of(layer.name)]
    if layer.type == "BatchNorm" and len(stored) > 1:
        values = {"batchnorm_mean": _mean(stored, 0), "batchnorm_variance": _mean(stored, 1)}
    elif stored:
        values = {"scale_gamma": stored[0], "scale_gamma_by_std": stored[0]}
        values["scale_beta"] = stored[1] if len(stored) > 1 else np.zeros(1)
        before = [blob.array for blob in blobs_of(norm.name)] if norm is not None else []
        if norm is not None and len(before) > 1 and before[1].size == stored[0].size:
            eps = norm.param("batch_norm_param").number("eps")
            with np.errstate(all="ignore"):
                deviation = np.sqrt(_mean(before, 1) + eps)
                values["scale_gamma_by_std"] = stored[0].reshape(-1) / deviation
    largest = {name: float(np.abs(array).max(initial=0)) for name, array in values.items()}
    return {name: holding(largest.get(name, 0.0), bits) for name in names}


def _mean(stored: list[np.ndarray], index: int) -> np.ndarray:
    """A statistic of a BatchNorm, which stores sums and what to divide them by."""
    total = float(stored[2].reshape(-1)[0]) if len(stored) > 2 and stored[2].size else 1.0
    found: np.ndarray = stored[index].reshape(-1) * (0.0 if total == 0 else 1.0 / total)
    return found
