"""What it costs to run a network, and on how many samples it is tried."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.graph import is_op, producer, shape_of

_ONE_LOOK = 4e9
"""Multiplications of one look at the samples: a tenth of a second."""


def multiplications(model: ir.Model) -> int:
    """Multiplications of one run, convolutions and fully connected layers only."""
    total = 0
    for node in model.graph:
        if not is_op(node, "Conv", "Gemm"):
            continue
        result = shape_of(node.outputs[0])
        holder = producer(node.inputs[1])
        weights = node.inputs[1] if holder is None else holder.inputs[0]
        shape = shape_of(weights) if weights is not None else None
        if result is not None and shape is not None:
            total += math.prod(result) * math.prod(shape[1:])
    return total


def affordable(model: ir.Model, data: Dataset, share: float = 1.0) -> Dataset:
    """The first samples, as many as take 4e9 multiplications in one run each; at least one.

    Args:
        model: the network, linear layers as Conv and Gemm.
        data: the samples.
        share: of these multiplications.
    """
    count = max(1, int(share * _ONE_LOOK // max(multiplications(model), 1)))
    return data.first(count)
