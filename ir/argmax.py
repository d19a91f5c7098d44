"""Which value of an output is the largest, in the source and on the hardware."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Argmax:
    """How often the largest value of a map stays the largest; its class, if it is a classifier's.

    Where the two largest values of the source are no more than one unit of the map apart, the
    hardware may have them as one integer: that is a near tie, and its outcome says nothing. Among
    equals the first counts.

    Attributes:
        samples: number of samples.
        near_ties: those with a near tie, counted from 0.
        changed: those on which another value is the largest: sample, indices of the largest value
            in the source and on the hardware, and what the source's two largest are apart.
    """

    samples: int = 0
    near_ties: list[int] = field(default_factory=list)
    changed: list[tuple[int, int, int, float]] = field(default_factory=list)

    def add(self, wanted: np.ndarray, got: np.ndarray) -> None:
        """Adds one sample, ``[1, C]`` or more axes of one; others have no largest value.

        Args:
            wanted: the source's values in units of the map.
            got: the hardware's integers.
        """
        if wanted.ndim < 2 or not wanted.size == wanted.shape[1] > 1:
            return
        source, hardware = wanted.reshape(-1), got.reshape(-1)
        before, after = int(source.argmax()), int(hardware.argmax())
        second, first = np.partition(source, -2)[-2:].astype(np.float64)
        apart = float(first - second)
        if apart <= 1:
            self.near_ties.append(self.samples)
        if before != after:
            self.changed.append((self.samples, before, after, apart))
        self.samples += 1

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        names = ("sample", "source", "hardware", "apart")
        changed = [
            dict(zip(names, (*row[:3], round(row[3], 3)), strict=True)) for row in self.changed
        ]
        return {
            "samples": self.samples,
            "kept": self.samples - len(self.changed),
            "near_ties": self.near_ties,
            "changed": changed,
        }
