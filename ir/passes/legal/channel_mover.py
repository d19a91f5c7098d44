"""Identity layers that move the channels of a map."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.channel_layout import ChannelLayout
from dlaconv.ir.graph import consumers, insert_after, is_op, producer, shape_of, unique_name
from dlaconv.ir.layers import MOVING
from dlaconv.ir.macs import macs
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation


class ChannelMover:
    """Puts identity layers behind maps whose channels are needed elsewhere, one for each place.

    Attributes:
        layouts: the layout of every map.
        macs: multiplications of the layers so far.
    """

    def __init__(
        self, graph: ir.Graph, context: Context, layouts: dict[ir.Value, ChannelLayout]
    ) -> None:
        self.graph, self.context, self.layouts = graph, context, layouts
        self.macs = 0
        self._known: dict[tuple[ir.Value, ChannelLayout, bool], ir.Value] = {}

    def move(self, value: ir.Value, needed: ChannelLayout, *, stored: bool = True) -> ir.Value:
        """The same channels in another layout.

        Args:
            value: the map.
            needed: the layout.
            stored: True gives the result the grid of the map, if it has one.
        """
        key = value, needed, stored
        if key not in self._known:
            self._known[key] = self._layer(value, needed, stored=stored)
            self.layouts[self._known[key]] = needed
        return self._known[key]

    def _layer(self, value: ir.Value, needed: ChannelLayout, *, stored: bool) -> ir.Value:
        own = self.layouts[value]
        shape = list(shape_of(value) or ())
        shape[1] = needed.count
        ones = np.zeros((needed.count, own.count), np.int8)
        ones[needed.positions, own.positions] = 1
        name = unique_name(self.graph, f"{value.name}/channels")
        holder = dialect.dequantize(
            dialect.constant(f"{name}/integers", ones.reshape(*ones.shape, *[1] * len(shape[2:]))),
            np.ones((), np.float32),
            name=f"{name}/weights",
            output=f"{name}/weights",
        )
        layer = _identity(value, holder.outputs[0], name, len(shape) - 2)
        result = layer.outputs[0]
        result.name, result.shape, result.dtype = name, ir.Shape(shape), ir.DataType.FLOAT
        self.context.gains.add(name)
        nodes = [holder, layer]
        grid = self._grid(value, own, needed) if stored else None
        if grid is not None:
            result.name = f"{name}/unrounded"
            nodes.append(dialect.quantize(result, grid, name=f"{name}/stored", output=name))
        origin = producer(value) or next(iter(consumers(value)), None)
        for node in nodes:
            if origin is not None:
                provenance.inherit(node, origin)
        insert_after(value, *nodes)
        self.macs += macs(layer)
        return nodes[-1].outputs[0]

    def _grid(
        self, value: ir.Value, own: ChannelLayout, needed: ChannelLayout
    ) -> Quantisation | None:
        """The quantisation of a stored map, for its channels in another layout."""
        found, per_channel = _stored_grids(value)
        if not found:
            return None
        widest = max(found, key=lambda grid: grid.ends[1] - grid.ends[0])
        if widest.per_tensor:
            return widest
        if not per_channel:
            return None
        axis = 1 - len(shape_of(value) or ())

        def moved(array: np.ndarray) -> np.ndarray:
            if array.ndim < -axis or array.shape[axis] != own.count:
                return array
            return needed.repeat(own.select(array, axis), axis)

        return Quantisation(
            moved(widest.step), moved(widest.zero_point), widest.qmin, widest.qmax, widest.rounding
        )


def _identity(value: ir.Value, weights: ir.Value, name: str, spatial: int) -> ir.Node:
    if not spatial:
        return ir.node("Gemm", [value, weights], {"transB": 1}, name=name)
    ones = (1,) * spatial
    attributes: dict[str, int | tuple[int, ...]] = {
        "kernel_shape": ones,
        "strides": ones,
        "dilations": ones,
        "pads": (0,) * (2 * spatial),
        "group": 1,
    }
    return ir.node("Conv", [value, weights], attributes, name=name)


def _stored_grids(value: ir.Value) -> tuple[list[Quantisation], bool]:
    """The quantisations whose integers a map holds, none if it is not stored.

    Returns:
        Also True if steps per channel are still those of the map's channels.
    """
    found: list[Quantisation] = []
    stack: list[ir.Value | None] = [value]
    seen: set[ir.Value | None] = set()
    aligned = True
    while stack:
        node = producer(stack.pop())
        if node is not None and dialect.is_quantize(node):
            found.append(dialect.quantisation_of(node))
        elif node is not None and dialect.is_bipolar(node):
            found.append(Quantisation.of(dialect.step_of(node)))
        elif node is not None and is_op(node, *MOVING, "Relu"):
            sources = node.inputs if is_op(node, "Concat") else node.inputs[:1]
            stack += [source for source in sources if source not in seen]
            seen.update(sources)
            aligned = aligned and is_op(node, "MaxPool", "Relu")
        else:
            return [], aligned
    return found, aligned
