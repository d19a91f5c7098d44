"""The Python API for looking into networks; `dlaconv.api` has the rest.

Each function takes paths as `pathlib.Path` or `str` and raises `dlaconv.errors.UserError` (with
every diagnostic found) for what a user can mend.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.api import Files, Inputs, PathLike, no_numeric_warnings, opened, source_of
from dlaconv.files import require_file, require_output, require_samples
from dlaconv.options import ACCESS, Hardware
from dlaconv.plugins import Plugins
from dlaconv.preprocessing import PLAIN, Preprocessing

if TYPE_CHECKING:
    from dlaconv.driver.comparing import Compared
    from dlaconv.driver.dumping import Dumped
    from dlaconv.driver.sensitivity import Sensitivity
    from dlaconv.driver.showing import Shown
    from dlaconv.driver.validating import Validated
    from dlaconv.options import Options


@no_numeric_warnings()
def show(
    path: Files,
    *,
    frontend: str | None = None,
    source_options: Mapping[str, Any] | None = None,
    target: PathLike | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    plugins: Plugins | None = None,
) -> Shown:
    """Tells what is in a network: layers, shapes, parameters, multiplications, quantisation.

    Args:
        path: the file or files of a source, a converted file, or the report of a conversion.
        frontend: format of the file; recognised if None.
        source_options: further parameters of the frontend of a source.
        target: the description that the file was made with; the built-in ACCESS one if None.
        shapes: shapes of graph inputs that a source leaves open.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UserError: if the file cannot be read.
    """
    from dlaconv.driver.showing import show_file

    return show_file(
        source_of(path, frontend, source_options, shapes),
        target=None if target is None else Path(target),
        plugins=plugins or Plugins(),
    )


@no_numeric_warnings()
def dump(
    path: Files,
    inputs: Inputs,
    output: PathLike,
    *,
    as_float: bool = False,
    images: Preprocessing = PLAIN,
    frontend: str | None = None,
    source_options: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    hardware: Hardware = ACCESS,
    plugins: Plugins | None = None,
) -> Dumped:
    """Writes every map of a network to an ``.npz``: integers of the hardware, or real values.

    Args:
        path: a converted file, the report of a conversion (all its parts run), or the file or
            files of a source, whose maps are in floating point.
        inputs: stacked samples ``[N, ...]`` by graph input, an ``.npz`` of them, or a folder of
            pictures; integers are what the hardware takes, floats are real values.
        output: the ``.npz``; arrays have the names of the maps and the samples first.
        as_float: writes real values of a converted file, by the names that the source has for
            them.
        images: what is done to pictures.
        frontend: format of a source; recognised if None.
        source_options: further parameters of the frontend of a source.
        shapes: shapes of graph inputs that a source leaves open.
        hardware: how the hardware is simulated.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UserError: if the file cannot be read or the inputs do not fit it; nothing is written then.
    """
    from dlaconv.driver.dumping import dump_file

    source = source_of(path, frontend, source_options, shapes)
    require_output(Path(output), source.files)
    return dump_file(
        source,
        opened(inputs),
        Path(output),
        hardware,
        images,
        as_float=as_float,
        plugins=plugins or Plugins(),
    )


@no_numeric_warnings()
def compare(
    source: Files,
    converted: PathLike,
    inputs: PathLike,
    *,
    images: Preprocessing = PLAIN,
    frontend: str | None = None,
    source_options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    min_qsnr_db: float | None = None,
    hardware: Hardware = ACCESS,
    plugins: Plugins | None = None,
) -> Compared:
    """Tells how far every layer is from its source, by itself and within the network.

    Isolated, a layer is fed with the source's values; accumulated, with what the layers before it
    have made of the inputs. `dlaconv.verify` proves integers; this measures quality.

    Args:
        source: the file or files of the network that was converted.
        converted: the converted file, or the report of a network that was cut: the errors of all
            parts accumulate then.
        inputs: samples for the graph inputs: an ``.npz`` or ``.npy``, or a folder of pictures.
        images: what is done to pictures.
        frontend: format of the source; recognised if None.
        source_options: further parameters of the frontend; those of the conversion if None.
        limit: the number of samples, the first ones; all if None.
        min_qsnr_db: what each graph output has to reach to pass.
        hardware: how the hardware is simulated.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UserError: if a file cannot be read or the two do not belong together.
    """
    from dlaconv.driver.comparing import compare_files

    return compare_files(
        source_of(source, frontend, source_options),
        require_file(Path(converted)),
        require_samples(Path(inputs)),
        hardware,
        images,
        limit=limit,
        least_db=min_qsnr_db,
        plugins=plugins or Plugins(),
    )


@no_numeric_warnings()
def validate(
    converted: PathLike,
    inputs: PathLike,
    labels: PathLike | None = None,
    *,
    images: Preprocessing = PLAIN,
    source: Files | None = None,
    frontend: str | None = None,
    source_options: Mapping[str, Any] | None = None,
    output: str | None = None,
    limit: int | None = None,
    hardware: Hardware = ACCESS,
    plugins: Plugins | None = None,
) -> Validated:
    """Counts how often a converted classifier is right, and its source on the same samples.

    Args:
        converted: the converted file, or the report of a network that was cut; runs bit by bit.
        inputs: samples, real values, read one at a time: an ``.npz`` or ``.npy``, or a folder of
            pictures.
        labels: an ``.npy`` or ``.npz`` with one class index for each sample, or a text file with
            lines of ``name label``; None for a folder of pictures with a subfolder for each class.
        images: what is done to pictures.
        source: the file or files of the network that was converted, to run in floating point;
            none if None.
        frontend: format of the source; recognised if None.
        source_options: further parameters of the frontend; those of the conversion if None.
        output: the graph output with a value for each class, or with a class index; the only one
            if None.
        limit: the number of samples, the first ones; all if None.
        hardware: how the hardware is simulated.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UserError: if a file cannot be read, or labels, samples and network do not fit each other.
    """
    from dlaconv.driver.validating import validate_files

    return validate_files(
        require_file(Path(converted)),
        require_samples(Path(inputs)),
        None if labels is None else require_file(Path(labels)),
        hardware,
        images,
        source=None if source is None else source_of(source, frontend, source_options),
        output=output,
        limit=limit,
        plugins=plugins or Plugins(),
    )


@no_numeric_warnings()
def sensitivity(
    source: Files,
    *,
    options: Options,
    frontend: str | None = None,
    source_options: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
) -> Sensitivity:
    """Ranks the layers of a network by the error that quantising them causes at its outputs.

    Each layer is tried twice: quantised alone, in a network of floating point, and as the only one
    in floating point. All that is quantised is computed bit by bit.

    Args:
        source: the file or files of the network.
        options: how it would be converted; ``calibrate`` is needed, ``samples`` of it are tried at
            most, fewer where that would take more than 4 * 10^11 multiplications.
        frontend: format of the source; recognised if None.
        source_options: further parameters of the frontend.
        plugins: the loaded plugins; loads them if None.

    Raises:
        UserError: if the network cannot be read or converted.
    """
    from dlaconv.driver.sensitivity import rank_layers

    return rank_layers(
        source_of(source, frontend, source_options, options.shapes), options, plugins or Plugins()
    )
