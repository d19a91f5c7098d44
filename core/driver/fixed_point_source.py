"""Files of the accelerator as sources: their own integers, told by the attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostics, Location
from dlaconv.driver.reading import load_target, readable_file

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.backends.access.reader import AccessFile
    from dlaconv.frontends import Imported

Plain = Callable[["ir.Model"], "Imported"]
"""Takes a model in plain ONNX to stage IMPORTED."""
_OWN = ("dlaconv.maps", "dlaconv.scale_convention")
"""Metadata that describe the file, not the network."""
_HOST = ("pixels", "channel_ratios", "sign")
"""What a row of our map table says that a host does, besides multiplying."""


def read_back(path: Path, plain: Plain) -> Imported | None:
    """Reads a fixed-point file as a source, None if it is none.

    Scales make it one: then every map and weight is quantised as the file says. Files that only
    have bit depths (the guide's demo) are networks in floating point.

    Args:
        path: an ONNX file.
        plain: what becomes of a file without scales, once its attributes are gone.

    Raises:
        UnreadableError: if the file is no valid ONNX model.
        ConversionError: if its integers cannot be told.
    """
    from dlaconv.backends.access.standard_form import (
        FIELD_ATTRIBUTES,
        private_attributes,
        remove_attributes,
    )
    from dlaconv.frontends.onnx.reader import attributes_of, read_onnx

    target = load_target(None)
    names = private_attributes(target) | FIELD_ATTRIBUTES
    found = attributes_of(path) & names
    if not found:
        return None
    model = read_onnx(path, names)
    if any(name.endswith(("_scale", "_scales")) for name in found):
        return _network(readable_file(model, target, path), path)
    depths = _bit_depths(model, found)
    remove_attributes(model, names)
    imported = plain(model)
    imported.diagnostics.note(
        "DLA125",
        "bit-depths-only",
        f"operators say {', '.join(depths)}, but no scale: maps and weights are quantised here, "
        f"to {target.map_bits} bits",
        location=Location(file=str(path)),
        help="give representative inputs with --calibrate",
    )
    return imported


def _bit_depths(model: ir.Model, names: Iterable[str]) -> list[str]:
    """Names and values of attributes, each once."""
    known = set(names)
    return sorted(
        {
            f"{item.name}={item.value}"
            for node in model.graph.all_nodes()
            for item in node.attributes.values()
            if item.name in known
        }
    )


def _network(file: AccessFile, path: Path) -> Imported:
    from dlaconv.frontends import Imported
    from dlaconv.ir import provenance

    model, diagnostics = file.model, Diagnostics()
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    for key in _OWN:
        model.metadata_props.pop(key, None)
    provenance.mark_all(model, str(path))
    ends = [value.name or "" for value in (*model.graph.inputs, *model.graph.outputs)]
    rows = {name: file.maps[name] for name in ends if name in file.maps}
    if hidden := [name for name, row in rows.items() if _host_converts(row)]:
        diagnostics.warning(
            "DLA210",
            "hidden-ratio",
            f"the host converts {', '.join(map(repr, hidden))} as the file's metadata say; of that "
            "the new file knows nothing",
            location=Location(file=str(path)),
            help="convert the file's own source again, or let the host do as before",
        )
    notes = {
        "producer": producer,
        "scale convention": f"{file.convention}, {file.convention_source}",
    }
    return Imported(model, diagnostics, notes)


def _host_converts(row: Mapping[str, Any]) -> bool:
    """True if what the host feeds or gets is not worth the scale of the file."""
    step = 2.0 ** row["exponent"]
    plain = math.isclose(float(row.get("real_step", step)), step, rel_tol=1e-6)
    return not plain or any(row.get(key) for key in _HOST)
