"""Comparing the hardware's integers with the source, map by map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location, Severity
from dlaconv.driver.facts import (
    Facts,
    channel_ratios,
    clip_of,
    gain_error,
    quantise_inputs,
    rounding_error,
)
from dlaconv.errors import ConversionError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from dlaconv.driver.map_sources import MapSource
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.compare import Comparison, MapRow
    from dlaconv.ir.layers import Network
    from dlaconv.options import Hardware

Observer = Callable[[str, "np.ndarray", "np.ndarray", "np.ndarray"], None]
"""Takes one sample of a map: its name, the source's values, what the network stores (accumulated)
and what its layer stores when it is fed with the source's values (local), all in units."""

_WORTH_A_WARNING = 1e-3
"""Share of a map's values."""
_UNEVEN = 2
"""Units of the source by which the ends of its range differ if it has a zero point; one without has
an integer more below zero."""


@dataclass
class Verification:
    """What a comparison found.

    Attributes:
        rows: one per map that the source has too, in execution order.
        outputs: names of the graph outputs among them.
        samples: number of inputs that were compared.
        rounding: how the hardware was taken to round.
        inputs: where the inputs came from, in words.
        unmatched: maps of the hardware that the source has no value for.
        source_options: the options with which the source was read, as text.
    """

    rows: list[MapRow]
    outputs: tuple[str, ...]
    samples: int
    rounding: str
    inputs: str
    unmatched: tuple[str, ...] = ()
    source_options: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True if no layer, fed with the source's values, is off by more than roundings explain."""
        return all(row.explained for row in self.rows if row.about.fidelity != "derived")

    def diagnostics(self) -> Diagnostics:
        """What a user must know: maps that are off locally, and clipped values."""
        found = Diagnostics()
        for row in self.rows:
            place = Location(layer=row.about.layer)
            local = row.local
            if row.about.fidelity != "derived" and not row.explained:
                found.warning(
                    "DLA901",
                    "local-difference",
                    f"map {row.about.name!r} is off by up to {local.largest:.3g} units when its "
                    f"layer is fed with the source's values; roundings explain "
                    f"{row.about.tolerance:.3g}",
                    location=place,
                    help="look the layer up under 'tensors' and 'rewrites' in the report: weights "
                    "that were quantised anew or a rounding that was dropped explain it; if "
                    "nothing does, report it as a bug",
                    notes=("more than that is an error of the conversion, not of the format",),
                )
            lost = local.beyond / max(local.count, 1)
            if lost > _WORTH_A_WARNING:
                found.warning(
                    "DLA904",
                    "lost-clip",
                    f"the source clips {lost:.2%} of the values of map {row.about.name!r}; the "
                    "hardware's range is wider, so it does not",
                    location=place,
                    help=_clip_help(row.about, output=row.about.name in self.outputs),
                )
            share = local.clipped / max(local.count, 1)
            if share > _WORTH_A_WARNING:
                found.add(
                    Diagnostic(
                        "DLA902",
                        "clipped-values",
                        f"the hardware saturates {share:.2%} of the values of map "
                        f"{row.about.name!r}, which the source does not",
                        Severity.WARNING,
                        place,
                        help="give representative inputs with --calibrate, or --scale-policy ceil",
                    )
                )
        return found

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; see ``schemas/verify.schema.json``."""
        from dlaconv.ir.compare import argmax_json

        by_name = {row.about.name: row for row in self.rows}
        return {
            "passed": self.passed,
            "samples": self.samples,
            "inputs": self.inputs,
            "rounding": self.rounding,
            "outputs": {
                name: by_name[name].accumulated.as_json()
                for name in self.outputs
                if name in by_name
            },
            "argmax": argmax_json(self.rows, self.outputs),
            "maps": [row.as_json() for row in self.rows],
            "unmatched": list(self.unmatched),
            "source_options": self.source_options,
        }


def _clip_help(about: Comparison, *, output: bool) -> str:
    """What keeps a clip of the source that the hardware's range does not make."""
    low, high = (end / about.source_step for end in about.clip or (0.0, 0.0))
    if low < 0 < high and abs(low + high) > _UNEVEN:
        return (
            "quantise without a zero point in the source: the hardware's integers reach as far "
            "below zero as above"
        )
    if output and about.fidelity == "rescaled":
        return "--io absorb keeps the source's integers, and its clip with them"
    return "quantise so that the source uses all 8 bits"


