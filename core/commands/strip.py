"""``dlaconv strip``: a fixed-point file as plain ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlaconv import api
from dlaconv.commands.command import CONVERT, Command, Json, Session, command
from dlaconv.commands.options import Target
from dlaconv.errors import EXIT_OK


def strip(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A fixed-point ONNX file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The plain ONNX file to write.")
    ],
    target: Target = None,
    as_json: Json = False,
) -> int:
    """Take the private attributes out of a fixed-point ONNX file.

    The compiler's attributes make a file invalid for ONNX's own checker and for onnxruntime. What
    is left without them is the network in float arithmetic: weights and biases stay the multiples
    of their scales that they are, maps are not rounded any more. Inputs and outputs are what the
    hardware takes and gives, so with --io absorb they keep the ratio that the report states.
    `--emit qdq` of a conversion keeps the roundings, too.

    Reads files of any origin, with either scale convention, the names of the guide, of its demo
    and of later compilers. Opset, IR version, names and other metadata stay.
    """
    from dlaconv.summary import strip_summary

    document = api.strip(file, output, target=target).as_json()
    session.console.document(document, strip_summary, as_json=as_json)
    return EXIT_OK


def commands() -> list[Command]:
    """The command of this module."""
    return [
        command(
            "strip",
            strip,
            panel=CONVERT,
            examples=("dlaconv strip net.dla.onnx -o net.plain.onnx",),
        )
    ]
