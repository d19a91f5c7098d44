"""What can be wrong with Caffe's files, as diagnostics."""

from __future__ import annotations

from dlaconv.diagnostics import Diagnostic, Location, Severity
from dlaconv.frontends import problems


def not_text(file: str, why: str, line: int = 0) -> Diagnostic:
    """The network's file is no prototxt."""
    return Diagnostic(
        "DLA418",
        "not-caffe",
        f"the prototxt cannot be read: {why}",
        location=Location(file=file, line=line),
        help="give the deploy.prototxt first, then the .caffemodel",
    )


def not_weights(file: str, why: str) -> Diagnostic:
    """The weights' file is no caffemodel."""
    return Diagnostic(
        "DLA418",
        "not-caffe",
        f"the weights cannot be read: {why}",
        location=Location(file=file),
        help="give the binary .caffemodel second; copy it again, it may be cut off",
    )


def unreadable(file: str, why: str) -> Diagnostic:
    """There is nothing to read at a path."""
    return problems.unreadable(file, why, "the paths of a prototxt and a caffemodel")


def misspelt_field(file: str, line: int, column: int, name: str, meant: str) -> Diagnostic:
    """A field is misspelt in a way that is known."""
    return Diagnostic(
        "DLA130",
        "unknown-field",
        f"{name!r} (column {column}) is read as {meant!r}",
        Severity.WARNING,
        Location(file=file, line=line),
        f"write {meant}",
        ("CHaiDNN's guide has this spelling, which CHaiDNN itself does not read",),
    )


def unknown_field(
    location: Location, message: str, near: str, elsewhere: str, *, ignored: bool
) -> Diagnostic:
    """A field has a name that no Caffe we know gives it."""
    remedy = "remove it, or ignore it with --ignore-unknown-fields if it changes no result"
    if elsewhere:
        remedy = f"it belongs into {elsewhere}; " + remedy
    elif near:
        remedy = f"did you mean {near!r}? " + remedy
    return Diagnostic(
        "DLA130",
        "unknown-field",
        message,
        Severity.WARNING if ignored else Severity.ERROR,
        location,
        "" if ignored else remedy,
        ("a field that is left out can change what the network computes",),
    )
