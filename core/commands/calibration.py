"""The options of calibration: where samples come from, and how pictures become samples."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from dlaconv.commands.command import Made
from dlaconv.diagnostics import Diagnostics
from dlaconv.preprocessing import Preprocessing

CALIBRATION, PICTURES = "Calibration", "Pictures"
"""The groups of these options in the help."""

T = TypeVar("T")


class PresetName(enum.StrEnum):
    """``--preset``."""

    TORCHVISION = "torchvision"
    TF = "tf"
    CAFFE = "caffe"
    UNIT = "unit"
    RAW = "raw"


class RangeMethod(enum.StrEnum):
    """``--ranges``."""

    AUTO = "auto"
    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"
    KL = "kl"
    XILINX = "xilinx"


class LayoutName(enum.StrEnum):
    """``--layout``."""

    NCHW = "nchw"
    NHWC = "nhwc"


Calibrate = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Samples to measure maps on that the source does not quantise or whose scale the "
        "hardware lacks: an .npz with a stacked array per graph input, an .npy, a folder of "
        "pictures, or the word random.",
        rich_help_panel=CALIBRATION,
    ),
]
Preset = Annotated[
    PresetName | None,
    typer.Option(
        help="Values of pixels: torchvision (ImageNet's mean and deviation, central 7/8), tf "
        "(-1..1) and caffe (BGR less its mean) as in Keras, unit (0..1), raw (0..255).",
        rich_help_panel=PICTURES,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="X[,X,X]",
        help="Subtracted from pixels, after --scale; one value or one per channel.",
        rich_help_panel=PICTURES,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="X[,X,X]", help="Divides what is left.", rich_help_panel=PICTURES),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="X", help="Multiplies pixels of 0..255 first, such as 1/255.",
        rich_help_panel=PICTURES,
    ),
]  # fmt: skip
Bgr = Annotated[
    bool,
    typer.Option("--bgr", help="The network takes blue first.", rich_help_panel=PICTURES),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW",
        help="Size of pictures before the crop: the shorter side, or height and width; what the "
        "crop needs unless given.",
        rich_help_panel=PICTURES,
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW",
        help="The central part that is taken; what the network takes unless given.",
        rich_help_panel=PICTURES,
    ),
]
Layout = Annotated[
    LayoutName | None,
    typer.Option(
        help="Order of the network's input; told from its shape unless given.",
        rich_help_panel=PICTURES,
    ),
]
FoldPreprocess = Annotated[
    bool,
    typer.Option(
        "--fold-preprocess",
        help="Put what --preset, --mean, --std, --scale and --bgr say, and what the network itself "
        "does to pixels first, into the first layer, so that the hardware takes pixels of 0..255. "
        "Refused where that is not exact. Arrays given with --calibrate are pixels then.",
        rich_help_panel=CALIBRATION,
    ),
]
BorderChannel = Annotated[
    bool,
    typer.Option(
        "--border-channel",
        help="With --fold-preprocess: one more channel of a constant, which makes folding exact "
        "for a convolution that pads with the source's zeros; one for each channel of the picture "
        "where the source quantises its weights.",
        rich_help_panel=CALIBRATION,
    ),
]
Ranges = Annotated[
    RangeMethod,
    typer.Option(
        "--ranges",
        "--range",
        help="How much of what the samples show a map covers: minmax all, percentile 99.99 %, mse "
        "and kl what loses least, xilinx what CHaiDNN's XportDNN takes; auto chooses.",
        rich_help_panel=CALIBRATION,
    ),
]
Overrides = Annotated[
    Path | None,
    typer.Option(
        "--qconfig",
        metavar="FILE.yaml",
        help="Overrides for single maps and layers: methods, thresholds, steps, bits of weights.",
        rich_help_panel=CALIBRATION,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz",
        help="Keep what is seen on the samples here: the same network on the same samples is not "
        "run again.",
        rich_help_panel=CALIBRATION,
    ),
]
Optimise = Annotated[
    int,
    typer.Option(
        min=0,
        max=2,
        help="Search for scales by the error of the network's output: 0 not at all, 1 for seconds, "
        "2 for minutes.",
        rich_help_panel=CALIBRATION,
    ),
]


def picture_options(
    problems: Diagnostics,
    *,
    preset: Preset = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    bgr: Bgr = False,
    resize: Resize = None,
    crop: Crop = None,
    layout: Layout = None,
) -> Preprocessing:
    """Reads the options for pictures; what cannot be read is added to ``problems``."""

    def read(option: str, text: str | None, parse: Callable[[str], T]) -> T | None:
        if text is None:
            return None
        try:
            return parse(text)
        except (ValueError, ZeroDivisionError):
            problems.error(
                "DLA336",
                "calibration-option",
                f"--{option} {text} cannot be read",
                help="write numbers with commas between them, 224 or 224x320 for sizes, 1/255 for "
                "a ratio",
            )
            return None

    return Preprocessing(
        preset=None if preset is None else preset.value,
        mean=read("mean", mean, _numbers),
        std=read("std", std, _numbers),
        scale=read("scale", scale, _ratio),
        bgr=bgr,
        resize=read("resize", resize, _size),
        crop=read("crop", crop, _size),
        layout=None if layout is None else layout.value,
    )


Pictures = Annotated[Preprocessing, Made(picture_options)]
"""How pictures become samples."""


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_ratio(item) for item in text.split(","))


def _ratio(text: str) -> float:
    above, _, below = text.partition("/")
    value = float(above) / float(below or 1)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _size(text: str) -> tuple[int, ...]:
    sizes = tuple(int(item) for item in text.lower().split("x"))
    if len(sizes) > 2 or min(sizes) < 1:
        raise ValueError(text)
    return sizes
