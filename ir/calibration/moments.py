"""How the inputs of linear layers vary together, on calibration data.

For each layer the covariance of what one output position reads: K values, the window of a
convolution in each of its input channels. It is estimated from few samples, and values of one
sample are alike. So its off-diagonal entries are made smaller by as much as they vary from sample
to sample (Schaefer and Strimmer, 2005): what only these samples have in common does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.calibration.histogram import stride
from dlaconv.ir.execution import Executor
from dlaconv.ir.graph import attribute, ints_attribute, is_op, shape_of

_BYTES = 1 << 26
"""Memory for what is kept of one run over the samples."""
_FEWEST = 1 << 11
"""Positions of a layer that are looked at, of all samples together, or twice as many as it reads
values, if there are so many."""
_ROWS = 1 << 10
"""Of them so many at once, in double precision."""


def covariances(
    model: ir.Model,
    data: Dataset,
    layers: Sequence[ir.Node],
    means: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, np.ndarray]]:
    """Runs a model on samples, as often as memory asks for, and says how inputs vary together.

    Layers whose covariance would take too much memory are left out, and those that read more than
    twice as many values as there are positions: that says little of how they vary.

    Args:
        model: a model of any stage.
        data: samples of its inputs, at least two.
        layers: its Conv and Gemm nodes with inputs ``[1, C, ...]``.
        means: the mean of each channel of a layer's input, ``[C]``, by name of the layer.

    Yields:
        Name of the layer, and float64 ``[G, K, K]`` for its G groups.
    """
    known = [node for node in layers if 2 * _positions(node) * len(data) >= _reads(node)[1]]
    for some in _batches(known):
        names = {node.name or "": node.inputs[0].name or "" for node in some if node.inputs[0]}
        executor = Executor(model, list(dict.fromkeys(names.values())))
        kept: dict[str, list[np.ndarray]] = {node.name or "": [] for node in some}
        for feeds in data:
            values = executor.run(feeds)
            for node in some:
                name = node.name or ""
                wanted = -(-_wanted(node) // len(data))
                kept[name].append(_patches(values[names[name]], node, means[name], wanted))
        del executor
        for name in list(kept):
            yield name, _covariance(kept.pop(name))


def _reads(node: ir.Node) -> tuple[int, int]:
    """Groups of a layer, and how many values each of its outputs reads."""
    source = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    group = int(attribute(node, "group", 1)) if is_op(node, "Conv") else 1
    window = int(np.prod(ints_attribute(node, "kernel_shape"))) if is_op(node, "Conv") else 1
    return group, (source or (1, 1))[1] // group * window


def _positions(node: ir.Node) -> int:
    """Positions of a layer's result on one sample."""
    return int(np.prod((shape_of(node.outputs[0]) or ())[2:])) if is_op(node, "Conv") else 1


def _wanted(node: ir.Node) -> int:
    """Positions of a layer to look at."""
    return max(2 * _reads(node)[1], _FEWEST)


def _batches(layers: Sequence[ir.Node]) -> Iterator[list[ir.Node]]:
    batch: list[ir.Node] = []
    free = _BYTES
    for node in layers:
        groups, size = _reads(node)
        needed = 4 * groups * size * _wanted(node)
        if needed > _BYTES:
            continue
        if needed > free:
            yield batch
            batch, free = [], _BYTES
        batch.append(node)
        free -= needed
    if batch:
        yield batch


def _patches(values: np.ndarray, node: ir.Node, means: np.ndarray, wanted: int) -> np.ndarray:
    """What some positions of a layer's result read, less the means: float32 ``[G, n, K]``."""
    groups, size = _reads(node)
    if not is_op(node, "Conv"):
        rows: np.ndarray = (values.reshape(1, -1, size) - means).astype(np.float32)
        return rows
    image = values[0]
    rank = image.ndim - 1
    pads = ints_attribute(node, "pads") or (0,) * (2 * rank)
    strides = ints_attribute(node, "strides") or (1,) * rank
    dilations = ints_attribute(node, "dilations") or (1,) * rank
    kernel = ints_attribute(node, "kernel_shape")
    image = np.pad(image, [(0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [
        (n - extent) // step + 1
        for n, extent, step in zip(image.shape[1:], extents, strides, strict=True)
    ]
    total = int(np.prod(counts))
    chosen = np.unravel_index(np.arange(0, total, stride(total, min(wanted, total))), counts)
    corners = [place * step for place, step in zip(chosen, strides, strict=True)]
    found = np.empty((len(image), len(corners[0]), *kernel), np.float32)
    for offset in np.ndindex(*kernel):
        places = [c + o * d for c, o, d in zip(corners, offset, dilations, strict=True)]
        found[:, :, *offset] = image[:, *places]
    found -= means.reshape(-1, 1, *(1,) * rank).astype(np.float32)
    found = found.reshape(groups, len(image) // groups, len(corners[0]), -1)
    return found.transpose(0, 2, 1, 3).reshape(groups, len(corners[0]), size)


def _covariance(samples: list[np.ndarray]) -> np.ndarray:
    """Mean second moments ``[G, K, K]`` of rows ``[G, n, K]`` of each sample, shrunk."""
    groups, count, size = samples[0].shape
    squares = np.zeros(groups)
    for rows in samples:  # |X^T X| and |X X^T| are the same, and one of them is small
        small = rows if count < size else rows.transpose(0, 2, 1)
        products = (small @ small.transpose(0, 2, 1)).astype(np.float64)
        powers = np.square(rows, dtype=np.float64).sum(axis=1)
        squares += np.einsum("gij,gij->g", products, products) - np.einsum(
            "gk,gk->g", powers, powers
        )
    squares /= count**2 * len(samples)
    mean = np.zeros((groups, size, size))
    for start in range(0, len(samples), max(1, _ROWS // count)):
        part = np.concatenate(samples[start : start + max(1, _ROWS // count)], axis=1)
        rows = part.astype(np.float64)
        mean += rows.transpose(0, 2, 1) @ rows
    mean /= count * len(samples)
    diagonal = np.einsum("gkk->gk", mean).copy()
    signal = np.einsum("gij,gij->g", mean, mean) - np.einsum("gk,gk->g", diagonal, diagonal)
    noise = (squares - signal) / max(1, len(samples) - 1)
    share = np.clip(noise / np.maximum(signal, np.finfo(np.float64).tiny), 0.0, 1.0)
    mean *= (1 - share)[:, None, None]
    np.einsum("gkk->gk", mean)[:] = diagonal
    return mean
