"""Parts of a network that the host runs: plain ONNX in floating point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def host_part(model: ir.Model, source: str) -> ir.Model:
    """A part in standard operators, which any onnxruntime runs; it takes and returns real values.

    Args:
        model: the part, at stage LEGAL; it is not changed.
        source: name of the file that the network came from, for the metadata.
    """
    from dlaconv import __version__
    from dlaconv.ir import dialect
    from dlaconv.ir.graph import drop_unread
    from dlaconv.ir.lowering import lowered

    plain = lowered(model)
    drop_unread(plain.graph)
    plain.functions.clear()
    if any(node.domain == dialect.DOMAIN for node in plain.graph):  # rounding modes that ONNX lacks
        dialect.install(plain)
    else:
        plain.graph.opset_imports.pop(dialect.DOMAIN, None)
    plain.metadata_props.clear()
    plain.metadata_props.update({"dlaconv.version": __version__, "dlaconv.source": source})
    return plain


def write_host_part(model: ir.Model, file: Path, source: str) -> None:
    """Writes a part for the host; see `host_part`."""
    from dlaconv.files import weights_of
    from dlaconv.ir.saving import save

    save(host_part(model, source), file, weights_of(file))
