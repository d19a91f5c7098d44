"""One part of a network for the accelerator: scaled, written, proven, checked, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.driver.pixels import KEY
from dlaconv.driver.sources import RECORD
from dlaconv.errors import InternalError
from dlaconv.options import RANDOM, Options

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.backends.access.model import AccessModel
    from dlaconv.backends.access.rules import CheckResult
    from dlaconv.driver.verification import Observer, Verification
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.layers import Map, Network
    from dlaconv.ir.pipeline import Context
    from dlaconv.ir.pixels import Pixels


@dataclass
class AcceleratorPart:
    """A part of a network on its way to an ACCESS file.

    Attributes:
        scaled: the part at stage SCALED.
        context: what passes know and found.
        options: see `Options`.
        source: the file that the network came from.
        name: name of the file to write.
        record: how the source was read, for the commands that read it again.
        pixels: graph inputs that take pixels.
        network: the layers.
        maps: real step and class of each map.
        access: the ACCESS model.
        view: the written file.
        checked: what the rules found.
        verification: the comparison with the source, None if there was none.
    """

    scaled: ir.Model
    context: Context
    options: Options
    source: Path
    name: str
    record: str
    network: Network = field(init=False)
    maps: dict[str, dict[str, Any]] = field(init=False)
    access: ir.Model = field(init=False)
    view: AccessModel = field(init=False)
    checked: CheckResult = field(init=False)
    pixels: Mapping[str, Pixels] = field(default_factory=dict)
    verification: Verification | None = None

    def __post_init__(self) -> None:
        from dlaconv import __version__
        from dlaconv.backends.access.writer import write_access
        from dlaconv.ir.layers import network_of
        from dlaconv.ir.scales.facts import map_facts

        target = self.context.target
        self.network = network_of(self.scaled)
        self.maps = map_facts(self.scaled, self.network, self.context)
        for stored in self.network.inputs:
            if stored.name in self.pixels:
                self.maps[stored.name][KEY] = self._pixels(stored).as_json()
        metadata = {
            "dlaconv.version": __version__,
            "dlaconv.source": self.source.name,
            "dlaconv.target": f"{target.name} {target.version}",
        }
        if self.record:
            metadata[RECORD] = self.record
        if self.options.calibrate == RANDOM:
            metadata["dlaconv.calibration"] = RANDOM
        self.access = write_access(
            self.scaled,
            target,
            convention=self.context.convention,
            maps=self.maps,
            metadata=metadata,
        )

    def _pixels(self, stored: Map) -> Pixels:
        """What a graph input takes, which its map has to hold as it is."""
        how = self.pixels[stored.name]
        if stored.step != 1 or (stored.qmin, stored.qmax) != (how.low, how.high):
            raise InternalError(f"map {stored.name!r} does not hold pixels", pass_name="scales")
        return how

    def write(self, folder: Path | None) -> None:
        """Writes the file, and proves that what it holds is the network.

        The findings of later checks are told in terms of the source's layers.

        Args:
            folder: where to write the file; without one the model itself is looked at.

        Raises:
            InternalError: if the file does not hold the network.
        """
        from dlaconv.backends.access.model import AccessModel
        from dlaconv.backends.access.reader import read_view
        from dlaconv.backends.access.roundtrip import difference
        from dlaconv.driver.reading import read_access_model
        from dlaconv.files import weights_of
        from dlaconv.ir import provenance
        from dlaconv.ir.layers import network_of
        from dlaconv.ir.saving import save

        target = self.context.target
        if folder is None:
            model = self.access.clone()
        else:
            file = folder / self.name
            save(self.access, file, weights_of(file))
            model = read_access_model(file, target)
        provenance.name_source(model, str(self.source))
        origins = {node.name: node for node in self.scaled.graph}
        for node in model.graph:
            provenance.inherit(node, origins[node.name])
        self.view = AccessModel(model, target, self.options.convention)
        found = difference(self.network, network_of(read_view(self.view).model))
        if found:
            raise InternalError(f"the written file does not read back: {found}")

    def verify(
        self,
        reference: ir.Model,
        inputs: Dataset,
        described: str,
        observe: Observer | None = None,
    ) -> Verification:
        """Compares every map with the source's.

        Args:
            reference: a model that has every map of the part, with its own graph inputs.
            inputs: samples for the reference.
            described: what they are, in words.
            observe: called for each sample of each map.
        """
        from dlaconv.driver.verification import verify_network

        self.verification = verify_network(
            reference,
            self.network,
            self.maps,
            inputs,
            self.options.hardware,
            described=described,
            observe=observe,
        )
        return self.verification

    def emit(self, folder: Path, kinds: Mapping[str, str]) -> None:
        """Writes further models of the part.

        Args:
            folder: where to write them.
            kinds: file names by kind.
        """
        from dlaconv.driver.emission import emitted
        from dlaconv.files import weights_of
        from dlaconv.ir.saving import save

        for kind, name in kinds.items():
            model = emitted(
                kind, self.view.model, self.network, self.maps, self.view.target, self.options
            )
            save(model, folder / name, weights_of(folder / name))
