"""What a file is that a user hands over: a source, a converted file, or the report of a cut one."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING

from dlaconv.driver.reading import read_access_model
from dlaconv.errors import ConversionError, UnreadableError
from dlaconv.files import require_file

if TYPE_CHECKING:
    from dlaconv.frontends import Imported
    from dlaconv.ir.target import Target
    from dlaconv.plugins import Plugins


class Kind(enum.StrEnum):
    """What is in a file."""

    SOURCE = "source"
    CONVERTED = "converted"
    CHAIN = "chain"


def kind_of(path: Path, target: Target, frontend: str | None = None) -> Kind:
    """Tells what a file is, from its content.

    A converted file is one in which some operator carries an attribute of the compiler; a report
    ends in ``.json``.

    Args:
        path: the file.
        target: the description with the compiler's attributes.
        frontend: the format that the user named; such a file is a source.

    Raises:
        UnreadableError: if there is no such file.
    """
    from dlaconv.backends.access.standard_form import FIELD_ATTRIBUTES, private_attributes

    require_file(path)
    if frontend is not None:
        return Kind.SOURCE
    if path.suffix == ".json":
        return Kind.CHAIN
    try:
        model = read_access_model(path, target)
    except UnreadableError:  # the frontend of the format says it better
        return Kind.SOURCE
    names = private_attributes(target) | FIELD_ATTRIBUTES
    marked = any(names & node.attributes.keys() for node in model.graph)
    return Kind.CONVERTED if marked else Kind.SOURCE


def read_source(path: Path, frontend: str | None, plugins: Plugins) -> Imported:
    """Reads a source, and stops where it cannot be run.

    Raises:
        UserError: with everything that its frontend found.
    """
    from dlaconv import api

    imported = api.load(path, frontend, plugins=plugins)
    if imported.diagnostics.errors:
        raise ConversionError(imported.diagnostics)
    return imported
