"""Sources: the files of a network, which frontend reads them, and with which options.

What a source is may depend on the frontend's options (the thresholds of its maps, say), so a
converted file records them, and the commands that lay it beside its source read the source as the
conversion did.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv import source_options
from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.driver.chain import read_chain
from dlaconv.driver.reading import read_access_model
from dlaconv.errors import (
    ConversionError,
    DlaconvError,
    InternalError,
    PluginError,
    UnreadableError,
    UsageError,
)
from dlaconv.files import require_file

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.frontends import Calibration, Frontend, Imported
    from dlaconv.ir.target import Target
    from dlaconv.plugins import Plugins

RECORD = "dlaconv.source_options"
"""Key of the metadata of a converted file that says how its source was read."""

_SHAPES = "shapes"
_MOST_DIMENSIONS = 32


@dataclass(frozen=True)
class Source:
    """A network as a user hands it over.

    Attributes:
        files: its files; the first is the network, further ones hold its weights.
        frontend: its format; recognised from the files if None.
        options: further parameters of the frontend; None for those of the conversion where a
            converted file is beside it, and else for the defaults.
        shapes: shapes of graph inputs, for frontends whose layers depend on them.
    """

    files: tuple[Path, ...]
    frontend: str | None = None
    options: Mapping[str, Any] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file that messages name."""
        return self.files[0]


