"""Ranges of maps as seen on data, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir.execution import Executor, split_samples


def observed_magnitudes(
    model: ir.Model, samples: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, float]:
    """The largest magnitude of each named value over the samples; one sample at a time in memory.

    Args:
        model: a model of any stage.
        samples: stacked samples by graph input, first axis = sample.
        names: values of the model.
    """
    executor = Executor(model, names)
    largest = dict.fromkeys(names, 0.0)
    for feeds in split_samples(samples):
        for name, array in executor.run(feeds).items():
            if array.size:
                largest[name] = max(largest[name], float(np.abs(array).max()))
    return largest
