"""From an imported network to an ACCESS file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.driver.emission import emitted, remarks
from dlaconv.driver.reading import load_target, read_samples
from dlaconv.errors import ConversionError, InternalError, UnreadableError
from dlaconv.files import emitted_at
from dlaconv.options import EMITTED, Options

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from dlaconv.backends.access.model import AccessModel
    from dlaconv.backends.access.rules import CheckResult
    from dlaconv.driver.verification import Verification
    from dlaconv.frontends import Imported
    from dlaconv.ir.layers import Network
    from dlaconv.ir.pipeline import Context
    from dlaconv.ir.target import Target
    from dlaconv.plugins import Plugins

_TRIED_SAMPLES = 8
"""Random inputs on which scales are chosen, however few are asked for to verify."""
_REFUSED = (
    "nothing is written, since the network breaks rules of the hardware; --allow-violations writes "
    "it nonetheless"
)


@dataclass
class Conversion:
    """The result of a conversion.

    Attributes:
        model: the ACCESS model.
        diagnostics: everything there is to say.
        report: the JSON report, see ``schemas/report.schema.json``.
        output: where the file was put, None if it was not written.
        emitted: where further models were put, by kind.
    """

    model: ir.Model
    diagnostics: Diagnostics
    report: dict[str, Any]
    output: Path | None = None
    emitted: dict[str, Path] = field(default_factory=dict)


def convert_imported(
    imported: Imported,
    source: Path,
    output: Path | None,
    options: Options,
    plugins: Plugins,
    *,
    frontend: str = "",
) -> Conversion:
    """Takes an imported network to an ACCESS file.

    Args:
        imported: what a frontend returned; its model is used up.
        source: the file it came from, for messages and the report.
        output: where to put the file (and ``<stem>.json`` beside it); None writes nothing.
        options: see `Options`.
        plugins: source of further passes and rules.
        frontend: name of the frontend, for the report.

    Raises:
        ConversionError: if the network cannot be converted or breaks a rule; nothing is written.
        InternalError: if an invariant of ours breaks.
    """
    return _Driver(imported, source, output, options, plugins, frontend).run()


@dataclass
class _Driver:
    imported: Imported
    source: Path
    output: Path | None
    options: Options
    plugins: Plugins
    frontend: str
    timings: dict[str, float] = field(default_factory=dict)
    digest: _Digest = field(init=False)

    def run(self) -> Conversion:
        from dlaconv.backends.access.rules import check_view
        from dlaconv.files import require_conversion_output, staging
        from dlaconv.ir import provenance
        from dlaconv.ir.layers import network_of
        from dlaconv.ir.scales.facts import map_facts

        weights = provenance.weight_files(self.imported.model)
        if self.output is not None:
            require_conversion_output(self.output, weights, self.options.emit)
        if self.imported.diagnostics.errors:
            raise ConversionError(self.imported.diagnostics)
        self.digest = _Digest(self.source)
        before = _states([self.source, *weights])
        target = load_target(self.options.target, unsigned_maps=self.options.unsigned_maps)
        context = self._context(target)
        reference = self.imported.model.clone() if self.options.verify else None
        scaled = self._scale(self.imported.model, context)
        network = network_of(scaled)
        maps = map_facts(scaled, network, context)
        access = self._access(scaled, context, maps)
        place = staging(self.output.parent) if self.output is not None else nullcontext()
        with place as folder:
            view = self._timed("write", lambda: self._written(access, scaled, network, folder))
            checked = self._timed("check", lambda: check_view(view, self.plugins.rules()))
            context.diagnostics.extend(checked.diagnostics)
            if checked.diagnostics.errors and not self.options.allow_violations:
                raise ConversionError(context.diagnostics, _REFUSED)
            verification = None
            if reference is not None:
                verification = self._timed(
                    "verify", lambda: self._verify(reference, network, context, maps)
                )
                context.diagnostics.extend(verification.diagnostics())
            context.diagnostics.extend(remarks(network, self.options))
            report = self._report(network, maps, context, checked, verification)
            if folder is not None:
                self._write_beside(view, network, maps, report, folder)
            _require_unchanged(before)
        return Conversion(access, context.diagnostics, report, self.output, self._emitted())

    def _timed(self, name: str, action: Any) -> Any:
        start = time.perf_counter()
        result = action()
        self.timings[name] = round(time.perf_counter() - start, 4)
        return result

    def _context(self, target: Target) -> Context:
        from dlaconv.ir.pipeline import Context
        from dlaconv.ir.rounding import Rounding

        options = self.options
        return Context(
            target=target,
            diagnostics=Diagnostics(self.imported.diagnostics),
            shapes=options.shapes,
            policy=options.policy,
            io=options.io,
            convention=options.convention,
            calibration=self._calibration(),
            rounding=Rounding(options.rounding),
            legalise=options.legalise,
            pad_outputs=options.pad_outputs,
            seed=options.seed,
            samples=max(options.samples, _TRIED_SAMPLES),
        )

    def _calibration(self) -> dict[str, np.ndarray] | None:
        path = self.options.calibrate
        if path is None:
            return None
        return read_samples(path, self.imported.model, self.options.shapes)

    def _scale(self, model: ir.Model, context: Context) -> ir.Model:
        from dlaconv.ir.passes import CANONICAL
        from dlaconv.ir.passes.legal import LEGAL
        from dlaconv.ir.passes.maps import MAPS
        from dlaconv.ir.pipeline import Pipeline, with_extra
        from dlaconv.ir.scales import SCALED
        from dlaconv.ir.stages import Stage

        stages = [
            (Stage.CANONICAL, CANONICAL),
            (Stage.LEGAL, LEGAL),
            (Stage.MAPPED, MAPS),
            (Stage.SCALED, SCALED),
        ]
        pipeline = Pipeline(with_extra(stages, self.plugins.passes), self.options.dump_stages)
        pipeline.run(model, context)
        self.timings |= {name: round(seconds, 4) for name, seconds in pipeline.timings.items()}
        return model

    def _access(
        self, scaled: ir.Model, context: Context, maps: Mapping[str, Mapping[str, Any]]
    ) -> ir.Model:
        from dlaconv import __version__
        from dlaconv.backends.access.writer import write_access

        metadata = {
            "dlaconv.version": __version__,
            "dlaconv.source": self.source.name,
            "dlaconv.target": f"{context.target.name} {context.target.version}",
        }
        return write_access(
            scaled, context.target, convention=context.convention, maps=maps, metadata=metadata
        )

    def _written(
        self, access: ir.Model, scaled: ir.Model, network: Network, folder: Path | None
    ) -> AccessModel:
        """Writes the file, and proves that what it holds is the network.

        Args:
            access: the ACCESS model.
            scaled: the model that it was made of.
            network: its layers.
            folder: where to write the file; without one the model itself is looked at.

        Returns:
            The file, whose findings are told in terms of the source's layers.
        """
        from dlaconv.backends.access.model import AccessModel
        from dlaconv.backends.access.reader import read_view
        from dlaconv.backends.access.roundtrip import difference
        from dlaconv.driver.reading import read_access_model
        from dlaconv.files import weights_of
        from dlaconv.ir import provenance
        from dlaconv.ir.layers import network_of
        from dlaconv.ir.saving import save

        target = load_target(self.options.target, unsigned_maps=self.options.unsigned_maps)
        if folder is None:
            model = access.clone()
        else:
            file = folder / cast(Path, self.output).name
            save(access, file, weights_of(file))
            model = read_access_model(file, target)
        provenance.name_source(model, str(self.source))
        origins = {node.name: node for node in scaled.graph}
        for node in model.graph:
            provenance.inherit(node, origins[node.name])
        view = AccessModel(model, target, self.options.convention)
        found = difference(network, network_of(read_view(view).model))
        if found:
            raise InternalError(f"the written file does not read back: {found}")
        return view

    def _verify(
        self,
        reference: ir.Model,
        network: Network,
        context: Context,
        maps: Mapping[str, Mapping[str, Any]],
    ) -> Verification:
        from dlaconv.driver.verification import verify_network

        count = self.options.samples
        described = "calibration data" if context.calibration is not None else "random inputs"
        return verify_network(
            reference,
            network,
            maps,
            {name: array[:count] for name, array in context.inputs.items()},
            rounding=self.options.rounding,
            activation_order=self.options.activation_order,
            described=described,
        )

    def _report(
        self,
        network: Network,
        maps: Mapping[str, Mapping[str, Any]],
        context: Context,
        checked: CheckResult,
        verification: Verification | None,
    ) -> dict[str, Any]:
        from dlaconv.driver.report import Origin, build_report

        origin = Origin(
            self.source,
            self.digest.result(),
            self.frontend,
            self.imported.notes,
            self.output,
            self._emitted(),
        )
        return build_report(
            origin,
            self.options,
            network,
            maps,
            context,
            checked,
            verification,
            self.timings,
        )

    def _write_beside(
        self,
        view: AccessModel,
        network: Network,
        maps: Mapping[str, Mapping[str, Any]],
        report: Mapping[str, Any],
        folder: Path,
    ) -> None:
        """Writes the models that were asked for besides, and the report."""
        from dlaconv.files import report_of, weights_of
        from dlaconv.ir.saving import save

        for kind, place in self._emitted().items():
            model = emitted(kind, view.model, network, maps, view.target, self.options)
            save(model, folder / place.name, weights_of(folder / place.name))
        assert self.output is not None
        report_of(folder / self.output.name).write_text(_lines(report), "utf-8")

    def _emitted(self) -> dict[str, Path]:
        """Where further models are put, by kind."""
        if self.output is None:
            return {}
        return {
            kind: emitted_at(self.output, kind) for kind in EMITTED if kind in self.options.emit
        }


def _lines(report: Mapping[str, Any]) -> str:
    """The report as JSON, each row of its tables on a line of its own."""
    fields = []
    for key, value in report.items():
        rows = [f"  {json.dumps(row)}" for row in value] if isinstance(value, list) else []
        text = "[\n" + ",\n".join(rows) + "\n ]" if rows else json.dumps(value)
        fields.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _states(paths: Sequence[Path]) -> dict[Path, tuple[int, int] | None]:
    """Size and time of change of files; None for one that is gone, whose content stays mapped."""
    states: dict[Path, tuple[int, int] | None] = {}
    for path in paths:
        try:
            found = path.stat()
            states[path] = found.st_size, found.st_mtime_ns
        except OSError:
            states[path] = None
    return states


def _require_unchanged(before: Mapping[Path, tuple[int, int] | None]) -> None:
    """Sees to it that a mapped file was not written to while it was read.

    Raises:
        UnreadableError: naming each file that was.
    """
    after = _states(list(before))
    changed = [path for path, state in before.items() if None not in {state, after[path]}]
    changed = [path for path in changed if before[path] != after[path]]
    if changed:
        raise UnreadableError(
            Diagnostic(
                "DLA409",
                "changed-source",
                "the file was written to while it was converted",
                location=Location(file=str(path)),
                help="convert it again when whatever writes it has ended",
            )
            for path in changed
        )


class _Digest(Thread):
    """The SHA-256 of a file, computed while something else is done."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path, self._digest = path, hashlib.sha256()
        self._error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            block = memoryview(bytearray(1 << 18))
            with self._path.open("rb", buffering=0) as file:
                while count := file.readinto(block):
                    self._digest.update(block[:count])
        except OSError as error:
            self._error = error

    def result(self) -> str:
        """Waits for the end; what went wrong with the file is raised here."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()
