"""Looking before reading, and writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.errors import UnreadableError, UsageError

_IN_FOLDERS = ("config.json", "saved_model.pb")
"""What describes the model in a folder: an unzipped one of Keras, one of TensorFlow."""


def require_file(path: Path) -> Path:
    """Returns a path if an ordinary file is there.

    Raises:
        UnreadableError: if not.
    """
    if path.is_file():
        return path
    why = "this is a folder" if path.is_dir() else "there is no such file"
    raise UnreadableError(
        Diagnostic("DLA401", "unreadable-file", why, location=Location(file=str(path)))
    )


def require_network(path: Path) -> Path:
    """Returns the file of a network; of a model that is saved as a folder, the one that says so.

    Raises:
        UnreadableError: if there is no ordinary file.
    """
    found = (path / name for name in _IN_FOLDERS)
    inside = next((item for item in found if item.is_file()), path) if path.is_dir() else path
    return require_file(inside)


def require_samples(path: Path) -> Path:
    """Returns a path if an ordinary file, or a folder, is there.

    Raises:
        UnreadableError: if not.
    """
    return path if path.is_dir() else require_file(path)


def require_output(path: Path, sources: Sequence[Path] = ()) -> None:
    """Sees to it that a file can be written, before work is spent on its content.

    A device or pipe would not be written to but replaced, so it is no output.

    Raises:
        UsageError: if the folder does not exist, or the path is one of ``sources`` or anything
            but an ordinary file.
    """
    if path.is_dir():
        problem = "the output is a folder"
    elif path.exists() and not path.is_file():
        problem = "the output is no ordinary file"
    elif not path.parent.is_dir():
        problem = f"the folder {path.parent} does not exist"
    elif path.exists() and any(item.exists() and path.samefile(item) for item in sources):
        problem = "the output would overwrite an input"
    else:
        return
    raise UsageError(
        Diagnostic("DLA421", "output-path", problem, location=Location(file=str(path)))
    )


def report_of(output: Path) -> Path:
    """The place of the report of a conversion: beside the output, ending in ``.json``."""
    return output.with_suffix(".json")


def weights_of(output: Path) -> Path:
    """The place of the weights of a converted file that is too large to hold them itself."""
    return output.with_suffix(".weights")


def emitted_at(output: Path, kind: str) -> Path:
    """The place of a further model of a conversion: beside the output, ``<stem>.<kind>.onnx``."""
    return output.with_suffix(f".{kind}.onnx")


def part_files(output: Path, sides: Sequence[str]) -> list[Path]:
    """The places of the parts of a network, in the order in which they run.

    ``net.dla.onnx`` is the first accelerator part, ``net.dla2.onnx`` the second; host parts are
    ``net.head.onnx`` before all others, ``net.tail.onnx`` behind them, ``net.host1.onnx`` between.

    Args:
        output: where the first accelerator part goes.
        sides: ``accelerator`` or ``host`` for each part.
    """
    stem = output.name.removesuffix(".onnx").removesuffix(".dla")
    files, accelerators, hosts = [], 0, 0
    for index, side in enumerate(sides):
        if side == "accelerator":
            accelerators += 1
            word = f"dla{accelerators}"
        elif index == 0:
            word = "head"
        elif index == len(sides) - 1:
            word = "tail"
        else:
            hosts += 1
            word = f"host{hosts}"
        first = side == "accelerator" and accelerators == 1
        files.append(output if first else output.with_name(f"{stem}.{word}.onnx"))
    return files


def require_conversion_output(
    output: Path, sources: Sequence[Path], emit: Iterable[str] = ()
) -> None:
    """Sees to it that a converted file and all beside it can be written; see `require_output`.

    Args:
        output: the converted file.
        sources: files that must stay as they are.
        emit: the kinds of further models.

    Raises:
        UsageError: also if the report would overwrite the converted file.
    """
    require_output(output, sources)
    report = report_of(output)
    if output in {report, weights_of(output)}:
        raise UsageError(
            Diagnostic(
                "DLA421",
                "output-path",
                "a file beside the output (report, weights) would have the same name",
                location=Location(file=str(output)),
                help="end the output in .onnx",
            )
        )
    models = [output, *(emitted_at(output, kind) for kind in emit)]
    for path in [report, *models[1:], *map(weights_of, models)]:
        require_output(path, sources)


def require_separate(
    path: Path, output: Path, emit: Iterable[str] = (), others: Iterable[Path] = ()
) -> None:
    """Sees to it that a further file is none of those that a conversion writes itself.

    Args:
        path: the further file.
        output: the converted file.
        emit: the kinds of further models.
        others: more files that are taken.

    Raises:
        UsageError: if it is the converted file, its report or weights, a model beside it or another
            one.
    """
    models = [output, *(emitted_at(output, kind) for kind in emit)]
    taken = [report_of(output), *models, *map(weights_of, models), *others]
    if path.suffix == ".onnx" or path.resolve() in [item.resolve() for item in taken]:
        raise UsageError(
            Diagnostic(
                "DLA421",
                "output-path",
                "the file would overwrite another one of the same conversion",
                location=Location(file=str(path)),
                help="give it another name, which does not end in .onnx",
            )
        )


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder in ``folder``; its files move there when the block succeeds.

    Whatever ends the block otherwise, Ctrl-C included, removes them and leaves ``folder`` as it
    was.
    """
    temporary = folder / f".dlaconv.{os.urandom(4).hex()}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` that takes its place when the block succeeds.

    Whatever ends the block otherwise, Ctrl-C included, removes the temporary file and leaves
    ``path`` as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