@dataclass(frozen=True)
class OpenSource:
    """A source whose format is known.

    Attributes:
        frontend: what reads it.
        files: its files, as the frontend takes them.
        options: further parameters of the frontend.
        shapes: shapes of graph inputs; empty if the frontend takes none.
        plugins: the loaded plugins.
        outputs: parameters of the frontend that name files to write.
    """

    frontend: Frontend
    files: tuple[Path, ...]
    options: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    plugins: Plugins
    outputs: Mapping[str, Path] = field(default_factory=dict)

    @property
    def further(self) -> tuple[Path, ...]:
        """Every file but the first, those that options name among them."""
        return (*self.files[1:], *source_options.paths_in(self.frontend, self.options))

    @property
    def words(self) -> list[str]:
        """The options as text."""
        return source_options.words_of(self.frontend, self.options)

    @property
    def record(self) -> str:
        """How the source is read, for the metadata of a converted file; empty for no options.

        Of files that options name there is only the name.
        """
        words = source_options.words_of(self.frontend, self.options, places=False)
        if not words and not self.shapes:
            return ""
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        return json.dumps({"frontend": self.frontend.name, "options": words, _SHAPES: shapes})

    def load(self, calibration: Calibration | None = None) -> Imported:
        """Reads the network; see `dlaconv.load`.

        Args:
            calibration: what a frontend may choose formats by.
        """
        from dlaconv.frontends import Imported

        frontend, owner = self.frontend, self.plugins.owner(self.frontend.name)
        arguments = self._arguments(calibration)
        try:
            imported = frontend.load(*self.files, **arguments)
        except (DlaconvError, MemoryError):
            raise
        except Exception as error:
            if owner.built_in:
                raise InternalError(
                    f"frontend {frontend.name!r}: {type(error).__name__}: {error}"
                ) from error
            raise _failed(frontend, owner, f"{type(error).__name__}: {error}") from error
        if not isinstance(imported, Imported):
            raise _failed(
                frontend, owner, f"load returned a value of type {type(imported).__name__}"
            )
        return imported

    def read(self) -> Imported:
        """Reads the network, and stops where it cannot be run.

        Raises:
            UserError: with everything that its frontend found.
        """
        imported = self.load()
        if imported.diagnostics.errors:
            raise ConversionError(imported.diagnostics)
        return imported

    def reference(self, name: str) -> Callable[..., Sequence[np.ndarray]]:
        """The program that can run the source itself.

        Raises:
            UsageError: if the frontend has none of that name.
        """
        known = self.frontend.references
        if name in known:
            return known[name]
        choose = f"choose {' or '.join(sorted(known))}" if known else "leave it out"
        raise UsageError(
            Diagnostic(
                "DLA426",
                "option-value",
                f"--verify-with cannot be {name!r}: no such program runs sources of format "
                f"{self.frontend.name!r}",
                location=Location(file=str(self.files[0])),
                help=choose,
            )
        )

    def run_in(self, name: str, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Runs the source itself; see `dlaconv.frontends.Frontend`.

        Args:
            name: the program.
            inputs: stacked samples in the order of the inputs.
        """
        import numpy as np

        owner = self.plugins.owner(self.frontend.name)
        try:
            results = self.reference(name)(*self.files, inputs=inputs, **self.options)
            return [np.asarray(result) for result in results]
        except (DlaconvError, MemoryError):
            raise
        except Exception as error:
            reason = f"{name}: {type(error).__name__}: {error}"
            if owner.built_in:
                raise InternalError(f"frontend {self.frontend.name!r}: {reason}") from error
            raise _failed(self.frontend, owner, reason) from error

    def _arguments(self, calibration: Calibration | None) -> dict[str, Any]:
        signature = inspect.signature(self.frontend.load)
        arguments = {**self.options, **self.outputs}
        if "calibration" in signature.parameters:
            arguments["calibration"] = calibration
        if self.shapes:
            arguments[_SHAPES] = self.shapes
        if "layers" in signature.parameters:
            arguments["layers"] = self.plugins.layers(self.frontend.name)
        if "read_back" in signature.parameters:
            from dlaconv.driver.fixed_point_source import read_back

            arguments["read_back"] = read_back
        try:
            signature.bind(*self.files, **arguments)
        except TypeError as error:
            raise UsageError(
                Diagnostic(
                    "DLA414",
                    "frontend-arguments",
                    f"frontend {self.frontend.name!r} cannot read {len(self.files)} file(s) with "
                    f"the given arguments: {error}",
                    help=f"`dlaconv from-{self.frontend.name} --help` lists its arguments",
                )
            ) from None
        return arguments


def open_source(source: Source, plugins: Plugins) -> OpenSource:
    """Finds out what reads a source.

    Raises:
        UnreadableError: if no frontend recognises them, or a further file is missing.
        UsageError: if several do, or the frontend takes other files.
        PluginError: if the frontend is claimed twice.
    """
    name = source.frontend or recognised(source.files, plugins)
    frontend = plugins.frontend(name)
    options = dict(source.options or {})
    shapes = options.pop(_SHAPES, source.shapes)
    files = _files(frontend, source.files, options)
    names = source_options.written_parameters(frontend) & options.keys()
    given = {name: options.pop(name) for name in sorted(names)}
    outputs = {name: Path(value) for name, value in given.items() if value is not None}
    if not _takes_shapes(frontend):
        shapes = {}
    return OpenSource(frontend, files, options, shapes, plugins, outputs)


def as_converted(source: Source, converted: Path, target: Target, plugins: Plugins) -> OpenSource:
    """A source with the options and shapes with which a file was converted from it.

    Those that the user gives come first.

    Args:
        source: what the user gives.
        converted: the converted file, or the report of a network that was cut.
        target: the description with the compiler's attributes.
        plugins: the loaded plugins.

    Raises:
        UsageError: if an option names a file: no file may choose what is read.
        UserError: see `open_source`.
    """
    opened = open_source(source, plugins)
    record = _recorded(converted, target)
    if record is None or record["frontend"] != opened.frontend.name:
        return opened
    words = record["options"]
    if _takes_shapes(opened.frontend):
        opened = replace(opened, shapes=opened.shapes or record[_SHAPES])
    if source.options is not None or not words:
        return opened
    again = " ".join(f"--source-option {word}" for word in words)
    try:
        options = source_options.read_words(opened.frontend, words)
        problem = "which names a file" if source_options.paths_in(opened.frontend, options) else ""
    except UsageError:  # of another version, or not ours
        problem = f"which this version's {opened.frontend.name!r} does not read"
    if problem:
        raise UsageError(
            Diagnostic(
                "DLA414",
                "frontend-arguments",
                f"the network was converted with {' '.join(words)}, {problem}",
                location=Location(file=str(converted)),
                help=f"say what holds here, such as {again}; or leave out all of them: "
                f"--source-option {source_options.NONE}",
            )
        )
    return replace(opened, options=options)


def recognised(files: Sequence[Path], plugins: Plugins) -> str:
    """The name of the one frontend that recognises files.

    Raises:
        UnreadableError: if none does.
        UsageError: if several do.
    """
    names = plugins.recognise(files)
    if len(names) == 1:
        return names[0]
    place = Location(file=str(files[0]))
    if names:
        raise UsageError(
            Diagnostic(
                "DLA412",
                "ambiguous-format",
                f"the file could be {' or '.join(names)}",
                location=place,
                help=f"choose one, for instance with --from {names[0]}",
            )
        )
    known = ", ".join(_described(name, item) for name, item in plugins.frontends.items())
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


def _takes_shapes(frontend: Frontend) -> bool:
    return _SHAPES in inspect.signature(frontend.load).parameters


def _described(name: str, frontend: Frontend) -> str:
    """A format, with its files if it has several."""
    try:
        files = source_options.file_names(source_options.file_parameters(frontend))
    except (TypeError, NameError):
        return name
    return f"{name} ({' and '.join(files)})" if len(files) > 1 else name


def _files(frontend: Frontend, given: Sequence[Path], options: dict[str, Any]) -> tuple[Path, ...]:
    """The files in the order in which a frontend takes them; named ones leave the options."""
    try:
        taken = source_options.file_parameters(frontend)
    except (TypeError, NameError):  # a plugin without a command; its load says what it takes
        return tuple(given)
    files = list(given)
    for parameter in taken[len(files) :]:
        if options.get(parameter.name) is None:
            break
        files.append(require_file(Path(options.pop(parameter.name))))
    needed = [item for item in taken if item.default is inspect.Parameter.empty]
    if len(needed) <= len(files) <= len(taken):
        return tuple(files)
    names = source_options.file_names(taken)
    count = f"{len(names)} files, {' and '.join(names)}" if len(names) > 1 else "one file"
    named = [*map(str, files[: len(taken)]), *names[len(files) :]]
    raise UsageError(
        Diagnostic(
            "DLA414",
            "frontend-arguments",
            f"a network of format {frontend.name!r} is {count}, and "
            f"{len(files)} {'is' if len(files) == 1 else 'are'} given",
            location=Location(file=str(given[0])),
            help=f"give {' '.join(named)}",
        )
    )


def _recorded(converted: Path, target: Target) -> dict[str, Any] | None:
    """What a converted file says of how its source was read; None if that is nothing of ours."""
    if converted.suffix == ".json":
        parts = [link.file for link in read_chain(converted).links if not link.host]
    else:
        parts = [converted]
    if not parts:
        return None
    text = read_access_model(parts[0], target).metadata_props.get(RECORD)
    try:
        record = json.loads(text or "null")
        words, shapes = list(record["options"]), dict(record[_SHAPES])
        known = {str(name): _shape(sizes) for name, sizes in shapes.items()}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in words):
        return None
    return {"frontend": record.get("frontend"), "options": words, _SHAPES: known}


def _shape(sizes: Sequence[Any]) -> tuple[int, ...]:
    if len(sizes) > _MOST_DIMENSIONS or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError("no shape")
    return tuple(sizes)


def _failed(frontend: Frontend, owner: object, reason: str) -> PluginError:
    return PluginError(
        Diagnostic(
            "DLA453",
            "frontend-failed",
            f"frontend {frontend.name!r} of plugin {owner} failed: {reason}",
            help="report it to the authors of that plugin",
        )
    )
