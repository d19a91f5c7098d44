"""``dlaconv from-<format>`` and ``dlaconv convert``."""

from __future__ import annotations

import inspect
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlaconv import api
from dlaconv.commands.command import (
    CONVERT,
    Command,
    Json,
    Session,
    command,
    is_argument,
    made,
    options_of,
    parameters_of,
)
from dlaconv.commands.formats import Format, OutputFormat, chosen_format, print_sarif
from dlaconv.commands.options import ConversionOptions, Output, Reading
from dlaconv.errors import EXIT_OK, EXIT_REFUSED
from dlaconv.source_options import own_parameters

if TYPE_CHECKING:
    from dlaconv.driver.result import Conversion
    from dlaconv.frontends import Frontend

_RESULT = """

Writes the fixed-point ONNX file and a report beside it, compares both with the source on a few
samples, and ends with a summary. If the network breaks a rule of the hardware, nothing is written
and every violation is listed. A network above 2 GB gets its weights in a second file beside the
first, which ends in .weights."""

_EXAMPLES = {
    "caffe": (
        "quantised.prototxt net.caffemodel -o net.dla.onnx",
        "deploy.prototxt net.caffemodel -o net.dla.onnx --calibrate photos/ --preset caffe",
        "deploy.prototxt net.caffemodel -o net.dla.onnx --precision 8,8,8 --fl-bitwidths 4,7,4",
    ),
    "onnx": (
        "net.onnx -o net.dla.onnx --calibrate photos/ --preset torchvision",
        "net.onnx -o net.dla.onnx --calibrate data.npz --partition --report net.html",
        "quantised.onnx -o net.dla.onnx",
    ),
    "qonnx": ("net.onnx -o net.dla.onnx",),
}
"""What a user may type, for the end of the help."""


def from_command(frontend: Frontend) -> Command:
    """The command of a frontend: its own parameters, then the shared ones.

    Raises:
        TypeError: if a parameter cannot become an option.
        ValueError: if a parameter has the name of a shared option.
        NameError: if an annotation cannot be resolved.
    """
    own = own_parameters(frontend)
    own = [_file_argument(own[0]), *own[1:]]
    shared = parameters_of(_shared)

    def run(session: Session, **values: Any) -> int:
        given = made([*own, *shared], values)
        source, output = given.pop(own[0].name), given.pop("output")
        chosen = chosen_format(given.pop("output_format"), as_json=given.pop("as_json"))
        with session.console.working("converting"):
            conversion = api.convert(
                source, output, frontend=frontend.name, plugins=session.plugins, **given
            )
        return finish(session, conversion, chosen, source)

    manual = inspect.getdoc(frontend.load) or ""
    details = _before_sections(manual)
    text = f"{frontend.summary}\n\n{details}".rstrip() + _RESULT
    return Command(
        f"from-{frontend.name}",
        run,
        text,
        CONVERT,
        tuple(
            f"dlaconv from-{frontend.name} {words}" for words in _EXAMPLES.get(frontend.name, ())
        ),
        options_of([*own, *shared]),
    )


def _shared(
    *,
    output: Output,
    output_format: OutputFormat = None,
    as_json: Json = False,
    options: ConversionOptions,
) -> None: ...


def convert(
    session: Session,
    *,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="The file, or the files of one network."),
    ],
    output: Output,
    reading: Reading,
    output_format: OutputFormat = None,
    as_json: Json = False,
    options: ConversionOptions,
) -> int:
    """Convert a network whose format is recognised from the file.

    Takes the shared options of a conversion; those of one format with --source-option, or with
    `dlaconv from-NAME`.
    """
    chosen = chosen_format(output_format, as_json=as_json)
    told = reading.arguments(files, session.plugins)
    with session.console.working("converting"):
        conversion = api.convert(
            files,
            output,
            frontend=told["frontend"],
            options=options,
            plugins=session.plugins,
            **told.get("source_options", {}),
        )
    return finish(session, conversion, chosen, files[0])


def finish(session: Session, conversion: Conversion, chosen: Format, source: Path) -> int:
    """Prints what came of a conversion and returns the exit code."""
    from dlaconv.summary import summary

    console = session.console
    verification = conversion.report.get("verification")
    failed = verification is not None and not verification["passed"]
    code = EXIT_REFUSED if failed or conversion.output is None else EXIT_OK
    console.diagnostics(conversion.diagnostics)
    if chosen is Format.SARIF:
        print_sarif(console, session.plugins, conversion.diagnostics, code, file=source)
    elif chosen is Format.JSON:
        console.json(conversion.report)
    else:
        console.result(summary(conversion.report, verbose=console.verbose))
    return code


def commands() -> list[Command]:
    """The commands of this module that no frontend makes."""
    return [
        command(
            "convert",
            convert,
            panel=CONVERT,
            examples=(
                "dlaconv convert net.onnx -o net.dla.onnx",
                "dlaconv convert deploy.prototxt net.caffemodel -o net.dla.onnx --calibrate x.npz",
            ),
        )
    ]


def _file_argument(parameter: Parameter) -> Parameter:
    if is_argument(parameter):
        return parameter
    raise TypeError(f"parameter {parameter.name!r}, the file, must be an argument")


def _before_sections(manual: str) -> str:
    """What a docstring says between its summary and its Google sections."""
    kept = []
    for block in manual.split("\n\n")[1:]:
        if block.split("\n")[0] in {"Args:", "Returns:", "Raises:", "Attributes:"}:
            break
        kept.append(block)
    return "\n\n".join(kept)
