"""The Python API for looking into networks; `dlaconv.api` has the rest.

Each function takes paths as `pathlib.Path` or `str` and raises `dlaconv.errors.UserError` (with
every diagnostic found) for what a user can mend.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dlaconv.api import PathLike, no_numeric_warnings
from dlaconv.files import require_file
from dlaconv.plugins import Plugins

if TYPE_CHECKING:
    from dlaconv.driver.showing import Shown


@no_numeric_warnings()
def show(
    path: PathLike,
    *,
    frontend: str | None = None,
    target: PathLike | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    plugins: Plugins | None = None,
) -> Shown:
    """Tells what is in a network: layers, shapes, parameters, multiplications, quantisation.

    Args:
        path: a source, a converted file, or the report of a conversion.
        frontend: format of the file; recognised if None.
        target: the description that the file was made with; the built-in ACCESS one if None.
        shapes: shapes of graph inputs that a source leaves open.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UserError: if the file cannot be read.
    """
    from dlaconv.driver.showing import show_file

    return show_file(
        require_file(Path(path)),
        frontend=frontend,
        target=_path(target),
        shapes=shapes or {},
        plugins=plugins or Plugins(),
    )


def _path(given: PathLike | None) -> Path | None:
    return None if given is None else Path(given)
