"""``dlaconv dump``: every map of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlaconv import analysis
from dlaconv.commands.calibration import Pictures
from dlaconv.commands.command import PROVE, Command, Json, Session, command
from dlaconv.commands.options import Reading, Shapes, SimulatedHardware
from dlaconv.errors import EXIT_OK
from dlaconv.files import require_output


def dump(
    session: Session,
    *,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="A converted file, the report (.json) of a conversion, or a source of any format "
            "(all its files).",
        ),
    ],
    inputs: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="DATA",
            help="Samples: an .npz with a stacked array per graph input (floats are real values, "
            "integers what the hardware takes), or a folder of pictures.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="MAPS.npz", help="Where the maps go.")
    ],
    as_float: Annotated[
        bool,
        typer.Option(
            "--as-float",
            help="Write real values of a converted file, by the names that the source has for its "
            "maps, instead of integers.",
        ),
    ] = False,
    reading: Reading,
    shapes: Shapes,
    images: Pictures,
    hardware: SimulatedHardware,
    as_json: Json = False,
) -> int:
    """Write every map of a network to a file of arrays.

    Maps of a converted file are the integers that the hardware stores. Those of a source are in
    floating point, all of them: what it computes between its quantisers, too. With --as-float the
    maps of a converted file can be laid beside those of its source. A map that goes from one part
    of a network that was cut to another is what the first one returns.
    """
    from dlaconv.analysis_text import dump_text

    require_output(output, [*files, inputs])
    with session.console.working("running"):
        found = analysis.dump(
            files,
            inputs,
            output,
            as_float=as_float,
            **reading.arguments(files, session.plugins),
            shapes=shapes,
            images=images,
            hardware=hardware,
            plugins=session.plugins,
        )
    document = found.as_json()
    session.console.document(document, dump_text, as_json=as_json)
    return EXIT_OK


def commands() -> list[Command]:
    """The command of this module."""
    return [
        command(
            "dump",
            dump,
            panel=PROVE,
            examples=(
                "dlaconv dump net.dla.onnx --input x.npz -o maps.npz",
                "dlaconv dump net.onnx --input x.npz -o source.npz",
            ),
        )
    ]
