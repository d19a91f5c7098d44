"""The options that conversions share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlaconv.commands import calibration
from dlaconv.commands.choices import (
    ActivationOrder,
    Convention,
    Emit,
    HardwareRounding,
    Io,
    Legalise,
    Policy,
)
from dlaconv.commands.command import Made
from dlaconv.diagnostics import Diagnostic, Diagnostics
from dlaconv.options import RANDOM, Hardware, Options

if TYPE_CHECKING:
    from dlaconv.plugins import Plugins

_SCALES, _CHECKS, _HARDWARE = "Scales", "Proof", "Hardware"

Target = Annotated[
    Path | None,
    typer.Option(
        "--target",
        metavar="FILE",
        help="Target description in JSON; the built-in ACCESS 1.2.0 unless given.",
        rich_help_panel=_HARDWARE,
    ),
]
SourceFormat = Annotated[
    str | None,
    typer.Option("--from", metavar="NAME", help="Format of the source, instead of recognising it."),
]
SourceOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--source-option",
        metavar="NAME=VALUE",
        help="An option of `dlaconv from-NAME` that says how the source is read, without its "
        "dashes; repeatable. Beside a converted file, those of its conversion count unless any are "
        "given; none stands for no options.",
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The ONNX file to write; the report goes beside it, ending in .json.",
    ),
]


@dataclass(frozen=True)
class HowRead:
    """How a source is read.

    Attributes:
        frontend: its format; recognised if None.
        words: options of the frontend, see `dlaconv.source_options`; None if none are given.
    """

    frontend: str | None
    words: tuple[str, ...] | None

    def arguments(self, files: Sequence[Path], plugins: Plugins) -> dict[str, Any]:
        """The parameters ``frontend`` and ``source_options`` of the Python API.

        Raises:
            UserError: if the format of the files is not known, or has no such options.
        """
        if self.words is None:
            return {"frontend": self.frontend}
        from dlaconv import api, source_options

        frontend = plugins.frontend(self.frontend or api.recognise(files, plugins=plugins))
        options = source_options.read_words(frontend, self.words)
        return {"frontend": frontend.name, "source_options": options}


def how_read(
    problems: Diagnostics, *, frontend: SourceFormat = None, source_option: SourceOptions = None
) -> HowRead:
    """How a source is read; what its options mean is known with its format."""
    return HowRead(frontend, tuple(source_option) if source_option else None)


Reading = Annotated[HowRead, Made(how_read)]
"""How a source is read."""


def given_shapes(
    problems: Diagnostics,
    *,
    set_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=1,3,224,224",
            help="Shape of a graph input that has none; repeatable.",
            rich_help_panel=_HARDWARE,
        ),
    ] = None,
) -> dict[str, tuple[int, ...]]:
    """Reads ``NAME=1,3,224,224``; what cannot be read is added to ``problems``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in set_shape or ():
        name, _, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            problems.error(
                "DLA422",
                "shape-option",
                f"--set-shape {text} is no shape",
                help="write NAME=1,3,224,224: the input's name and positive sizes",
            )
        elif name in shapes and shapes[name] != shape:
            problems.add(conflict(f"--set-shape {name}= twice", "the shapes differ"))
        else:
            shapes[name] = shape
    return shapes


Shapes = Annotated[dict[str, tuple[int, ...]], Made(given_shapes)]
"""Shapes of graph inputs."""


def simulated_hardware(
    problems: Diagnostics,
    *,
    target: Target = None,
    rounding: Annotated[
        HardwareRounding,
        typer.Option(
            metavar="MODE",
            help=f"How the hardware rounds: {', '.join(HardwareRounding)}.",
            rich_help_panel=_HARDWARE,
        ),
    ] = HardwareRounding.HALF_EVEN,
    activation_order: Annotated[
        ActivationOrder,
        typer.Option(
            help="Whether a pipelined activation acts on the accumulator (mac) or on the stored "
            "8-bit value (after-clamp).",
            rich_help_panel=_HARDWARE,
        ),
    ] = ActivationOrder.MAC,
) -> Hardware:
    """The hardware that is simulated; typer has found what is wrong already."""
    return Hardware(rounding.value, activation_order.value, target)


SimulatedHardware = Annotated[Hardware, Made(simulated_hardware)]
"""The hardware that is simulated."""


