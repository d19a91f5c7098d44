"""Writing an ``.npz`` sample by sample: memory does not grow with the number of samples."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlaconv.files import replacing

_PIECE = 1 << 20


class NpzWriter:
    """The arrays of an ``.npz`` on their way to it.

    Attributes:
        arrays: shape, type, least and greatest value of each array, as JSON values.
    """

    def __init__(self, folder: Path) -> None:
        """Starts without arrays.

        Args:
            folder: an empty folder for what is not packed yet.
        """
        self.arrays: dict[str, dict[str, Any]] = {}
        self._folder = folder
        self._files: dict[str, Path] = {}

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Adds rows to the arrays of their names, along the first axis."""
        for name, array in rows.items():
            file = self._files.setdefault(name, self._folder / str(len(self._files)))
            with file.open("ab") as stream:
                stream.write(np.ascontiguousarray(array).data)
            low, high = (array.min().item(), array.max().item()) if array.size else (None, None)
            known = self.arrays.get(name)
            if known is None:
                found = {"shape": list(array.shape), "dtype": str(array.dtype)}
                self.arrays[name] = found | {"min": low, "max": high}
            else:
                known["shape"][0] += array.shape[0]
                known["min"] = min((x for x in (known["min"], low) if x is not None), default=None)
                known["max"] = max((x for x in (known["max"], high) if x is not None), default=None)

    def pack(self, path: Path) -> None:
        """Puts the arrays into an ``.npz``."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, file in self._files.items():
                known = self.arrays[name]
                header = {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(known["dtype"])),
                    "fortran_order": False,
                    "shape": tuple(known["shape"]),
                }
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    with file.open("rb") as stream:
                        shutil.copyfileobj(stream, member, _PIECE)


@contextlib.contextmanager
def npz_writer(path: Path) -> Iterator[NpzWriter]:
    """Gives a writer whose arrays are in ``path`` when the block succeeds, whole or not at all."""
    with (
        replacing(path) as temporary,
        tempfile.TemporaryDirectory(prefix=".dlaconv.", dir=path.parent) as folder,
    ):
        writer = NpzWriter(Path(folder))
        yield writer
        writer.pack(temporary)
