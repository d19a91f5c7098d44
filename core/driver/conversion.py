"""From an imported network to an ACCESS file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostics
from dlaconv.driver.emission import emitted, remarks
from dlaconv.driver.reading import load_target, read_samples
from dlaconv.errors import ConversionError, InternalError
from dlaconv.files import emitted_at
from dlaconv.options import EMITTED, Options

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

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

    def run(self) -> Conversion:
        from dlaconv.ir.layers import network_of
        from dlaconv.ir.scales.facts import map_facts

        if self.imported.diagnostics.errors:
            raise ConversionError(self.imported.diagnostics)
        target = load_target(self.options.target, unsigned_maps=self.options.unsigned_maps)
        context = self._context(target)
        reference = self.imported.model.clone()
        scaled = self._scale(self.imported.model, context)
        network = network_of(scaled)
        maps = map_facts(scaled, network, context)
        access = self._write(scaled, context, maps)
        checked = self._timed("check", lambda: self._check(access, scaled, target))
        context.diagnostics.extend(checked.diagnostics)
        if checked.diagnostics.errors and not self.options.allow_violations:
            raise ConversionError(context.diagnostics, _REFUSED)
        verification = None
        if self.options.verify:
            verification = self._timed(
                "verify", lambda: self._verify(reference, network, context, maps)
            )
            context.diagnostics.extend(verification.diagnostics())
        context.diagnostics.extend(remarks(network, self.options))
        report = self._report(network, maps, context, checked, verification)
        conversion = Conversion(access, context.diagnostics, report)
        if self.output is not None:
            self._timed("write", lambda: self._save(conversion, network, target, maps))
        return conversion

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
        from dlaconv.ir.pipeline import Pipeline, with_extra
        from dlaconv.ir.scales import SCALED
        from dlaconv.ir.stages import Stage

        stages = [(Stage.CANONICAL, CANONICAL), (Stage.LEGAL, LEGAL), (Stage.SCALED, SCALED)]
        pipeline = Pipeline(with_extra(stages, self.plugins.passes), self.options.dump_stages)
        pipeline.run(model, context)
        self.timings |= {name: round(seconds, 4) for name, seconds in pipeline.timings.items()}
        return model

    def _write(
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

    def _check(self, access: ir.Model, scaled: ir.Model, target: Target) -> CheckResult:
        """Checks the file that will be written, with findings in terms of the source's layers."""
        from dlaconv.backends.access.rules import check_model
        from dlaconv.ir import provenance

        traced = access.clone()
        provenance.name_source(traced, str(self.source))
        origins = {node.name: node for node in scaled.graph}
        for node in traced.graph:
            provenance.inherit(node, origins[node.name])
        return check_model(
            traced, target, extra=self.plugins.rules(), convention=self.options.convention
        )

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
            _sha256(self.source),
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

    def _save(
        self,
        conversion: Conversion,
        network: Network,
        target: Target,
        maps: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Writes all files into a folder of their own, reads the model back, puts all in place."""
        from dlaconv.backends.access.reader import read_access
        from dlaconv.backends.access.roundtrip import difference
        from dlaconv.driver.reading import read_access_model
        from dlaconv.files import report_of, staging, weights_of
        from dlaconv.ir.layers import network_of
        from dlaconv.ir.saving import save

        assert self.output is not None
        with staging(self.output.parent) as folder:
            file = folder / self.output.name
            save(conversion.model, file, weights_of(file))
            written = read_access_model(file, target)
            found = difference(network, network_of(read_access(written, target).model))
            if found:
                raise InternalError(f"the written file does not read back: {found}")
            for kind, place in self._emitted().items():
                model = emitted(kind, written, network, maps, target, self.options)
                save(model, folder / place.name, weights_of(folder / place.name))
            report_of(file).write_text(_lines(conversion.report), "utf-8")
        conversion.output, conversion.emitted = self.output, self._emitted()

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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
