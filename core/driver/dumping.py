"""Every map of a network on given inputs, as arrays: of converted files and of sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.driver.chain import read_chain
from dlaconv.driver.reading import load_target
from dlaconv.driver.sources import Source, open_source
from dlaconv.driver.subjects import Kind, kind_of

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.driver.running import ChainRunner, HardwareRunner, ModelRunner
    from dlaconv.options import Hardware
    from dlaconv.plugins import Plugins
    from dlaconv.preprocessing import Preprocessing


@dataclass(frozen=True)
class Dumped:
    """What was written.

    Attributes:
        file: the network.
        kind: ``source``, ``converted``, or ``chain`` for all parts of a network that was cut.
        output: the ``.npz``.
        maps: shape, type and range of each array, as JSON values.
    """

    file: Path
    kind: str
    output: Path
    maps: Mapping[str, Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; see ``schemas/dump.schema.json``."""
        from dlaconv import __version__

        return {
            "dlaconv": __version__,
            "file": str(self.file),
            "kind": self.kind,
            "output": str(self.output),
            "maps": dict(self.maps),
        }


def dump_file(
    given: Source,
    inputs: Mapping[str, np.ndarray] | Path,
    output: Path,
    hardware: Hardware,
    images: Preprocessing,
    *,
    as_float: bool,
    plugins: Plugins,
) -> Dumped:
    """Writes every map of a network; see `dlaconv.dump`."""
    from dlaconv.driver.running import ChainRunner, HardwareRunner, ModelRunner, computed_values
    from dlaconv.driver.samples import given_samples
    from dlaconv.npz_writer import npz_writer

    kind, path = kind_of(given, load_target(hardware.target), plugins), given.path
    runner: HardwareRunner | ChainRunner | ModelRunner
    names: dict[str, str] = {}
    if kind is Kind.CHAIN:
        runner = ChainRunner(read_chain(path), path, hardware, fetch="all", as_float=as_float)
    elif kind is Kind.CONVERTED:
        runner = converted = HardwareRunner(path, hardware, fetch="all", as_float=as_float)
        names = _source_names(converted) if as_float else {}
    else:
        model = open_source(given, plugins).read().model
        runner = ModelRunner(model, path, computed_values(model))
    facts = [] if isinstance(runner, ModelRunner) else runner.all_facts
    samples = given_samples(inputs, runner.shapes, images, facts, path)
    with npz_writer(output) as writer:
        for feeds in samples:
            found = runner.run(feeds)
            writer.add({names.get(name, name): array for name, array in found.items()})
    return Dumped(path, str(kind), output, writer.arrays)


def _source_names(runner: HardwareRunner) -> dict[str, str]:
    """What the source calls the maps that are called otherwise, where that is no other map."""
    from dlaconv.driver.map_sources import DERIVED_MARK

    maps = runner.network.maps | dict(runner.network.outputs)
    names = {name: str(runner.facts.get(name, {}).get("tensor", name)) for name in maps}
    names = {name: wanted.removesuffix(DERIVED_MARK) for name, wanted in names.items()}
    return {name: wanted for name, wanted in names.items() if wanted not in maps}
