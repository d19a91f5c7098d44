"""Reads overrides for single maps and layers (``--qconfig``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.errors import UnreadableError, UsageError, UserError
from dlaconv.files import require_file
from dlaconv.schema_check import violations
from dlaconv.yaml_tree import Tree, parse_yaml

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.ir.overrides import Entry, Overrides
    from dlaconv.ir.pipeline import Context
    from dlaconv.options import Options

_LARGEST = 1 << 18
"""Bytes of a file."""
_MOST = 100
"""Problems of a file that are listed."""


def overrides_for(model: ir.Model, options: Options) -> Overrides:
    """What the user wants for single maps and layers of a freshly imported network.

    Raises:
        UserError: as `read_overrides`, and naming all that the network or the data lack.
    """
    from dlaconv.ir.overrides import Overrides, source_layers

    if options.qconfig is None:
        return Overrides()
    found = read_overrides(Path(options.qconfig))
    found.source = source_layers(model)
    problems = found.unmatched()
    if options.calibrate is None:
        problems += found.unmeasured()
    if problems:
        raise UsageError(problems)
    return found


def require_overridden(context: Context) -> None:
    """Sees to it that every override did what it says, once all scales are assigned.

    Raises:
        UsageError: naming those that did not.
    """
    context.diagnostics.extend(context.overrides.outcome())
    if context.overrides.entries and context.diagnostics.errors:
        raise UsageError(context.diagnostics)


def read_overrides(path: Path) -> Overrides:
    """Reads and checks a file of overrides.

    Raises:
        UnreadableError: if there is no such file, or it is no plain YAML of a reasonable size.
        UsageError: if it says what cannot be meant. Both name all problems.
    """
    from dlaconv.ir.overrides import Overrides

    problems: dict[Diagnostic, None] = {}

    def unreadable(line: int, message: str) -> None:
        place = Location(str(path), line)
        help_ = "docs/calibration.md shows what such a file looks like"
        found = Diagnostic("DLA340", "qconfig-file", message, location=place, help=help_)
        problems.setdefault(found)

    text = _text(require_file(path), unreadable)
    tree = None if text is None else parse_yaml(text, unreadable)
    kind: type[UserError] = UnreadableError if problems or tree is None else UsageError
    for item in violations(schema(), tree) if tree is not None else ():
        place = Location(str(path), item.line)
        found = Diagnostic("DLA341", "qconfig-entry", item.message, location=place, help=item.help)
        problems.setdefault(found)
    if problems or tree is None:
        raise kind(list(problems)[:_MOST])
    return Overrides(str(path), [_entry(item) for item in tree.value["nodes"].value])


def schema() -> Mapping[str, Any]:
    """The JSON schema of these files."""
    from importlib.resources import files

    text = files("dlaconv.schemas").joinpath("qconfig.schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _text(path: Path, unreadable: Any) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        unreadable(0, f"it cannot be read: {error.strerror}")
        return None
    if len(data) > _LARGEST:
        unreadable(0, f"it has more than {_LARGEST:,} bytes")
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        unreadable(data.count(b"\n", 0, error.start) + 1, "it is not text in UTF-8")
        return None


def _entry(tree: Tree) -> Entry:
    from dlaconv.ir.overrides import Entry, MapRange, WeightRange

    values = tree.plain()
    output = weights = None
    if asked := values.get("output"):
        bits = asked.get("fraction_bits")
        output = MapRange(
            _said(asked),
            asked.get("ranges", ""),
            asked.get("percentile", 0) / 100,
            float(asked.get("threshold", 0)),
            float(asked.get("step", 0)) if bits is None else 2.0 ** -int(bits),
        )
    if asked := values.get("weights"):
        weights = WeightRange(_said(asked), asked.get("ranges", ""), int(asked.get("bits", 0)))
    return Entry(tree.line, values.get("match", ""), values.get("op", ""), output, weights)


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
