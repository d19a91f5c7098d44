"""``dlaconv show``: what is in a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlaconv import analysis
from dlaconv.commands.command import INSPECT, Command, Json, Session, command
from dlaconv.commands.options import Reading, Shapes, Target
from dlaconv.errors import EXIT_OK


def show(
    session: Session,
    *,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="A source of any format (all its files), a converted file, or the report (.json) "
            "of a conversion.",
        ),
    ],
    quantisation: Annotated[
        bool,
        typer.Option(
            "--quantisation",
            "-q",
            help="Also show bits, steps and ranges of maps, and bits and steps of weights.",
        ),
    ] = False,
    reading: Reading,
    shapes: Shapes,
    target: Target = None,
    as_json: Json = False,
) -> int:
    """Show what is in a network: layers, shapes, parameters, multiplications, quantisation.

    Quantisers of a source are told with the layer whose result they quantise. With a report all
    parts of a network that was cut are shown. The JSON document always tells the quantisation.
    """
    from dlaconv.analysis_text import network_text

    with session.console.working("reading"):
        found = analysis.show(
            files,
            **reading.arguments(files, session.plugins),
            target=target,
            shapes=shapes,
            plugins=session.plugins,
        )
    document = found.as_json()
    if as_json:
        session.console.json(document)
    else:
        session.console.result(network_text(document, quantisation=quantisation))
    return EXIT_OK


def commands() -> list[Command]:
    """The command of this module."""
    return [
        command(
            "show",
            show,
            panel=INSPECT,
            examples=(
                "dlaconv show net.onnx",
                "dlaconv show deploy.prototxt net.caffemodel -q",
                "dlaconv show net.dla.onnx -q",
            ),
        )
    ]
