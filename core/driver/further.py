"""Files that a frontend wants written beside the converted one."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dlaconv.files import replacing, require_output, require_separate

if TYPE_CHECKING:
    from dlaconv.options import Options


def require_further(
    paths: Collection[Path], sources: Collection[Path], output: Path | None, options: Options
) -> None:
    """Sees to it that further files can be written, and are none that the conversion has itself.

    Raises:
        UsageError: if one cannot.
    """
    for path in paths:
        require_output(path, [*sources, *options.files])
        taken = [item for item in (options.html, options.calibration_cache) if item is not None]
        if output is not None:
            require_separate(path, output, options.emit, taken)


@contextlib.contextmanager
def further_files(files: Mapping[Path, str]) -> Iterator[None]:
    """Puts files in their place when the block succeeds, and leaves none of them otherwise."""
    with contextlib.ExitStack() as places:
        for path, text in files.items():
            places.enter_context(replacing(path)).write_text(text, "utf-8", newline="\n")
        yield
