"""The Python API: load, convert, check, run, run_chain, verify, strip; the command line calls it.

`dlaconv.analysis` has the functions that look into networks.

Each function takes paths as `pathlib.Path` or `str` and raises `dlaconv.errors.UserError` (with
every diagnostic found) for what a user can mend.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.errors import DlaconvError, InternalError, PluginError, UnreadableError, UsageError
from dlaconv.files import require_conversion_output, require_file, require_samples
from dlaconv.options import ACCESS, Hardware
from dlaconv.plugins import Plugins
from dlaconv.preprocessing import PLAIN, Preprocessing

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.backends.access.rules import CheckResult
    from dlaconv.driver.conversion import Conversion
    from dlaconv.driver.stripping import Stripped
    from dlaconv.driver.verification import Verification
    from dlaconv.frontends import Frontend, Imported
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
    plugins = plugins or Plugins()
    files = _paths(source)
    for file in files:
        require_file(file)
    chosen = plugins.frontend(frontend or _recognised(files, plugins))
    return _load(chosen, files, arguments, plugins)


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
    from dlaconv.driver.conversion import convert_imported
    from dlaconv.options import Options as Defaults

    plugins = plugins or Plugins()
    options = options or Defaults()
    target = None if output is None else Path(output)
    files = _paths(source)
    if target is not None:
        require_conversion_output(target, [*files, *options.files], options.emit)
    for file in files:
        require_file(file)
    chosen = frontend or _recognised(files, plugins)
    if options.shapes and "shapes" in inspect.signature(plugins.frontend(chosen).load).parameters:
        arguments = {"shapes": options.shapes, **arguments}
    imported = load(files, chosen, plugins=plugins, **arguments)
    return convert_imported(imported, files[0], target, options, plugins, frontend=chosen)


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
    source: PathLike,
    converted: PathLike,
    *,
    frontend: str | None = None,
    inputs: PathLike | None = None,
    images: Preprocessing = PLAIN,
    samples: int = 4,
    seed: int = 0,
    hardware: Hardware = ACCESS,
    plugins: Plugins | None = None,
) -> Verification:
    """Compares every map of a converted file with its source.

    Args:
        source: the network that was converted.
        converted: the fixed-point ONNX file.
        frontend: format of the source; recognised if None.
        inputs: samples: an ``.npz`` or ``.npy``, or a folder of pictures; random ones if None.
        images: what is done to pictures.
        samples: number of random samples.
        seed: seed of the random samples.
        hardware: how the hardware is simulated.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UserError: if a file cannot be read or the two do not belong together.
    """
    from dlaconv.driver.proof import verify_files

    return verify_files(
        require_file(Path(source)),
        require_file(Path(converted)),
        hardware,
        images,
        frontend=frontend,
        inputs=None if inputs is None else require_samples(Path(inputs)),
        samples=samples,
        seed=seed,
        plugins=plugins or Plugins(),
    )


def opened(inputs: Inputs) -> Mapping[str, np.ndarray] | Path:
    """Samples, or where they are once it is known that something is there."""
    return require_samples(Path(inputs)) if isinstance(inputs, str | Path) else inputs


def _paths(source: Files) -> list[Path]:
    if isinstance(source, (str, Path)):
        return [Path(source)]
    return [Path(item) for item in source]


def _recognised(files: Sequence[Path], plugins: Plugins) -> str:
    names = plugins.recognise(files)
    if len(names) == 1:
        return names[0]
    place = Location(file=str(files[0]))
    known = ", ".join(plugins.frontends)
    if names:
        message = f"the file could be {' or '.join(names)}"
        raise UsageError(
            Diagnostic(
                "DLA412",
                "ambiguous-format",
                message,
                location=place,
                help=f"choose one, for instance with --from {names[0]}",
            )
        )
    raise UnreadableError(
        Diagnostic(
            "DLA413",
            "unknown-format",
            "no frontend recognises the file",
            location=place,
            help=f"known formats: {known}; --from NAME reads it as one of them and says what is "
            "wrong",
        )
    )


def _load(
    frontend: Frontend, files: Sequence[Path], arguments: dict[str, Any], plugins: Plugins
) -> Imported:
    from dlaconv.frontends import Imported

    parameters = inspect.signature(frontend.load).parameters
    if "layers" in parameters:
        arguments = {**arguments, "layers": plugins.layers(frontend.name)}
    if "read_back" in parameters:
        from dlaconv.driver.fixed_point_source import read_back

        arguments = {**arguments, "read_back": read_back}
    try:
        inspect.signature(frontend.load).bind(*files, **arguments)
    except TypeError as error:
        raise UsageError(
            Diagnostic(
                "DLA414",
                "frontend-arguments",
                f"frontend {frontend.name!r} cannot read {len(files)} file(s) with the given "
                f"arguments: {error}",
                help=f"`dlaconv from-{frontend.name} --help` lists its arguments",
            )
        ) from None
    owner = plugins.owner(frontend.name)
    try:
        imported = frontend.load(*files, **arguments)
    except (DlaconvError, MemoryError):
        raise
    except Exception as error:
        if owner.built_in:
            raise InternalError(
                f"frontend {frontend.name!r}: {type(error).__name__}: {error}"
            ) from error
        raise _failed(frontend, owner, f"{type(error).__name__}: {error}") from error
    if not isinstance(imported, Imported):
        raise _failed(frontend, owner, f"load returned a value of type {type(imported).__name__}")
    return imported


def _failed(frontend: Frontend, owner: object, reason: str) -> PluginError:
    return PluginError(
        Diagnostic(
            "DLA453",
            "frontend-failed",
            f"frontend {frontend.name!r} of plugin {owner} failed: {reason}",
            help="report it to the authors of that plugin",
        )
    )
