"""The files that a conversion starts from: their hashes, and whether they stay as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.errors import UnreadableError

States = dict[Path, tuple[int, int] | None]


def states(paths: Sequence[Path]) -> States:
    """Size and time of change of files; None for one that is gone, whose content stays mapped."""
    found: States = {}
    for path in paths:
        try:
            status = path.stat()
            found[path] = status.st_size, status.st_mtime_ns
        except OSError:
            found[path] = None
    return found


def require_unchanged(before: States) -> None:
    """Sees to it that a mapped file was not written to while it was read.

    Raises:
        UnreadableError: naming each file that was.
    """
    after = states(list(before))
    changed = [path for path, state in before.items() if None not in {state, after[path]}]
    changed = [path for path in changed if before[path] != after[path]]
    if changed:
        raise UnreadableError(
            Diagnostic(
                "DLA409",
                "changed-source",
                "the file was written to while it was converted",
                location=Location(file=str(path)),
                help="convert it again when whatever writes it has ended",
            )
            for path in changed
        )


class Digest(Thread):
    """The SHA-256 of files, computed while something else is done."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(daemon=True)
        self._digests = {path: hashlib.sha256() for path in paths}
        self._error: OSError | None = None
        self.start()

    def run(self) -> None:
        """Reads the files."""
        try:
            block = memoryview(bytearray(1 << 18))
            for path, digest in self._digests.items():
                with path.open("rb", buffering=0) as file:
                    while count := file.readinto(block):
                        digest.update(block[:count])
        except OSError as error:
            self._error = error

    def result(self) -> dict[Path, str]:
        """Waits for the end; what went wrong with a file is raised here."""
        self.join()
        if self._error is not None:
            raise self._error
        return {path: digest.hexdigest() for path, digest in self._digests.items()}