def verify_network(
    reference: ir.Model,
    network: Network,
    facts: Facts,
    inputs: Dataset,
    hardware: Hardware,
    *,
    described: str = "",
    fed: Mapping[str, np.ndarray] | None = None,
    observe: Observer | None = None,
) -> Verification:
    """Runs source and hardware on the same inputs and compares every map.

    Args:
        reference: the source at stage IMPORTED; its values are the reference.
        network: the hardware's layers.
        facts: real step and class of each map.
        inputs: samples of the source's graph inputs. Inputs of the network that the
            source computes itself are fed with its values.
        hardware: how it is simulated.
        described: where the inputs came from, in words.
        fed: what inputs that the source computes itself are fed with instead, stacked real values.
        observe: called for each sample of each map.
    """
    import numpy as np

    from dlaconv.backends.access.simulator import LocalSimulator, Simulator
    from dlaconv.driver.float_noise import before_signs, settle_signs
    from dlaconv.driver.map_sources import (
        find_source,
        moved_values,
        seam_sources,
        unquantised_inputs,
        value_names,
        with_moved_errors,
    )
    from dlaconv.ir.compare import Comparison, MapRow, in_units, summed_errors
    from dlaconv.ir.rounding import Rounding

    mode, order = Rounding(hardware.rounding), hardware.order
    known = value_names(reference)
    rows: dict[str, MapRow] = {}
    sources: dict[str, MapSource] = {}
    ratios: dict[str, np.ndarray] = {}
    makers = {layer.output.name: layer for layer in network.layers}
    errors_of: dict[str, Mapping[str, Any]] = {}
    for name, stored in network.maps.items():
        fact = with_moved_errors(facts.get(name, {}), makers.get(name), rows, errors_of)
        errors_of[name] = fact
        source = find_source(name, fact, stored.shape, known)
        if source is None or "real_step" not in fact:
            continue
        errors = fact.get("step_errors")
        about = Comparison(
            name,
            str(fact.get("layer", "")),
            str(fact.get("class", "")),
            float(fact["real_step"]),
            stored.qmin,
            stored.qmax,
            None if errors is None else source.layout.own_of(np.asarray(errors, np.float64), 0),
            clip_of(fact),
            float(fact.get("source_step", fact["real_step"])) / float(fact["real_step"]),
            bool(fact.get("requantised")),
            (rounding_error(mode), rounding_error(fact.get("rounding"))),
            float(fact.get("bias_error", 0.0)),
            gain_error(fact, facts, network),
        )
        rows[name] = MapRow(about)
        ratios[name] = source.layout.own_of(channel_ratios(fact, stored.shape), 1)
        sources[name] = source
    raw = unquantised_inputs(network, facts, known)
    local = LocalSimulator(network, rounding=mode, activation_order=order)
    accumulated: Simulator | None = None
    fetched = {source.name for source in (*sources.values(), *raw.values())}
    before = before_signs(reference, fetched)
    signed = {n: replace(s, name=before[s.name]) for n, s in sources.items() if s.name in before}
    fetched |= set(before.values())
    handed_on = dict(fed or {})
    seams = seam_sources({s.name: s.shape for s in network.inputs}, reference, facts)
    fetched |= {source.name for source in seams.values()}
    count = 0
    for feeds, real in _source_values(reference, fetched, inputs):
        count += 1
        _require_comparable(network, facts, {**sources, **raw}, real)
        wanted = {
            name: in_units(sources[name].of(real), row.about.real_step, ratios[name])
            for name, row in rows.items()
        }
        units = {
            name: in_units(source.of(real), facts[name]["real_step"])
            for name, source in raw.items()
        }
        unsigned = {name: source.of(real) for name, source in signed.items()}
        handed = {name: array[count - 1 : count] for name, array in handed_on.items()}
        made = {name: source.of(real) for name, source in seams.items()}
        real.clear()
        alone = quantise_inputs(network, {**handed, **feeds, **made}, facts, mode)
        integers = alone
        if handed:
            integers = quantise_inputs(network, {**feeds, **made, **handed}, facts, mode)
        accumulated = accumulated or Simulator(
            network,
            rounding=mode,
            activation_order=order,
            fetch=list(rows),
            optimise=False,  # takes longer than it saves on a few samples
        )
        got = accumulated.run(integers)
        spread = {name: sources[name].layout.spread(array) for name, array in wanted.items()}
        spread |= {name: raw[name].layout.spread(array) for name, array in units.items()}
        given = alone | spread | moved_values(network, spread)
        near = got if _equal(given, integers | got) else got | local.run(given)
        for name, row in rows.items():
            own, beside = (sources[name].layout.select(maps[name]) for maps in (got, near))
            settled = settle_signs(wanted[name], beside, unsigned.get(name))
            row.add(settled, own, beside)
            if observe is not None:
                observe(name, settled, own, beside)
            gains: Mapping[str, float] = facts[name].get("gain_errors", {})
            if gains and wanted.keys() >= gains.keys():
                row.predict(summed_errors([(wanted[x], error) for x, error in gains.items()]))
    return Verification(
        list(rows.values()),
        tuple(name for name, _ in network.outputs),
        count,
        hardware.rounding,
        described,
        tuple(name for name in network.maps if name not in rows),
    )


