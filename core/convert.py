"""The driver: the one place that knows frontends, passes and backend."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.errors import ConversionError, InternalError, UsageError
from dlaconv.options import Options

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from dlaconv.backends.access.rules import CheckResult
    from dlaconv.frontends import Imported
    from dlaconv.ir.layers import Network
    from dlaconv.ir.pipeline import Context
    from dlaconv.ir.target import Target
    from dlaconv.plugins import Plugins
    from dlaconv.verification import Verification

_TRIED_SAMPLES = 8
"""Random inputs on which scales are chosen, however few are asked for to verify."""


@dataclass
class Conversion:
    """The result of a conversion.

    Attributes:
        model: the ACCESS model.
        diagnostics: everything there is to say.
        report: the JSON report, see ``schemas/report.schema.json``.
        output: where the file was put, None if it was not written.
    """

    model: ir.Model
    diagnostics: Diagnostics
    report: dict[str, Any]
    output: Path | None = None


def load_target(path: Path | None, *, unsigned_maps: bool = False) -> Target:
    """Reads a target description.

    Raises:
        UsageError: if the file is no valid description.
    """
    from dlaconv.ir.target import Target

    try:
        target = Target.load(path)
    except (OSError, ValueError) as error:
        raise UsageError(
            Diagnostic(
                "DLA410",
                "bad-target",
                f"not a target description: {error}",
                location=Location(file=str(path)),
                help="see schemas/target.schema.json",
            )
        ) from error
    return replace(target, signed_maps=False) if unsigned_maps else target


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
        from dlaconv.backends.access.rules import check_model
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
        checked = self._timed(
            "check",
            lambda: check_model(
                access, target, extra=self.plugins.rules(), convention=self.options.convention
            ),
        )
        context.diagnostics.extend(checked.diagnostics)
        if checked.diagnostics.errors and not self.options.allow_violations:
            raise ConversionError(context.diagnostics)
        verification = None
        if self.options.verify:
            verification = self._timed(
                "verify", lambda: self._verify(reference, network, context, maps)
            )
            context.diagnostics.extend(verification.diagnostics())
        report = self._report(network, maps, context, checked, verification)
        conversion = Conversion(access, context.diagnostics, report)
        if self.output is not None:
            self._timed("write", lambda: self._save(conversion, network, target))
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

    def _verify(
        self,
        reference: ir.Model,
        network: Network,
        context: Context,
        maps: Mapping[str, Mapping[str, Any]],
    ) -> Verification:
        from dlaconv.verification import verify_network

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
        from dlaconv.build_report import Origin, build_report

        origin = Origin(
            self.source,
            _sha256(self.source),
            self.frontend,
            self.imported.notes,
            self.output,
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

    def _save(self, conversion: Conversion, network: Network, target: Target) -> None:
        """Writes model and report beside their places, reads the model back, puts both there."""
        import onnx_ir as ir

        from dlaconv.backends.access.reader import read_access
        from dlaconv.backends.access.roundtrip import difference
        from dlaconv.files import replacing
        from dlaconv.ir.layers import network_of

        assert self.output is not None
        with (
            replacing(self.output.with_suffix(".json")) as report,
            replacing(self.output) as file,
        ):
            ir.save(conversion.model, file)
            again = read_access(ir.load(file), target)
            found = difference(network, network_of(again.model))
            if found:
                raise InternalError(f"the written file does not read back: {found}")
            report.write_text(json.dumps(conversion.report, indent=1) + "\n", "utf-8")
        conversion.output = self.output


def read_samples(
    path: Path, model: ir.Model, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Reads an ``.npz`` of stacked samples for a model's inputs.

    Raises:
        UnreadableError: if the file is no ``.npz`` of numbers.
        UsageError: if names or shapes do not fit.
    """
    import numpy as np

    from dlaconv.arrays import match_inputs, read_npz
    from dlaconv.ir.graph import shape_of

    wanted: dict[str, tuple[int, ...] | None] = {}
    for value in model.graph.inputs:
        name = value.name or ""
        wanted[name] = shapes.get(name) or shape_of(value)
    found = match_inputs(read_npz(path), wanted, str(path))
    return {name: array.astype(np.float32) for name, array in found.items()}


def check_file(path: Path, target: Path | None, plugins: Plugins) -> CheckResult:
    """Checks an ACCESS file against every rule.

    Raises:
        UnreadableError: if the file cannot be parsed.
    """
    from dlaconv.backends.access.rules import check_model

    description = load_target(target)
    return check_model(_read_access(path, description), description, extra=plugins.rules())


