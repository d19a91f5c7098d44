"""Ranges of maps as seen on data, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.execution import Executor


def observed_magnitudes(model: ir.Model, data: Dataset, names: Sequence[str]) -> dict[str, float]:
    """The largest magnitude of each named value over the samples; one sample at a time in memory.

    Args:
        model: a model of any stage.
        data: samples of the graph inputs.
        names: values of the model.
    """
    executor = Executor(model, names)
    largest = dict.fromkeys(names, 0.0)
    for feeds in data:
        for name, array in executor.run(feeds).items():
            if array.size:
                largest[name] = max(largest[name], float(np.abs(array).max()))
    return largest
