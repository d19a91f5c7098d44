"""``dlaconv validate``: the accuracy of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlaconv import analysis
from dlaconv.commands.calibration import Pictures
from dlaconv.commands.command import PROVE, Command, Json, Session, command
from dlaconv.commands.options import Reading, SimulatedHardware, conflict
from dlaconv.errors import EXIT_OK, UsageError


def validate(
    session: Session,
    *,
    converted: Annotated[
        Path,
        typer.Argument(
            metavar="CONVERTED",
            help="The converted file, or the report (.json) of a network that was cut.",
        ),
    ],
    inputs: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="DATA",
            help="Samples: an .npz with a stacked array of real values per graph input, an .npy, "
            "or a folder of pictures.",
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="One class index for each sample: an .npy or .npz, or text with lines of 'name "
            "label' for pictures, of a label alone for samples in order. Unless given, the "
            "subfolders of a folder of pictures are the classes: by their numbers, or in the order "
            "of their names.",
        ),
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Also run the network that was converted, in floating point, and compare; once "
            "for each of its files, the network first.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The graph output with a value for each class, or with the index of one; needed "
            "where there are several.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the first samples only, so many.")
    ] = None,
    reading: Reading,
    images: Pictures,
    hardware: SimulatedHardware,
    as_json: Json = False,
) -> int:
    """Count how often a converted classifier is right: top-1 and top-5, bit by bit.

    With --source, also how often the source is right in floating point on the same samples, and
    the difference with its 95 % interval: samples are paired, so it depends on those that only
    one of the two gets right. Of classes with equal values the first counts.
    """
    from dlaconv.analysis_text import accuracy_text

    if reading.words is not None and not source:
        raise UsageError(conflict("--source-option without --source", "there is no source to read"))
    told = reading.arguments(source or [], session.plugins)
    with session.console.working("running"):
        found = analysis.validate(
            converted,
            inputs,
            labels,
            source=source or None,
            **told,
            output=output,
            limit=limit,
            images=images,
            hardware=hardware,
            plugins=session.plugins,
        )
    session.console.diagnostics(found.diagnostics)
    document = found.as_json()
    session.console.document(document, accuracy_text, as_json=as_json)
    return EXIT_OK


def commands() -> list[Command]:
    """The command of this module."""
    return [
        command(
            "validate",
            validate,
            panel=PROVE,
            examples=(
                "dlaconv validate net.dla.onnx --input images.npz --labels labels.npy",
                "dlaconv validate net.dla.onnx --input photos/ --preset tf --labels labels.txt",
                "dlaconv validate net.dla.json --input images.npz --labels y.npy --source net.onnx",
            ),
        )
    ]
