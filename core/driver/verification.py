"""Comparing the hardware's integers with the source, map by map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location, Severity
from dlaconv.driver.pixels import pixels_in
from dlaconv.errors import ConversionError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from dlaconv.driver.map_sources import MapSource
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.compare import MapRow
    from dlaconv.ir.layers import Map, Network
    from dlaconv.ir.rounding import Rounding
    from dlaconv.options import Hardware

Facts = Mapping[str, Mapping[str, Any]]
"""What is known of each map by name, see `dlaconv.ir.scales.facts.map_facts`."""

Observer = Callable[[str, "np.ndarray", "np.ndarray", "np.ndarray"], None]
"""Takes one sample of a map: its name, the source's values, what the network stores (accumulated)
and what its layer stores when it is fed with the source's values (local), all in units."""

_WORTH_A_WARNING = 1e-3
"""Share of a map's values."""


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
                pinned = row.about.fidelity == "rescaled" and row.about.name in self.outputs
                found.warning(
                    "DLA904",
                    "lost-clip",
                    f"the source clips {lost:.2%} of the values of map {row.about.name!r}; the "
                    "hardware's range is wider, so it does not",
                    location=place,
                    help="--io absorb keeps the source's integers, and its clip with them"
                    if pinned
                    else "quantise so that the source uses all 8 bits",
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
            _clip(fact),
            float(fact.get("source_step", fact["real_step"])) / float(fact["real_step"]),
            bool(fact.get("requantised")),
            (_rounding_error(mode), _rounding_error(fact.get("rounding"))),
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
    seams = seam_sources({stored.name: stored.shape for stored in network.inputs}, reference)
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


def quantise_inputs(
    network: Network, feeds: Mapping[str, np.ndarray], facts: Facts, rounding: Rounding
) -> dict[str, np.ndarray]:
    """The integers that the host feeds: ``round(x / real step)`` of floats, integers as given.

    Inputs that take pixels are given them, in any type. Floats are clipped where the source clips
    them, see `fed_range`. Where the source begins with a sign, the host takes it.
    """
    import numpy as np

    from dlaconv.ir.rounding import round_array

    found = {}
    pixels = pixels_in(facts)
    for stored in network.inputs:
        values = feeds[stored.name]
        if stored.name in pixels:
            values = pixels[stored.name].fed(stored.name, values)
        if values.dtype.kind == "f":
            step = real_step(facts, stored)
            low, high = fed_range(facts, stored)
            if facts.get(stored.name, {}).get("sign") is True:
                values = np.where(values >= 0, high, low)
            else:
                values = round_array(values.astype(np.float64) / step, rounding)
                values = np.clip(values, low, high)
        found[stored.name] = np.clip(values, stored.qmin, stored.qmax).astype(np.int64)
    return found


def fed_range(facts: Facts, stored: Map) -> tuple[int, int]:
    """Smallest and largest integer that the host feeds a graph input.

    The quantiser of the input is the host's, so its clip is too: an unsigned one has no negative
    integers, whatever the hardware can hold.
    """
    clip = _clip(facts.get(stored.name, {}))
    if clip is None:
        return stored.qmin, stored.qmax
    low, high = (round(end) for end in clip)
    return max(stored.qmin, min(low, stored.qmax)), min(stored.qmax, max(high, stored.qmin))


def real_step(facts: Facts, stored: Map) -> float:
    """Real value of one unit of a map; the hardware's step where nothing else is known."""
    return float(facts.get(stored.name, {}).get("real_step", stored.step))


def channel_ratios(fact: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """What the source's values of a map are multiplied by, to broadcast against the map.

    Ones unless the source has a step per channel there; what does not fit the shape is ignored.
    """
    import numpy as np

    given = fact.get("channel_ratios", {})
    axis, listed = given.get("axis"), given.get("ratios", [])
    if axis not in range(len(shape)) or shape[axis] != len(listed):
        return np.ones(())
    found: np.ndarray = np.array(listed, np.float64)
    return found.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def _clip(fact: Mapping[str, Any]) -> tuple[float, float] | None:
    clip = fact.get("clip")
    if clip is None:
        return None
    low, high = (float(end) / float(fact["real_step"]) for end in clip)
    return low, high


def gain_error(fact: Mapping[str, Any], facts: Facts, network: Network) -> float:
    """Units that a sum of maps may be off because its gains are, over the range of its operands."""
    total = 0.0
    for name, error in fact.get("gain_errors", {}).items():
        stored = network.maps.get(name)
        if stored is not None:
            ends = (stored.qmin, stored.qmax, *(_clip(facts.get(name, {})) or ()))
            total += abs(float(error)) * max(map(abs, ends))
    return total


def _rounding_error(mode: object) -> float:
    """Largest error of a rounding mode in steps; what is unknown rounds to nearest."""
    from dlaconv.ir.rounding import Rounding

    directed = [known for known in Rounding if not known.nearest]
    return 1.0 if mode in directed else 0.5
