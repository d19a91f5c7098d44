"""From an imported network to an ACCESS file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostics
from dlaconv.driver.accelerator import AcceleratorPart
from dlaconv.driver.calibrating import Calibrating
from dlaconv.driver.cutting import CutNetwork, Feeds, cut_network
from dlaconv.driver.emission import remarks
from dlaconv.driver.further import further_files, require_further
from dlaconv.driver.html_report import page_of
from dlaconv.driver.pixels import folded_pixels, random_pixels, require_accelerator, unfolded
from dlaconv.driver.qconfig import overrides_for, require_overridden
from dlaconv.driver.reading import load_target
from dlaconv.driver.result import Conversion
from dlaconv.driver.source_file import Digest, require_unchanged, states
from dlaconv.errors import ConversionError
from dlaconv.files import emitted_at, part_files
from dlaconv.options import EMITTED, Options

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.driver.html_report import HtmlReport
    from dlaconv.driver.samples import Samples
    from dlaconv.driver.sources import OpenSource
    from dlaconv.frontends import Imported
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.partition import Part
    from dlaconv.ir.pipeline import Context, Pipeline
    from dlaconv.ir.pixels import Pixels
    from dlaconv.ir.target import Target
    from dlaconv.plugins import Plugins

_TRIED_SAMPLES = 8
"""Random inputs on which scales are chosen, however few are asked for to verify."""
_REFUSED = (
    "nothing is written, since the network breaks rules of the hardware; {remedy}"
    "--allow-violations writes it nonetheless"
)
_PARTITION = "--partition gives what does not fit to the host, "


def convert_imported(
    imported: Imported,
    source: Path,
    output: Path | None,
    options: Options,
    plugins: Plugins,
    *,
    opened: OpenSource | None = None,
    calibrating: Calibrating | None = None,
) -> Conversion:
    """Takes an imported network to an ACCESS file.

    Args:
        imported: what a frontend returned; its model is used up.
        source: the file it came from, for messages and the report.
        output: where to put the file (and ``<stem>.json`` beside it); None writes nothing.
        options: see `Options`.
        plugins: source of further passes and rules.
        opened: how the file was read, for the report and the files; nothing is known if None.
        calibrating: the calibration data, if the frontend has seen them.

    Raises:
        ConversionError: if the network cannot be converted or breaks a rule; nothing is written.
        InternalError: if an invariant of ours breaks.
    """
    calibrating = calibrating or Calibrating(options)
    return _Driver(imported, source, output, options, plugins, opened, calibrating).run()


@dataclass
class _Driver:
    imported: Imported
    source: Path
    output: Path | None
    options: Options
    plugins: Plugins
    opened: OpenSource | None
    calibrating: Calibrating
    timings: dict[str, float] = field(default_factory=dict)
    read_files: list[Path] = field(init=False)
    digest: Digest = field(init=False)
    context: Context = field(init=False)
    pixels: dict[str, Pixels] = field(init=False)
    calibration: Samples | None = field(init=False)
    page: HtmlReport | None = field(init=False)
    reference: dict[str, Any] | None = None

    def run(self) -> Conversion:
        from dlaconv.files import require_conversion_output, staging
        from dlaconv.ir import provenance
        from dlaconv.ir.pixel_graphs import let_take_pixels

        known = self.opened.further if self.opened else ()
        self.read_files = [self.source, *known, *provenance.weight_files(self.imported.model)]
        if self.output is not None:
            require_conversion_output(self.output, self.read_files, self.options.emit)
        require_further(self.imported.files, self.read_files, self.output, self.options)
        if self.imported.diagnostics.errors:
            raise ConversionError(self.imported.diagnostics)
        if self.options.verify_with is not None and self.opened is not None:
            self.opened.reference(self.options.verify_with)
        self.page = page_of(self.options, self.read_files, self.output)
        self.digest = Digest(self.read_files)
        before = states(self.read_files)
        target = load_target(self.options.target, unsigned_maps=self.options.unsigned_maps)
        self.pixels = folded_pixels(self.options, self.imported.model)
        self.context = self._context(target)
        reference = self.imported.model.clone() if self.options.verify else None
        if reference is not None and self.pixels:
            let_take_pixels(reference, self.pixels)
        if self.options.verify_with is not None and self.opened is not None:
            self._timed("reference", self._compare_with_reference)
        pipeline, network = self._legal()
        files = part_files(self.output or self.source, [part.side for part in network.parts])
        if self.output is not None and network.whole is not None:
            for file in files:
                require_conversion_output(file, self.read_files, self.options.emit)
        inputs = self._inputs(network)
        feeds = Feeds(network, inputs) if inputs is not None else None
        parts = [
            self._scaled(pipeline, network, part, feeds, file.name)
            for part, file in zip(network.parts, files, strict=True)
            if part in network.accelerator
        ]
        self._note(pipeline)
        require_overridden(self.context)
        place = staging(self.output.parent) if self.output is not None else nullcontext()
        further = self.imported.files if self.output is not None else {}
        with further_files(further), place as folder:
            self._timed("write", lambda: self._write(parts, folder))
            self._timed("check", lambda: self._check(parts))
            if reference is not None:
                self._timed("verify", lambda: self._verify(network, parts, reference, inputs))
            for part in parts:
                self.context.diagnostics.extend(remarks(part.network, self.options))
            report = self._report(network, parts, files)
            if folder is not None:
                self._write_beside(network, parts, files, report, folder)
            if self.page is not None:
                self.page.write(report, parts)
            require_unchanged(before)
        return Conversion(
            parts[0].access,
            self.context.diagnostics,
            report,
            self.output,
            self._emitted(self.output),
            files if self.output is not None and network.whole is not None else [],
        )

    def _timed(self, name: str, action: Any) -> Any:
        start = time.perf_counter()
        result = action()
        self.timings[name] = round(time.perf_counter() - start, 4)
        return result

    def _note(self, pipeline: Pipeline) -> None:
        self.timings |= {name: round(seconds, 4) for name, seconds in pipeline.timings.items()}

    def _context(self, target: Target) -> Context:
        from dlaconv.ir.pipeline import Context
        from dlaconv.ir.rounding import Rounding

        options = self.options
        overrides = overrides_for(self.imported.model, options)
        calibration = self._calibration()
        return Context(
            target=target,
            calibration=calibration,
            ranges=options.ranges,
            overrides=overrides,
            store=self.calibrating.store,
            optimise=options.optimise,
            diagnostics=Diagnostics(self.imported.diagnostics),
            shapes=options.shapes,
            policy=options.policy,
            fixed_point=self.imported.fixed_point,
            io=options.io,
            convention=options.convention,
            rounding=Rounding(options.rounding),
            legalise=options.legalise,
            pad_outputs=options.pad_outputs,
            seed=options.seed,
            samples=max(options.samples or 0, _TRIED_SAMPLES),
            inputs=self._random_pixels() if calibration is None else None,
        )

    def _random_pixels(self) -> Dataset | None:
        """Pictures to try the network on where there are no others."""
        from dlaconv.driver.reading import input_shapes

        options, model = self.options, self.imported.model
        count = max(options.samples or 0, _TRIED_SAMPLES)
        return random_pixels(self.pixels, input_shapes(model, options.shapes), options, count)

    def _calibration(self) -> Dataset | None:
        self.calibration = self.calibrating.samples(self.imported.model, self.pixels)
        if self.calibration is None:
            return None
        found = [*self.calibration.diagnostics]
        found += unfolded(self.calibration.data, self.options, self.imported.model)
        self.imported.diagnostics.extend(found)
        return self.calibration.data

    def _compare_with_reference(self) -> None:
        from dlaconv.driver.reference_run import compare_with_reference

        assert self.opened is not None
        data = None if self.pixels else self.context.calibration  # pixels are not the source's
        self.reference = compare_with_reference(
            self.imported.model, self.opened, self.options, self.context, data
        )

    def _legal(self) -> tuple[Pipeline, CutNetwork]:
        """Rewrites the network for the hardware, and cuts it if it must be."""
        from dlaconv.ir.macs import total_macs
        from dlaconv.ir.passes import CANONICAL
        from dlaconv.ir.passes.fold_preprocess import fold_preprocess
        from dlaconv.ir.passes.legal import REWRITES
        from dlaconv.ir.passes.unmasked_elements import unmasked_elements
        from dlaconv.ir.pipeline import Pipeline
        from dlaconv.ir.stages import Stage

        model, options = self.imported.model, self.options
        passes = self.plugins.passes
        canonical = [*CANONICAL, *passes(Stage.CANONICAL)]
        if self.pixels:  # behind all that folds constants into the first layers
            canonical.append(fold_preprocess(self.pixels))
        pipeline = Pipeline([(Stage.CANONICAL, canonical)], self.options.dump_stages)
        pipeline.run(model, self.context)
        source_macs = total_macs(model.graph)
        first = [] if options.partition else [unmasked_elements]
        legal = pipeline.then([(Stage.LEGAL, [*first, *REWRITES, *passes(Stage.LEGAL)])])
        legal.run(model, self.context, Stage.CANONICAL)
        network = cut_network(
            model,
            self.context,
            options.partition,
            source_macs,
            violating=options.allow_violations,
        )
        require_accelerator(network, self.pixels)
        return legal, network

    def _inputs(self, network: CutNetwork) -> Dataset | None:
        """Samples for the inputs of a network that is cut: the calibration data, or random ones."""
        from dlaconv.ir.calibration.samples import random_inputs

        if network.whole is None:
            return None
        context = self.context
        known = context.calibration or context.inputs
        return known or random_inputs(network.whole, context.samples, context.seed)

    def _scaled(
        self,
        pipeline: Pipeline,
        network: CutNetwork,
        part: Part,
        feeds: Feeds | None,
        name: str,
    ) -> AcceleratorPart:
        """Takes one part from LEGAL to SCALED."""
        from dlaconv.driver.map_sources import reshaped_seams
        from dlaconv.ir.passes.legal import PADDING
        from dlaconv.ir.passes.maps import MAPS
        from dlaconv.ir.pipeline import with_extra
        from dlaconv.ir.scales import SCALED
        from dlaconv.ir.stages import Stage

        context = replace(self.context)  # lists of findings are shared, samples are the part's own
        if network.whole is not None:
            named = context.originals
            origins = reshaped_seams(network.whole, network.seams(part))
            named |= {name: named.get(origin, origin) for name, origin in origins.items()}
        if feeds is not None:
            fed = feeds.of(part)
            context.inputs = fed
            context.calibration = fed if self.context.calibration is not None else None
        stages = [(Stage.MAPPED, MAPS), (Stage.SCALED, SCALED)]
        own = [(Stage.LEGAL, PADDING), *with_extra(stages, self.plugins.passes)]
        folder = Path(name).stem if network.whole is not None else ""
        pipeline.then(own, folder).run(part.model, context, Stage.LEGAL)
        if network.whole is None:
            self.context.inputs = context.inputs
        record = self.opened.record if self.opened else ""
        return AcceleratorPart(
            part.model, context, self.options, self.source, name, record, self.pixels
        )

    def _write(self, parts: list[AcceleratorPart], folder: Path | None) -> None:
        for part in parts:
            part.write(folder)

    def _check(self, parts: list[AcceleratorPart]) -> None:
        from dlaconv.backends.access.rules import check_view

        for part in parts:
            part.checked = check_view(part.view, self.plugins.rules())
            self.context.diagnostics.extend(part.checked.diagnostics)
        broken = any(part.checked.diagnostics.errors for part in parts)
        if broken and not self.options.allow_violations:
            remedy = "" if self.options.partition else _PARTITION
            raise ConversionError(self.context.diagnostics, _REFUSED.format(remedy=remedy))

    def _verify(
        self,
        network: CutNetwork,
        parts: list[AcceleratorPart],
        reference: ir.Model,
        inputs: Dataset | None,
    ) -> None:
        from dlaconv.driver.map_sources import seam_sources
        from dlaconv.driver.reading import take_shapes
        from dlaconv.ir.pixel_graphs import let_take_fed
        from dlaconv.ir.pixels import Shown

        described = "calibration data" if self.context.calibration is not None else "random inputs"
        inputs = inputs or self.context.inputs
        assert inputs is not None
        take_shapes(reference, self.options.shapes, self.context.target)
        samples: Dataset = inputs.first(self.options.compared_samples(network.source_macs))
        whole = network.whole
        if self.pixels:
            samples = Shown(samples, self.pixels)
            if whole is not None:
                whole = whole.clone()
                let_take_fed(whole, self.pixels)
        for part in parts:
            given = {i.name: i.shape for i in part.network.inputs if i.name not in samples.names}
            seams = seam_sources(given, reference, part.maps)
            known = reference if given.keys() <= seams.keys() or whole is None else whole
            observe = self.page.observer(part) if self.page is not None else None
            found = part.verify(known, samples, described, observe)
            self.context.diagnostics.extend(found.diagnostics())

    def _report(
        self, network: CutNetwork, parts: list[AcceleratorPart], files: list[Path]
    ) -> dict[str, Any]:
        from dlaconv.driver.report import Origin, build_report

        origin = Origin(
            self.digest.result(),
            self.opened,
            self.imported.notes,
            self.output,
            self._emitted(self.output),
            tuple(self.imported.files) if self.output is not None else (),
            self.reference,
        )
        return build_report(
            origin,
            self.options,
            network,
            parts,
            files,
            self.context,
            self.timings,
            None if self.calibration is None else self.calibration.as_json(),
        )

    def _write_beside(
        self,
        network: CutNetwork,
        parts: list[AcceleratorPart],
        files: list[Path],
        report: Mapping[str, Any],
        folder: Path,
    ) -> None:
        """Writes the host's parts, the models that were asked for besides, and the report."""
        from dlaconv.driver.host import write_host_part
        from dlaconv.driver.report import report_text
        from dlaconv.files import report_of

        for part in parts:
            kinds = self._emitted(folder / part.name)
            part.emit(folder, {kind: path.name for kind, path in kinds.items()})
        for cut, file in zip(network.parts, files, strict=True):
            if cut not in network.accelerator:
                write_host_part(cut.model, folder / file.name, self.source.name)
        assert self.output is not None
        report_of(folder / self.output.name).write_text(report_text(report), "utf-8")

    def _emitted(self, output: Path | None) -> dict[str, Path]:
        """Where further models of an accelerator part are put, by kind."""
        if output is None:
            return {}
        return {kind: emitted_at(output, kind) for kind in EMITTED if kind in self.options.emit}
