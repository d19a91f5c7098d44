"""Caffe: networks of BVLC Caffe and its forks, a prototxt and a caffemodel each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dlaconv.frontends import Frontend, Imported
from dlaconv.hookspecs import hookimpl

_READ = 1 << 16
_WORDS = (b"layer", b"layers", b"input", b"name")


def load_caffe(
    path: Annotated[
        Path, typer.Argument(metavar="PROTOTXT", help="The network, such as deploy.prototxt.")
    ],
    weights: Annotated[
        Path, typer.Argument(metavar="CAFFEMODEL", help="Its weights, a .caffemodel.")
    ],
    *,
    ignore_unknown_fields: Annotated[
        bool,
        typer.Option(
            "--ignore-unknown-fields",
            help="Only warn of fields in the prototxt that no known Caffe has.",
        ),
    ] = False,
    layers: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Imported:
    """Reads a Caffe network in floating point.

    Networks of all versions of BVLC Caffe and many layers of its forks are read as Caffe runs them
    in its test phase. Give representative inputs with --calibrate. Networks quantised for CHaiDNN
    or by Ristretto are refused for now.

    Args:
        path: the prototxt.
        weights: the caffemodel.
        ignore_unknown_fields: makes unknown fields warnings.
        layers: handlers of plugins by type of layer, beside or in place of the built-in ones.
        shapes: shapes of inputs by name, in place of the prototxt's.

    Returns:
        The network at stage IMPORTED.

    Raises:
        UnreadableError: if a file cannot be read.
    """
    from dlaconv.frontends.caffe.importer import import_files

    return import_files(
        path,
        weights,
        ignore_unknown=ignore_unknown_fields,
        layers=layers or {},
        shapes=shapes or {},
    )


def looks_like_caffe(path: Path) -> bool:
    """True for a text file whose first field is one of a Caffe network."""
    import re

    with path.open("rb") as stream:
        head = stream.read(_READ)
    if b"\0" in head:
        return False
    text = re.sub(rb"#[^\n]*", b"", head).lstrip(b"\xef\xbb\xbf \t\r\n")
    match = re.match(rb"([a-z_]+)\s*([:{<])", text)
    return match is not None and match[1] in _WORDS and b"layer" in text


FRONTEND = Frontend(
    name="caffe",
    summary="Convert a Caffe network (BVLC, SSD and other forks) in floating point.",
    load=load_caffe,
    sniff=looks_like_caffe,
)


@hookimpl
def register_frontends() -> Sequence[Frontend]:
    """Announces the frontend."""
    return [FRONTEND]
