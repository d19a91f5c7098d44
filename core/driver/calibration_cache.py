"""What was seen on calibration data, kept in a file for the next conversion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dlaconv.arrays import read_npz, write_npz
from dlaconv.files import require_output


class CalibrationCache:
    """Arrays by key in an ``.npz``; holds what the last conversion needed, and no more."""

    def __init__(self, path: Path) -> None:
        """Reads the file if there is one.

        Args:
            path: the file, which is written when there is something new.

        Raises:
            UnreadableError: if the file is no ``.npz`` of numbers.
            UsageError: if it cannot be written.
        """
        require_output(path)
        self._path = path
        self._known: dict[str, dict[str, np.ndarray]] = {}
        self._used: dict[str, Mapping[str, np.ndarray]] = {}
        for name, array in (read_npz(path) if path.exists() else {}).items():
            key, _, field = name.partition("/")
            self._known.setdefault(key, {})[field] = array

    def get(self, key: str) -> Mapping[str, np.ndarray] | None:
        """What was put under a key, None if nothing was."""
        found = self._known.get(key)
        if found is not None:
            self._used[key] = found
        return found

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps arrays under a key, and writes the file."""
        self._used[key] = arrays
        write_npz(
            self._path,
            {
                f"{k}/{field}": array
                for k, held in self._used.items()
                for field, array in held.items()
            },
        )
