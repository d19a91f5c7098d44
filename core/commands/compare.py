"""``dlaconv compare``: how good every layer is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlaconv import analysis
from dlaconv.commands.calibration import Pictures
from dlaconv.commands.command import PROVE, Command, Json, Session, command
from dlaconv.commands.options import Reading, SimulatedHardware
from dlaconv.errors import EXIT_OK, EXIT_REFUSED


def compare(
    session: Session,
    *,
    source: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE", help="The network that was converted; all its files."),
    ],
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
            help="Samples to compare on: an .npz with a stacked array of real values per graph "
            "input, an .npy, or a folder of pictures.",
        ),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the first samples only, so many.")
    ] = None,
    min_qsnr: Annotated[
        float | None,
        typer.Option(metavar="DB", help="End with 1 if a graph output has less than this QSNR."),
    ] = None,
    reading: Reading,
    images: Pictures,
    hardware: SimulatedHardware,
    as_json: Json = False,
) -> int:
    """Compare every layer of a converted network with its source: QSNR, cosine, largest error.

    Isolated, each layer is fed with the source's values, so the error is its own; accumulated,
    with what the layers before it have made of the inputs. Names the channels with most of the
    error, and the share of values that the hardware saturates. Works for a part of a network that
    was cut, and with the report for all parts together. Unlike verify, which proves integers and
    fails, it measures, and fails only below --min-qsnr.
    """
    from dlaconv.analysis_text import comparison_text

    with session.console.working("comparing"):
        found = analysis.compare(
            source,
            converted,
            inputs,
            **reading.arguments(source, session.plugins),
            limit=limit,
            min_qsnr_db=min_qsnr,
            images=images,
            hardware=hardware,
            plugins=session.plugins,
        )
    session.console.diagnostics(found.diagnostics)
    document = found.as_json()
    session.console.document(document, comparison_text, as_json=as_json)
    return EXIT_OK if found.passed else EXIT_REFUSED


def commands() -> list[Command]:
    """The command of this module."""
    return [
        command(
            "compare",
            compare,
            panel=PROVE,
            examples=(
                "dlaconv compare net.onnx net.dla.onnx --input x.npz",
                "dlaconv compare deploy.prototxt net.caffemodel net.dla.onnx --input x.npz",
                "dlaconv compare net.onnx net.dla.json --input x.npz --min-qsnr 20",
                "dlaconv compare net.onnx net.dla.onnx --input photos/ --preset torchvision",
            ),
        )
    ]
