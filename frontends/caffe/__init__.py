"""Caffe: networks of BVLC Caffe and its forks, a prototxt and a caffemodel each."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dlaconv.frontends import Calibration, Frontend, Imported
from dlaconv.hookspecs import hookimpl

_READ = 1 << 16
_WORDS = (b"layer", b"layers", b"input", b"name")


class QuantType(enum.StrEnum):
    """``--quant-type``, CHaiDNN's modes."""

    XILINX = "Xilinx"
    DYNAMIC_FIXED = "DynamicFixed"


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
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="Thresholds of layers as ml-suite's or DECENT's quantiser writes them, by name.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            "--bitwidths",
            metavar="8,8,8",
            help="Bits of the input, parameters and output of every layer, in XportDNN's "
            "DynamicFixed mode; with --fl-bitwidths.",
        ),
    ] = None,
    fl_bitwidths: Annotated[
        str | None,
        typer.Option(
            "--fl-bitwidths",
            "--fl_bitwidths",
            metavar="4,7,4",
            help="How many of these bits are behind the binary point.",
        ),
    ] = None,
    quant_type: Annotated[
        QuantType | None,
        typer.Option(
            "--quant-type",
            "--quant_type",
            help="CHaiDNN's mode of all formats: thresholds or powers of two. Formats of the other "
            "one are converted. That of the source unless given, Xilinx if it has none.",
        ),
    ] = None,
    emit_prototxt: Annotated[
        Path | None,
        typer.Option(
            "--emit-prototxt",
            "--quantized_deploy_model",
            metavar="OUT.prototxt",
            writable=True,
            help="Also write the network as CHaiDNN reads it, with a precision_param in every "
            "layer. For one in floating point these are chosen by --calibrate and --ranges, and "
            "the converted file has the same formats.",
        ),
    ] = None,
    layers: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    calibration: Calibration | None = None,
) -> Imported:
    """Reads a Caffe network.

    Networks of all versions of BVLC Caffe and many layers of its forks are read as Caffe runs them
    in its test phase. Networks that are quantised for CHaiDNN (precision_param) or by Ristretto
    keep their formats; for others give representative inputs with --calibrate.

    Args:
        path: the prototxt.
        weights: the caffemodel.
        ignore_unknown_fields: makes unknown fields warnings.
        thresholds: a file of thresholds, for a network in floating point.
        precision: bits of input, parameters and output of every layer, such as ``"8,8,8"``.
        fl_bitwidths: how many of them are behind the binary point, such as ``"4,7,4"``.
        quant_type: mode of all formats, ``"Xilinx"`` or ``"DynamicFixed"``.
        emit_prototxt: where the network goes as CHaiDNN reads it.
        layers: handlers of plugins by type of layer, beside or in place of the built-in ones.
        shapes: shapes of inputs by name, in place of the prototxt's.
        calibration: what formats are chosen by, where they are written for a network in floating
            point.

    Returns:
        The network at stage IMPORTED, and the prototxt among its files.

    Raises:
        UnreadableError: if a file cannot be read.
        UsageError: if ``precision`` or ``fl_bitwidths`` are no three numbers that formats can have,
            or ``quant_type`` is no mode.
    """
    from dlaconv.frontends.caffe.importer import import_files
    from dlaconv.frontends.caffe.precision.emission import Emission, parse_mode
    from dlaconv.frontends.caffe.precision.sources import PrecisionSources
    from dlaconv.frontends.caffe.precision.uniform import parse_uniform

    return import_files(
        path,
        weights,
        ignore_unknown=ignore_unknown_fields,
        layers=layers or {},
        shapes=shapes or {},
        precision=PrecisionSources(
            None if thresholds is None else Path(thresholds),
            parse_uniform(precision, fl_bitwidths),
        ),
        emission=Emission(
            None if emit_prototxt is None else Path(emit_prototxt),
            parse_mode(quant_type),
            calibration,
        ),
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
    summary="Convert a Caffe network (BVLC, SSD, CHaiDNN, Ristretto and other forks).",
    load=load_caffe,
    sniff=looks_like_caffe,
)


@hookimpl
def register_frontends() -> Sequence[Frontend]:
    """Announces the frontend."""
    return [FRONTEND]
