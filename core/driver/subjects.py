"""What a user hands over: a source, a converted file, or the report of a network that was cut."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from dlaconv.driver.reading import read_access_model
from dlaconv.errors import UnreadableError

if TYPE_CHECKING:
    from dlaconv.driver.sources import Source
    from dlaconv.ir.target import Target
    from dlaconv.plugins import Plugins


class Kind(enum.StrEnum):
    """What is in a file."""

    SOURCE = "source"
    CONVERTED = "converted"
    CHAIN = "chain"


def kind_of(given: Source, target: Target, plugins: Plugins) -> Kind:
    """Tells what files are, from their content.

    A converted file is one in which some operator carries an attribute of the compiler; a report
    ends in ``.json`` and is of no format. What is of several files, or of a format or options that
    the user names, is a source.

    Args:
        given: the files.
        target: the description with the compiler's attributes.
        plugins: know the formats.
    """
    from dlaconv.backends.access.standard_form import FIELD_ATTRIBUTES, private_attributes

    path = given.path
    if given.frontend is not None or given.options is not None or len(given.files) > 1:
        return Kind.SOURCE
    if path.suffix == ".json":
        return Kind.SOURCE if plugins.recognise(given.files) else Kind.CHAIN
    try:
        model = read_access_model(path, target)
    except UnreadableError:  # the frontend of the format says it better
        return Kind.SOURCE
    names = private_attributes(target) | FIELD_ATTRIBUTES
    marked = any(names & node.attributes.keys() for node in model.graph)
    return Kind.CONVERTED if marked else Kind.SOURCE
