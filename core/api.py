"""The Python API: load, convert, check, run, run_chain, verify, strip; the command line calls it.

`dlaconv.analysis` has the functions that look into networks.

Each function takes paths as `pathlib.Path` or `str` and raises `dlaconv.errors.UserError` (with
every diagnostic found) for what a user can mend.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.files import (
    require_conversion_output,
    require_file,
    require_network,
    require_samples,
)
from dlaconv.options import ACCESS, Hardware
from dlaconv.plugins import Plugins
from dlaconv.preprocessing import PLAIN, Preprocessing

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.backends.access.rules import CheckResult
    from dlaconv.driver.result import Conversion
    from dlaconv.driver.sources import Source
    from dlaconv.driver.stripping import Stripped
    from dlaconv.driver.verification import Verification
    from dlaconv.frontends import Imported
    from dlaconv.options import Options

Arrays = dict[str, "np.ndarray"]
PathLike = str | Path
Files = PathLike | Sequence[PathLike]
"""One file, or the files of one network (a prototxt and its weights, say)."""
Inputs = Mapping[str, "np.ndarray"] | PathLike
"""Stacked samples by graph input, or where they are."""


@contextlib.contextmanager
def no_numeric_warnings() -> Iterator[None]:
    """Keeps numpy from printing lines of ours when numbers of a file overflow or are none.

    What must be finite is checked where it matters, and reported by the name of the layer.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        yield


@no_numeric_warnings()
def load(
    source: Files, frontend: str | None = None, *, plugins: Plugins | None = None, **arguments: Any
) -> Imported:
    """Reads a network as its source has it, at stage IMPORTED.

    Args:
        source: the file or files.
        frontend: name of the format; recognised from the files if None.
        plugins: the loaded plugins; loads them if None.
        **arguments: further parameters of the frontend.

    Raises:
        UnreadableError: if a file is missing or cannot be parsed.
        UsageError: if no frontend, or more than one, recognises the files.
        PluginError: if the frontend is claimed twice or fails.
    """
    from dlaconv.driver.sources import open_source

    return open_source(source_of(source, frontend, arguments), plugins or Plugins()).load()


@no_numeric_warnings()
def convert(
    source: Files,
    output: PathLike | None = None,
    *,
    frontend: str | None = None,
    options: Options | None = None,
    plugins: Plugins | None = None,
    **arguments: Any,
) -> Conversion:
    """Converts a network and writes it, with a report beside it.

    Args:
        source: the file or files of the network.
        output: the file to write; nothing is written if None.
        frontend: name of the format; recognised from the files if None.
        options: how to convert; the defaults if None.
        plugins: the loaded plugins; loads them if None.
        **arguments: further parameters of the frontend.

    Returns:
        The converted model, its diagnostics and the report.

    Raises:
        UserError: if the network cannot be read or converted; nothing has been written then.
    """
    from dlaconv.driver.calibrating import Calibrating
    from dlaconv.driver.conversion import convert_imported
    from dlaconv.driver.further import require_further
    from dlaconv.driver.sources import open_source
    from dlaconv.options import Options as Defaults

    plugins = plugins or Plugins()
    options = options or Defaults()
    target = None if output is None else Path(output)
    given = source_of(source, frontend, arguments, options.shapes)
    if target is not None:
        require_conversion_output(target, [*given.files, *options.files], options.emit)
    opened = open_source(given, plugins)
    if target is not None:
        require_conversion_output(target, opened.further, options.emit)
    require_further(opened.outputs.values(), [*opened.files, *opened.further], target, options)
    calibrating = Calibrating(options)
    return convert_imported(
        opened.load(calibrating if calibrating.is_given else None),
        opened.files[0],
        target,
        options,
        plugins,
        opened=opened,
        calibrating=calibrating,
    )


@no_numeric_warnings()
def check(
    path: PathLike, *, target: PathLike | None = None, plugins: Plugins | None = None
) -> CheckResult:
    """Checks a file against every rule of the hardware.

    Args:
        path: a fixed-point ONNX file, made by dlaconv or by hand.
        target: a target description; the built-in ACCESS one if None.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UnreadableError: if a file cannot be parsed.
    """
    from dlaconv.driver.inspection import check_file

    return check_file(
        require_file(Path(path)), None if target is None else Path(target), plugins or Plugins()
    )


@no_numeric_warnings()
def strip(path: PathLike, output: PathLike, *, target: PathLike | None = None) -> Stripped:
    """Writes a fixed-point file without the attributes that make it invalid ONNX.

    Args:
        path: a fixed-point ONNX file, made by dlaconv or not.
        output: the plain ONNX file to write.
        target: the description that the file was made with; the built-in ACCESS one if None.

    Returns:
        What was taken away.

    Raises:
        UserError: if the file cannot be read, has no such attributes, or is invalid without them.
    """
    from dlaconv.driver.stripping import strip_file

    return strip_file(
        require_file(Path(path)), Path(output), None if target is None else Path(target)
    )


