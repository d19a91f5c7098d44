"""``dlaconv sensitivity``: which layers suffer most from quantisation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlaconv import analysis
from dlaconv.commands.calibration import Pictures
from dlaconv.commands.command import PROVE, Command, Json, Session, command
from dlaconv.commands.options import Reading, Shapes, SimulatedHardware
from dlaconv.errors import EXIT_OK
from dlaconv.options import Options


def sensitivity(
    session: Session,
    *,
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE", help="The network, in a format that converts; all its files."
        ),
    ],
    calibrate: Annotated[
        Path,
        typer.Option(
            metavar="DATA",
            help="Samples that the network is calibrated and tried on, as in a conversion: an "
            ".npz or .npy, or a folder of pictures.",
        ),
    ],
    samples: Annotated[
        int,
        typer.Option(
            min=1, help="Samples to try each layer on at most; large networks take fewer."
        ),
    ] = 4,
    reading: Reading,
    shapes: Shapes,
    images: Pictures,
    hardware: SimulatedHardware,
    as_json: Json = False,
) -> int:
    """Rank the layers of a network by the error that quantising them causes at its outputs.

    Tries each layer twice: quantised alone, in a network of floating point, and as the only one in
    floating point. What is quantised is computed bit by bit, at the scales that a conversion would
    choose; what the hardware lacks stays with the host. All trials together take at most 4 * 10^11
    multiplications, or one sample.
    """
    from dlaconv.analysis_text import sensitivity_text

    options = Options(
        target=hardware.target,
        calibrate=calibrate,
        images=images,
        shapes=shapes,
        samples=samples,
        partition=True,
        rounding=hardware.rounding,
        activation_order=hardware.activation_order,
    )
    with session.console.working("trying"):
        found = analysis.sensitivity(
            source,
            options=options,
            **reading.arguments(source, session.plugins),
            plugins=session.plugins,
        )
    session.console.diagnostics(found.diagnostics)
    document = found.as_json()
    session.console.document(document, sensitivity_text, as_json=as_json)
    return EXIT_OK


def commands() -> list[Command]:
    """The command of this module."""
    return [
        command(
            "sensitivity",
            sensitivity,
            panel=PROVE,
            examples=(
                "dlaconv sensitivity net.onnx --calibrate data.npz",
                "dlaconv sensitivity net.onnx --calibrate photos/ --preset torchvision",
            ),
        )
    ]
