"""SC-1: scales of feature maps."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.graph_view import in_onnx_domain
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.diagnostics import Diagnostic
from dlaconv.ir.formats import PowerOfTwo


class MapScaleGrid(Rule):
    """The scale of a feature map is no power of two.

    What it does: Checks every input_scale, output_scale, A_scale and B_scale: it must be positive,
    finite, and exactly a power of two. A scale that producer and consumers share is reported once.

    Why it matters on the hardware: The guide defines maps at powers of two, so that scales are
    changed by shifting bits; a scale with a mantissa is rounded by the compiler or refused.

    What to do: Convert the network with dlaconv, which moves the mantissa into the weight scales of
    the neighbouring layers, where it is kept.
    """

    id = "SC-1"
    name = "map-scale-grid"
    clause = "II: activation scale 2^n, one per tensor."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields one finding per map and illegal scale."""
        seen: set[tuple[ir.Value | ir.Node, str]] = set()
        for node in model.nodes:
            for name, value in _stated_scales(model, node):
                scale = model.number(node, name)
                if (
                    scale is None
                    or PowerOfTwo.exactly(scale if _positive(scale) else 0) is not None
                ):
                    continue
                key = (value if value is not None else node, repr(scale))
                if key not in seen:
                    seen.add(key)
                    yield self.finding(
                        model.location(node),
                        f"{name} {scale:.9g} is no power of two{_nearest(scale)}",
                    )


def _stated_scales(model: AccessModel, node: ir.Node) -> Iterator[tuple[str, ir.Value | None]]:
    """The map scales that a node carries, each with the value that it is about."""
    names = model.target.ops.get(node.op_type, {}) if in_onnx_domain(node) else {}
    if "output_scale" in names and node.outputs:
        yield "output_scale", node.outputs[0]
    pending = [name for name, kind in names.items() if kind == "float" and name != "output_scale"]
    for index, value in enumerate(node.inputs):
        name = model.input_scale_name(node, index)
        if name in pending:
            pending.remove(name)
            yield name, value


def _positive(scale: float) -> bool:
    return scale > 0 and math.isfinite(scale)


def _nearest(scale: float) -> str:
    if not _positive(scale):
        return ""
    near = PowerOfTwo.nearest(scale)
    error = abs(float(near.step) / scale - 1)
    return f" (the nearest is 2^{near.n}, {error:.2%} away)"
