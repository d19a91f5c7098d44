"""What can be wrong with a file of any frontend, as diagnostics."""

from __future__ import annotations

from dlaconv.diagnostics import Diagnostic, Location


def unreadable(file: str, why: str, wanted: str) -> Diagnostic:
    """There is nothing to read at a path.

    Args:
        file: the path.
        why: what is wrong with it.
        wanted: what the user should give, "the path of ...".
    """
    return Diagnostic(
        "DLA401",
        "unreadable-file",
        why,
        location=Location(file=file),
        help=f"give {wanted} that you may read",
    )


def too_large(file: str, why: str, *, suspect: str = "file") -> Diagnostic:
    """A file asks for more memory than we are willing to take."""
    return Diagnostic(
        "DLA407",
        "too-large",
        why,
        location=Location(file=file),
        help=f"a network for the accelerator is far smaller; check the {suspect}",
    )