@no_numeric_warnings()
def run(
    path: PathLike,
    inputs: Inputs,
    *,
    images: Preprocessing = PLAIN,
    fetch_all: bool = False,
    as_float: bool = False,
    hardware: Hardware = ACCESS,
) -> Arrays:
    """Runs a fixed-point file as the hardware does, bit by bit.

    Args:
        path: a fixed-point ONNX file.
        inputs: stacked samples ``[N, ...]`` by graph input, an ``.npz`` of them, or a folder of
            pictures; integers are taken as they are, floats as real values. An input that takes
            pixels (see ``docs/preprocessing.md``) is given them in any type.
        images: what is done to pictures.
        fetch_all: returns every map instead of the graph outputs.
        as_float: returns real values instead of integers.
        hardware: how the hardware is simulated.

    Raises:
        UserError: if the file cannot be read or the inputs do not fit it.
    """
    from dlaconv.driver.proof import run_file

    return run_file(
        require_file(Path(path)),
        opened(inputs),
        hardware,
        images,
        fetch_all=fetch_all,
        as_float=as_float,
    )


@no_numeric_warnings()
def run_chain(
    report: PathLike,
    inputs: Inputs,
    *,
    images: Preprocessing = PLAIN,
    hardware: Hardware = ACCESS,
) -> Arrays:
    """Runs every part of a network that was cut, from its graph inputs to its graph outputs.

    Parts for the accelerator run bit by bit, those for the host in onnxruntime; real values go
    from one to the next. A network in one piece is a chain of one part.

    Args:
        report: the report of the conversion, ``net.dla.json``; the parts lie beside it.
        inputs: stacked samples ``[N, ...]`` of real values by graph input, an ``.npz`` of them, or
            a folder of pictures.
        images: what is done to pictures.
        hardware: how the hardware is simulated.

    Returns:
        Real values by graph output, stacked.

    Raises:
        UserError: if a file cannot be read or the inputs do not fit the network.
    """
    from dlaconv.driver.chain import run_chain as run_links

    return run_links(require_file(Path(report)), opened(inputs), hardware, images)


@no_numeric_warnings()
def verify(
    source: Files,
    converted: PathLike,
    *,
    frontend: str | None = None,
    source_options: Mapping[str, Any] | None = None,
    inputs: PathLike | None = None,
    images: Preprocessing = PLAIN,
    samples: int = 4,
    seed: int = 0,
    hardware: Hardware = ACCESS,
    plugins: Plugins | None = None,
) -> Verification:
    """Compares every map of a converted file with its source.

    Args:
        source: the file or files of the network that was converted.
        converted: the fixed-point ONNX file, or the report (``.json``) of a network that was cut,
            for all of its parts.
        frontend: format of the source; recognised if None.
        source_options: further parameters of the frontend; those of the conversion if None.
        inputs: samples: an ``.npz`` or ``.npy``, or a folder of pictures; random ones if None.
        images: what is done to pictures.
        samples: number of random samples.
        seed: seed of the random samples.
        hardware: how the hardware is simulated.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UserError: if a file cannot be read or the two do not belong together.
    """
    from dlaconv.driver.chain_proof import verify_chain
    from dlaconv.driver.proof import verify_files

    place = require_file(Path(converted))
    verify_all = verify_chain if place.suffix == ".json" else verify_files
    return verify_all(
        source_of(source, frontend, source_options),
        place,
        hardware,
        images,
        inputs=None if inputs is None else require_samples(Path(inputs)),
        samples=samples,
        seed=seed,
        plugins=plugins or Plugins(),
    )


def recognise(files: Files, *, plugins: Plugins | None = None) -> str:
    """The name of the format of a network.

    Args:
        files: its file or files.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UnreadableError: if a file is missing, or no frontend recognises it.
        UsageError: if more than one does.
    """
    from dlaconv.driver.sources import recognised

    return recognised(source_of(files, None, None).files, plugins or Plugins())


def opened(inputs: Inputs) -> Mapping[str, np.ndarray] | Path:
    """Samples, or where they are once it is known that something is there."""
    return require_samples(Path(inputs)) if isinstance(inputs, str | Path) else inputs


def source_of(
    files: Files,
    frontend: str | None,
    options: Mapping[str, Any] | None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Source:
    """A network as its files and what its frontend is told.

    Raises:
        UnreadableError: if a file is missing.
    """
    from dlaconv.driver.sources import Source

    listed = [files] if isinstance(files, (str, Path)) else files
    found = tuple(require_network(Path(item)) for item in listed)
    return Source(found, frontend, options, shapes or {})