def conversion_options(
    problems: Diagnostics,
    *,
    calibrate: calibration.Calibrate = None,
    images: calibration.Pictures,
    fold_preprocess: calibration.FoldPreprocess = False,
    border_channel: calibration.BorderChannel = False,
    ranges: calibration.Ranges = calibration.RangeMethod.AUTO,
    qconfig: calibration.Overrides = None,
    calibration_cache: calibration.Cache = None,
    optimise: calibration.Optimise = 1,
    scale_policy: Annotated[
        Policy,
        typer.Option(
            help="absorb keeps the source's integers and puts what is no power of two into the "
            "weight scales. The others quantise anew: nearest at the nearest power of two, ceil at "
            "the next larger one, which never clips, mse at the scale with the least squared error "
            "on the calibration data.",
            rich_help_panel=_SCALES,
        ),
    ] = Policy.ABSORB,
    io: Annotated[
        Io,
        typer.Option(
            help="pin gives graph inputs and outputs a power-of-two step in real units; absorb "
            "keeps the source's integers there, and the report says which real step they have.",
            rich_help_panel=_SCALES,
        ),
    ] = Io.PIN,
    scale_convention: Annotated[
        Convention,
        typer.Option(
            help="How scales are written: guide is real = scale * integer, int-per-real is "
            "integer = real * scale.",
            rich_help_panel=_SCALES,
        ),
    ] = Convention.GUIDE,
    shapes: Shapes,
    hardware: SimulatedHardware,
    unsigned_maps: Annotated[
        bool,
        typer.Option(
            "--unsigned-maps",
            help="The hardware stores maps without sign after a ReLU, as 0..255.",
            rich_help_panel=_HARDWARE,
        ),
    ] = False,
    legalise: Annotated[
        Legalise,
        typer.Option(
            help="Rewrites that make operators fit the hardware: off, exact ones, which change no "
            "integer of a quantised network, or all, which also takes approximate ones.",
            rich_help_panel=_HARDWARE,
        ),
    ] = Legalise.EXACT,
    partition: Annotated[
        bool | None,
        typer.Option(
            "--partition/--no-partition",
            help="Give what the hardware has no operator for to the host: NET.head.onnx and "
            "NET.tail.onnx beside the output, more parts where the network is cut in the middle. "
            "Unless given, only a Softmax, ArgMax or Sigmoid at the end becomes a tail, and what "
            "the hardware cannot do to turn inputs channels-first a head.",
            show_default=False,
            rich_help_panel=_HARDWARE,
        ),
    ] = None,
    pad_outputs: Annotated[
        bool,
        typer.Option(
            "--pad-outputs",
            help="Pad the channels of graph outputs, too; they keep their shape unless given.",
            rich_help_panel=_HARDWARE,
        ),
    ] = False,
    allow_violations: Annotated[
        bool,
        typer.Option(
            "--allow-violations",
            help="Write the file although it breaks rules of the hardware.",
            rich_help_panel=_CHECKS,
        ),
    ] = False,
    no_verify: Annotated[
        bool,
        typer.Option(
            "--no-verify",
            help="Do not compare the result with the source.",
            rich_help_panel=_CHECKS,
        ),
    ] = False,
    verify_with: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            help="Also run the source in another program, and compare what is read with it: "
            "tensorflow, for from-keras. Running a file means to trust it.",
            rich_help_panel=_CHECKS,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples to compare on, of the calibration data or else random; 4 unless given, "
            "fewer if these take more than 16 billion multiplications.",
            rich_help_panel=_CHECKS,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Seed of the random samples.", rich_help_panel=_CHECKS),
    ] = 0,
    emit: Annotated[
        list[Emit] | None,
        typer.Option(
            metavar="KIND",
            help="Also write, beside the output: qdq, a twin in standard ONNX with QuantizeLinear "
            "and DequantizeLinear (.qdq.onnx); sim, the bit-true simulation as a plain float graph "
            "(.sim.onnx). Both take and return real values. Repeatable.",
            rich_help_panel=_CHECKS,
        ),
    ] = None,
    dump_stages: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the model after every pass into this folder; each one runs in onnxruntime.",
            rich_help_panel=_CHECKS,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="NET.html",
            help="Also write the report as a page with charts: QSNR by layer, ranges and "
            "histograms with their grids, rewrites, findings. It needs no network.",
            rich_help_panel=_CHECKS,
        ),
    ] = None,
) -> Options:
    """The options of a conversion; contradictions are added to ``problems``."""
    if scale_policy is not Policy.ABSORB and io is Io.ABSORB:
        problems.add(
            conflict(
                f"--scale-policy {scale_policy} and --io absorb",
                f"{scale_policy} gives every map a power-of-two step, so there is no scale to "
                "absorb",
            )
        )
    if no_verify and samples is not None and verify_with is None:
        problems.add(conflict("--no-verify and --samples", "nothing is compared"))
    return Options(
        target=hardware.target,
        policy=scale_policy.value,
        io=io.value,
        convention=scale_convention.value,
        calibrate=Path(calibrate) if calibrate and calibrate != RANDOM else calibrate,
        images=images,
        fold_preprocess=fold_preprocess,
        border_channel=border_channel,
        ranges=ranges.value,
        qconfig=qconfig,
        calibration_cache=calibration_cache,
        optimise=optimise,
        shapes=shapes,
        legalise=legalise.value,
        pad_outputs=pad_outputs,
        partition=partition,
        allow_violations=allow_violations,
        verify=not no_verify,
        verify_with=verify_with,
        samples=samples,
        seed=seed,
        rounding=hardware.rounding,
        activation_order=hardware.activation_order,
        unsigned_maps=unsigned_maps,
        dump_stages=dump_stages,
        emit=tuple(dict.fromkeys(kind.value for kind in emit or ())),
        html=report,
    )


ConversionOptions = Annotated[Options, Made(conversion_options)]
"""The options that all conversions share."""


def conflict(options: str, why: str) -> Diagnostic:
    """The diagnostic for options that do not go together."""
    return Diagnostic(
        "DLA423", "options-conflict", f"{options} do not go together: {why}", help="drop one"
    )
