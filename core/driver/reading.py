"""What the driver reads: targets, samples and ACCESS files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.errors import ConversionError, UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.backends.access.reader import AccessFile
    from dlaconv.ir.layers import Network
    from dlaconv.ir.target import Target


def load_target(path: str | Path | None, *, unsigned_maps: bool = False) -> Target:
    """Reads a target description.

    Raises:
        UsageError: if the file is no valid description.
    """
    from dlaconv.ir.target import Target

    try:
        target = Target.load(None if path is None else Path(path))
    except (OSError, ValueError) as error:
        raise UsageError(
            Diagnostic(
                "DLA410",
                "bad-target",
                f"not a target description: {error}",
                location=Location(file=str(path)),
                help="see schemas/target.schema.json",
            )
        ) from error
    return replace(target, signed_maps=False) if unsigned_maps else target


def take_shapes(model: ir.Model, shapes: Mapping[str, tuple[int, ...]], target: Target) -> None:
    """Gives graph inputs of a source the shapes with which it is converted."""
    from dlaconv.ir.passes.set_shapes import set_shapes
    from dlaconv.ir.pipeline import Context

    if shapes:
        set_shapes(model, Context(target, shapes=shapes))


def take_one_sample(model: ir.Model, target: Target) -> None:
    """Gives a source whose batch is fixed the hardware's, which is one."""
    from dlaconv.ir.graph import shape_of

    stated = {value.name or "": shape_of(value) for value in model.graph.inputs}
    fixed = {name: shape for name, shape in stated.items() if shape and shape[0] > 1}
    take_shapes(model, {name: (1, *shape[1:]) for name, shape in fixed.items()}, target)


def input_shapes(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int | None, ...] | None]:
    """Shapes of the graph inputs, batch first, with None for what is not known.

    Args:
        model: the network.
        shapes: shapes that the user gives.
    """
    wanted: dict[str, tuple[int | None, ...] | None] = {}
    for value in model.graph.inputs:
        known = shapes.get(value.name or "")
        sizes: tuple[int | None, ...] | None = known
        if known is None and value.shape is not None:
            sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
        wanted[value.name or ""] = sizes
    return wanted


def read_access_model(path: Path, target: Target) -> ir.Model:
    """Reads an ACCESS file with its private attributes."""
    from dlaconv.backends.access.standard_form import private_attributes
    from dlaconv.frontends.onnx.reader import read_onnx
    from dlaconv.ir.provenance import name_source

    model = read_onnx(path, private_attributes(target))
    name_source(model, str(path))
    return model


def read_network(path: Path, target: Target) -> tuple[Network, dict[str, dict[str, Any]]]:
    """Reads an ACCESS file as the hardware's layers, with what it says of its maps.

    Raises:
        UnreadableError: if the file cannot be parsed.
        ConversionError: if it is no network of the hardware, or its integers cannot be told.
    """
    from dlaconv.ir.layers import network_of

    file = readable_file(read_access_model(path, target), target, path)
    try:
        return network_of(file.model), file.maps
    except ValueError as error:
        raise ConversionError(
            Diagnostic(
                "DLA305",
                "not-runnable",
                f"the file is no network of this hardware: {error}",
                location=Location(file=str(path)),
                help=f"run 'dlaconv check {path.name}'",
            )
        ) from error


def readable_file(model: ir.Model, target: Target, path: Path) -> AccessFile:
    """Tells the integers of an ACCESS file, as read with its private attributes.

    Raises:
        ConversionError: if that is impossible, with everything that stands in the way.
    """
    from dlaconv.backends.access.readable import obstacles
    from dlaconv.backends.access.reader import read_access
    from dlaconv.ir.passes.infer_shapes import forget_shapes, propagate_shapes
    from dlaconv.ir.provenance import name_source

    name_source(model, str(path))
    model.graph.sort()
    problems = obstacles(model, target)
    try:
        file = read_access(model, target)
    except ConversionError as error:
        raise ConversionError([*problems, *error.diagnostics]) from None
    if problems:
        raise ConversionError(problems)
    forget_shapes(file.model)
    if contradictions := propagate_shapes(file.model):
        raise ConversionError(contradictions)
    return file