def _source_values(
    reference: ir.Model, names: set[str], inputs: Dataset
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Inputs and named values of the source for each sample.

    The source's session is gone when its last values are used: its weights take memory.
    """
    from dlaconv.ir.execution import Executor

    wanted = sorted(names - {value.name for value in reference.graph.inputs})
    executor = Executor(reference, wanted, compact=True)
    last = len(inputs) - 1
    for index, feeds in enumerate(inputs):
        real = executor.run(feeds) | feeds
        if index == last:
            del executor
        yield feeds, real


def _equal(given: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> bool:
    """True if the hardware holds the given values, so that a layer fed with them does nothing new.

    What is given and not got is made of what is.
    """
    import numpy as np

    return all(np.array_equal(got[name], given[name]) for name in given.keys() & got.keys())


def _require_comparable(
    network: Network,
    facts: Facts,
    sources: Mapping[str, MapSource],
    real: Mapping[str, np.ndarray],
) -> None:
    """Refuses values of the source that are infinite or none, or of another shape than their map.

    A file says itself which map is which, so its maps may be those of another network.
    """
    import numpy as np

    misfits, infinite = Diagnostics(), Diagnostics()
    for name, source in sources.items():
        array, shape = source.of(real), source.shape_within(network.maps[name].shape)
        place = Location(layer=str(facts[name].get("layer", "")))
        if array.shape != shape:
            misfits.error(
                "DLA903",
                "unrelated-files",
                f"map {name!r} has shape {list(shape)}, {list(array.shape)} in the source",
                location=place,
                help="give the file that this one was converted from",
            )
        elif not np.isfinite(array).all():
            infinite.error(
                "DLA906",
                "infinite-values",
                f"the source's values of map {name!r} are not finite on these inputs",
                location=place,
                help="look for weights or scales that are far too large, or compare on real inputs",
            )
    if misfits.errors:
        raise UsageError(misfits)
    if infinite.errors:
        raise ConversionError(infinite)