def run_file(
    path: Path,
    inputs: Mapping[str, np.ndarray],
    *,
    rounding: str = "half-even",
    activation_order: str = "mac",
    fetch_all: bool = False,
    as_float: bool = False,
) -> dict[str, np.ndarray]:
    """Runs an ACCESS file bit by bit; see `dlaconv.run`."""
    import numpy as np

    from dlaconv.backends.access.simulator import Simulator
    from dlaconv.arrays import match_inputs
    from dlaconv.ir.execution import split_samples
    from dlaconv.ir.rounding import Rounding
    from dlaconv.verification import quantise_inputs, real_step

    mode = Rounding(rounding)
    network, facts = _read_network(path, load_target(None))
    shapes = {stored.name: stored.shape for stored in network.inputs}
    samples = match_inputs(inputs, shapes, str(path))
    simulator = Simulator(
        network,
        rounding=mode,
        activation_order="after-clamp" if activation_order == "after-clamp" else "mac",
        fetch="all" if fetch_all else "outputs",
    )
    results: dict[str, list[np.ndarray]] = {}
    for feeds in split_samples(samples):
        for name, array in simulator.run(quantise_inputs(network, feeds, facts, mode)).items():
            results.setdefault(name, []).append(array)
    stacked = {name: np.concatenate(arrays) for name, arrays in results.items()}
    if not as_float:
        return stacked
    steps = {name: real_step(facts, stored) for name, stored in network.maps.items()}
    steps |= {name: real_step(facts, stored) for name, stored in network.outputs}
    return {name: (array * steps[name]).astype(np.float32) for name, array in stacked.items()}


def verify_files(
    source: Path,
    converted: Path,
    *,
    frontend: str | None = None,
    inputs: Path | None = None,
    samples: int = 4,
    seed: int = 0,
    rounding: str = "half-even",
    activation_order: str = "mac",
    plugins: Plugins,
) -> Verification:
    """Compares a converted file with its source; see `dlaconv.verify`."""
    from dlaconv import api
    from dlaconv.ir.calibration.samples import random_inputs_of
    from dlaconv.verification import real_step, verify_network

    imported = api.load(source, frontend, plugins=plugins)
    if imported.diagnostics.errors:
        raise ConversionError(imported.diagnostics)
    network, facts = _read_network(converted, load_target(None))
    shapes = {stored.name: stored.shape for stored in network.inputs}
    missing = sorted(set(shapes) - {value.name for value in imported.model.graph.inputs})
    if missing:
        raise UsageError(
            Diagnostic(
                "DLA903",
                "unrelated-files",
                f"the source has no graph input {', '.join(map(repr, missing))}",
                location=Location(file=str(converted)),
                help="give the file that this one was converted from",
            )
        )
    if inputs is not None:
        fed = read_samples(inputs, imported.model, shapes)
        described = str(inputs)
    else:
        ranges = {
            stored.name: (
                stored.qmin * real_step(facts, stored),
                stored.qmax * real_step(facts, stored),
            )
            for stored in network.inputs
        }
        fed = random_inputs_of(shapes, ranges, samples, seed)
        described = f"{samples} random inputs, seed {seed}"
    return verify_network(
        imported.model,
        network,
        facts,
        fed,
        rounding=rounding,
        activation_order=activation_order,
        described=described,
    )


def rule_text(rule: str, plugins: Plugins) -> str:
    """The documentation of a rule.

    Raises:
        UsageError: if there is no such rule.
    """
    from dlaconv.backends.access.rules import documentation

    return documentation.rule_text(rule, plugins.rules())


def rule_list(plugins: Plugins) -> list[dict[str, str]]:
    """Every rule: id, name, severity, clause and its first sentence."""
    from dlaconv.backends.access.rules import documentation

    return documentation.rule_list(plugins.rules())


def ops_rows(target: Path | None) -> list[dict[str, Any]]:
    """What the hardware runs, one row per operator."""
    from dlaconv.backends.access.rules.documentation import ops_table

    return ops_table(load_target(target))


def _read_network(path: Path, target: Target) -> tuple[Network, dict[str, dict[str, Any]]]:
    from dlaconv.backends.access.reader import read_access
    from dlaconv.ir.layers import network_of

    file = read_access(_read_access(path, target), target)
    try:
        return network_of(file.model), file.maps
    except ValueError as error:
        raise ConversionError(
            Diagnostic(
                "DLA305",
                "not-runnable",
                f"the file is no network of this hardware: {error}",
                location=Location(file=str(path)),
                help=f"run 'dlaconv check {path.name}'",
            )
        ) from error


def _read_access(path: Path, target: Target) -> ir.Model:
    """Reads an ACCESS file with its private attributes."""
    from dlaconv.backends.access.standard_form import private_attributes
    from dlaconv.frontends.onnx.reader import read_onnx
    from dlaconv.ir.provenance import name_source

    model = read_onnx(path, private_attributes(target))
    name_source(model, str(path))
    return model


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
