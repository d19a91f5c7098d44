"""GR-2: static shapes and a batch of one."""

from __future__ import annotations

from collections.abc import Iterator

from dlaconv.backends.access.model import AccessModel, Shape
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.backends.access.rules.wording import by
from dlaconv.diagnostics import Diagnostic


class DynamicShape(Rule):
    """A shape is not static, or the batch is not 1.

    What it does: Checks that every graph input has a fully static shape with a batch of 1, and that
    the shape of every computed map follows from them. Only the first unknown map of a chain is
    reported.

    Why it matters on the hardware: The compiler plans buffers and tiles for one image of one size;
    nothing can be resized when the accelerator runs.

    What to do: Fix the shape at conversion with --set-shape NAME=1,C,H,W.
    """

    id = "GR-2"
    name = "dynamic-shape"
    clause = "Silent; a compiled CNN accelerator needs static shapes, and is run image by image."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields one finding per graph input and per map where knowledge ends."""
        for value in model.inputs:
            shape = model.shape(value)
            if not _static(shape):
                words = "an unknown rank" if shape is None else f"shape {by(shape)}"
                yield self.finding(
                    model.location(value),
                    f"graph input {value.name!r} has {words}, not a static shape",
                )
            if shape and shape[0] not in {1, None}:
                yield self.finding(
                    model.location(value),
                    f"graph input {value.name!r} has a batch of {shape[0]}, not 1",
                )
        for value, node in model.produced_maps:
            if _static(model.shape(value)):
                continue
            if all(_static(model.shape(source)) for source in model.map_inputs(node)):
                yield self.finding(
                    model.location(value),
                    f"the shape of {value.name!r} is neither stated nor follows from the inputs",
                    help="add the shape to the file, or check the operator's attributes",
                )


def _static(shape: Shape | None) -> bool:
    return shape is not None and None not in shape
