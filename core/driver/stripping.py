"""Taking the private attributes out of an ACCESS file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.driver.reading import load_target
from dlaconv.errors import ConversionError
from dlaconv.files import require_output, staging, weights_of


@dataclass(frozen=True)
class Stripped:
    """A file without its private attributes.

    Attributes:
        file: the file that was read.
        output: the file that was written.
        removed: how many attributes of each name were taken away.
    """

    file: Path
    output: Path
    removed: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; see ``schemas/strip.schema.json``."""
        from dlaconv import __version__

        return {
            "dlaconv": __version__,
            "file": str(self.file),
            "output": str(self.output),
            "removed": dict(sorted(self.removed.items())),
        }


def strip_file(path: Path, output: Path, target: Path | None) -> Stripped:
    """Writes a file without its private attributes; see `dlaconv.strip`."""
    from dlaconv.backends.access.decoding import CONVENTION_KEY
    from dlaconv.backends.access.standard_form import (
        FIELD_ATTRIBUTES,
        checker_complaint,
        private_attributes,
        remove_attributes,
    )
    from dlaconv.frontends.onnx.reader import read_onnx
    from dlaconv.ir.provenance import weight_files
    from dlaconv.ir.saving import save

    description = load_target(target)
    for place in (output, weights_of(output)):
        require_output(place, [path, *([] if target is None else [target])])
    names = private_attributes(description) | FIELD_ATTRIBUTES
    model = read_onnx(path, names)
    for place in (output, weights_of(output)):
        require_output(place, weight_files(model))
    removed = remove_attributes(model, names)
    if not removed:
        raise ConversionError(
            Diagnostic(
                "DLA415",
                "no-private-attributes",
                "no operator of the file carries a scale, a bit depth or another attribute of "
                f"{description.name}",
                location=Location(file=str(path)),
                help="give a file that the compiler takes; this one is plain ONNX already",
            )
        )
    model.metadata_props.pop(CONVENTION_KEY, None)  # there are no scales left
    if complaint := checker_complaint(model, description):
        raise ConversionError(
            Diagnostic(
                "DLA416",
                "invalid-onnx-inside",
                f"without its private attributes the file is no valid ONNX either: {complaint}",
                location=Location(file=str(path)),
                help=f"`dlaconv check {path.name}` says more; nothing is written",
            )
        )
    with staging(output.parent) as folder:
        place = folder / output.name
        save(model, place, weights_of(place))
    return Stripped(path, output, removed)
