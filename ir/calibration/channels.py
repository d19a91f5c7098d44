"""What the channels of a map are on calibration data, for what treats channels one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.calibration.histogram import stride
from dlaconv.ir.execution import Executor

_VALUES = 1 << 18
"""Values of a map that are kept, of all samples and channels together; one of each at least."""


@dataclass(frozen=True, eq=False)
class ChannelValues:
    """The values of a map, channel by channel.

    Attributes:
        largest: float64 ``[C]``, the largest magnitude of each channel on any sample.
        values: float32 ``[C, n]``, some values of each, from every sample.
    """

    largest: np.ndarray
    values: np.ndarray

    def reach(self) -> np.ndarray:
        """How far channels may go on other data, float64 ``[C]``.

        A channel has few values, but the largest of all channels, each in units of its root mean
        square, tells how far values of this map stray.
        """
        rms = np.sqrt(np.mean(np.square(self.values, dtype=np.float64), axis=1))
        used = rms > 0
        stray = (self.largest[used] / rms[used]).max(initial=0.0)
        reach: np.ndarray = np.maximum(self.largest, rms * stray)
        return reach

    def times(self, factors: np.ndarray) -> ChannelValues:
        """The map with each channel multiplied by a positive factor, ``[C]``."""
        values = (self.values * factors[:, None]).astype(np.float32)
        return ChannelValues(self.largest * factors, values)


def channel_values(
    model: ir.Model, data: Dataset, names: Sequence[str]
) -> dict[str, ChannelValues]:
    """Runs a model on samples and keeps what its maps are, per channel.

    Args:
        model: a model of any stage.
        data: samples of its inputs.
        names: values ``[1, C, ...]``.
    """
    largest: dict[str, np.ndarray] = {}
    kept: dict[str, list[np.ndarray]] = {}
    executor = Executor(model, list(dict.fromkeys(names)))
    for feeds in data:
        for name, array in executor.run(feeds).items():
            rows = array.reshape(array.shape[1], -1) if array.ndim > 1 else array.reshape(1, -1)
            ends = np.maximum(rows.max(1), -rows.min(1)).astype(np.float64)
            largest[name] = np.maximum(largest.get(name, 0.0), ends)
            wanted = max(1, _VALUES // (len(data) * len(rows)))
            kept.setdefault(name, []).append(rows[:, :: stride(rows.shape[1], wanted)].copy())
    return {
        name: ChannelValues(largest[name], np.concatenate(parts, axis=1))
        for name, parts in kept.items()
    }
