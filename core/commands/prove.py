"""``dlaconv run`` and ``dlaconv verify``: the bit-true simulator and the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlaconv import api
from dlaconv.commands.calibration import Pictures
from dlaconv.commands.command import PROVE, Command, Json, Session, command
from dlaconv.commands.options import Reading, SimulatedHardware, conflict
from dlaconv.diagnostics import Diagnostics
from dlaconv.errors import EXIT_OK, EXIT_REFUSED, UsageError
from dlaconv.files import require_output


def run(
    session: Session,
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A fixed-point ONNX file, or the report (.json) of a network that was cut.",
        ),
    ],
    inputs: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="DATA",
            help="Samples: an .npz with a stacked array per graph input (of any name if there is "
            "one input; integers as the hardware takes them, floats as real values), or a folder "
            "of pictures, in the order of their paths.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="Y.npz", help="Where the results go.")
    ],
    as_float: Annotated[
        bool, typer.Option("--as-float", help="Write real values instead of integers.")
    ] = False,
    images: Pictures,
    hardware: SimulatedHardware,
    as_json: Json = False,
) -> int:
    """Run a fixed-point ONNX file bit by bit as the hardware does.

    The results are int8 arrays, one per graph output, with the samples along the first axis. A
    network that was cut runs from end to end, the host's parts in onnxruntime; its results are
    real values. `dlaconv dump` writes every map.
    """
    from dlaconv.arrays import write_npz
    from dlaconv.summary import arrays_json, arrays_table

    require_output(output, [file, inputs])
    with session.console.working("running"):
        if file.suffix == ".json":
            results = api.run_chain(file, inputs, images=images, hardware=hardware)
        else:
            results = api.run(file, inputs, images=images, as_float=as_float, hardware=hardware)
    write_npz(output, results)
    document = arrays_json(results, output)
    session.console.document(document, arrays_table, as_json=as_json)
    return EXIT_OK


def verify(
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
            help="The fixed-point ONNX file, or the report (.json) of a network that was cut.",
        ),
    ],
    reading: Reading,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="DATA",
            help="Samples to compare on: an .npz with a stacked array of real values per graph "
            "input, an .npy, or a folder of pictures.",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Random samples to compare on; 4 unless given."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the random samples; 0 unless given.")
    ] = None,
    images: Pictures,
    hardware: SimulatedHardware,
    as_json: Json = False,
) -> int:
    """Compare every map of a converted network with its source.

    Each map is compared twice: as it comes out of the whole network (accumulated), and with its
    layer fed with the source's own integers (local). Counts differing and clipped integers, the
    largest difference in units, QSNR and cosine. Ends with 1 if the comparison fails.
    """
    from dlaconv.summary import verification_summary

    problems = Diagnostics()
    if inputs is not None:
        for option, value in (("--samples", samples), ("--seed", seed)):
            if value is not None:
                problems.add(conflict(f"--input and {option}", "the file decides what is compared"))
    if problems.errors:
        raise UsageError(problems)
    with session.console.working("comparing"):
        result = api.verify(
            source,
            converted,
            **reading.arguments(source, session.plugins),
            inputs=inputs,
            samples=4 if samples is None else samples,
            seed=seed or 0,
            images=images,
            hardware=hardware,
            plugins=session.plugins,
        )
    document = result.as_json()
    session.console.document(document, verification_summary, as_json=as_json)
    return EXIT_OK if result.passed else EXIT_REFUSED


def commands() -> list[Command]:
    """The commands of this module."""
    return [
        command(
            "run",
            run,
            panel=PROVE,
            examples=("dlaconv run net.dla.onnx --input x.npz --output y.npz",),
        ),
        command(
            "verify",
            verify,
            panel=PROVE,
            examples=(
                "dlaconv verify net.onnx net.dla.onnx --samples 16",
                "dlaconv verify net.onnx net.dla.onnx --input x.npz --json",
            ),
        ),
    ]
