"""SC-6: one scale per tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.diagnostics import Diagnostic


class ScaleMismatch(Rule):
    """Two operators state different scales for the map between them.

    What it does: Compares the input-side scale of every consumer with the producer's output_scale.
    Where the producer states none, with the scale that reaches it through operators that keep it,
    and for graph inputs with that of the first consumer.

    Why it matters on the hardware: A map is stored once, as integers of one scale; a consumer that
    assumes another one computes with values that are off by that factor.

    What to do: Write the producer's output_scale as input scale of every consumer.
    """

    id = "SC-6"
    name = "scale-mismatch"
    clause = "II: the scale of a tensor used in different operators must be identical."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields one finding per consumer's input that disagrees."""
        for node in model.nodes:
            for index, value in enumerate(node.inputs):
                if value is None or not model.is_map(value):
                    continue
                stated, scale = model.input_scale(node, index), model.map_scale(value)
                if stated is not None and scale is not None and differ(stated, scale):
                    name = model.input_scale_name(node, index)
                    yield self.finding(
                        model.location(node),
                        f"{name} is {stated:.9g}, but map {value.name!r} has {scale:.9g}",
                        notes=_origin(model, value),
                    )


def differ(a: float, b: float) -> bool:
    """True for two scales that differ; nan is the matter of SC-1."""
    return a != b and not (math.isnan(a) or math.isnan(b))


def _origin(model: AccessModel, value: ir.Value) -> tuple[str, ...]:
    place = model.location(value)
    return (f"the map comes from {place.op} {place.layer!r}",)
