"""What is in a network: layers, shapes, parameters, multiplications, quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.driver.chain import read_chain
from dlaconv.driver.reading import load_target, read_network
from dlaconv.driver.sources import Source, open_source
from dlaconv.driver.subjects import Kind, kind_of

if TYPE_CHECKING:
    from dlaconv.ir.target import Target
    from dlaconv.plugins import Plugins


@dataclass(frozen=True)
class Shown:
    """What a file holds.

    Attributes:
        file: the file.
        kind: ``source``, ``converted``, or ``chain`` for all parts of a network that was cut.
        parts: one for each model, as JSON values; see ``schemas/show.schema.json``.
    """

    file: Path
    kind: str
    parts: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; see ``schemas/show.schema.json``."""
        from dlaconv import __version__

        return {
            "dlaconv": __version__,
            "file": str(self.file),
            "kind": self.kind,
            "parts": self.parts,
            "total": {
                "layers": sum(len(part["layers"]) for part in self.parts),
                "parameters": sum(part["parameters"] for part in self.parts),
                "macs": sum(row["macs"] for part in self.parts for row in part["layers"]),
            },
        }


def show_file(
    given: Source,
    *,
    target: Path | None,
    plugins: Plugins,
) -> Shown:
    """Looks at a file; see `dlaconv.show`."""
    description = load_target(target)
    kind, path = kind_of(given, description, plugins), given.path
    if kind is Kind.CHAIN:
        parts = [
            _source(Source((link.file,), "onnx"), description, plugins, "host")
            if link.host
            else _converted(link.file, description)
            for link in read_chain(path).links
        ]
    elif kind is Kind.CONVERTED:
        parts = [_converted(path, description)]
    else:
        parts = [_source(given, description, plugins, "source")]
    return Shown(path, str(kind), parts)


def _converted(path: Path, target: Target) -> dict[str, Any]:
    from dlaconv.driver.layer_rows import hardware_rows

    network, facts = read_network(path, target)
    inputs, layers = hardware_rows(network, facts)
    parameters = sum(row["parameters"] for row in layers)
    return _part(path, "accelerator", inputs, layers, parameters)


def _source(
    source: Source,
    target: Target,
    plugins: Plugins,
    side: str,
) -> dict[str, Any]:
    from dlaconv.driver.layer_rows import source_rows
    from dlaconv.ir.passes.fold_constants import fold
    from dlaconv.ir.passes.infer_shapes import forget_shapes, propagate_shapes
    from dlaconv.ir.passes.set_shapes import set_shapes
    from dlaconv.ir.pipeline import Context

    model = open_source(source, plugins).read().model
    set_shapes(model, Context(target, shapes=source.shapes))
    forget_shapes(model)
    for _ in range(2):  # shapes that are computed are constants once others are known
        fold(model)
        propagate_shapes(model, strict=False)
    return _part(source.path, side, *source_rows(model))


def _part(
    path: Path,
    side: str,
    inputs: list[dict[str, Any]],
    layers: list[dict[str, Any]],
    parameters: int,
) -> dict[str, Any]:
    return {
        "file": path.name,
        "side": side,
        "inputs": inputs,
        "layers": layers,
        "parameters": parameters,
    }
