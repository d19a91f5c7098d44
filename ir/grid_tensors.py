"""Large constants on a grid: floats, or the integers and steps that they are made of.

For a model that is run a few times, making floats of its weights takes longer than running it, and
four times the memory of the integers. So there onnxruntime gets the integers and makes floats of
them layer by layer, of large layers part by part, always in the same memory. Products by row are
independent, so a layer in parts computes what it computes whole.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.blocks import BlockTensor, rows_of, shape_tuple
from dlaconv.ir.graph import attribute, insert_before, is_op, replace_node

_LARGE = 1 << 12
"""Elements from which on integers are worth a node."""
_PART = 1 << 21
"""Elements that are made floats at a time, unless one row alone has more."""


class GridTensor(BlockTensor):
    """Integers times steps as float32.

    Attributes:
        steps: float32, one for all or one per row.
    """

    def __init__(
        self,
        rows: Callable[[slice], np.ndarray],
        integers: Callable[[], np.ndarray | None],
        steps: np.ndarray,
        shape: tuple[int, ...],
        name: str,
    ) -> None:
        """Describes a tensor of at least one dimension.

        Args:
            rows: computes the floats of rows.
            integers: computes all integers, None if there are none.
            steps: one for all or one per row.
            shape: the whole tensor's shape.
            name: the tensor's name.
        """
        super().__init__(rows, ir.DataType.FLOAT, shape, name)
        self.steps = steps.astype(np.float32).reshape(-1)
        self._integers = integers

    def int8(self) -> np.ndarray | None:
        """The integers if they are 8 bits wide, None if not."""
        found = self._integers()
        return found if found is not None and found.dtype == np.int8 else None


def grid_tensor(integers: np.ndarray | BlockTensor, steps: np.ndarray, name: str) -> GridTensor:
    """The product of integers and steps, computed when it is read.

    Args:
        integers: at least one dimension.
        steps: one for all or one per row.
        name: the tensor's name.
    """
    shape = shape_tuple(integers)
    spread = steps.astype(np.float32).reshape(-1, *(1,) * (len(shape) - 1))

    def reals(rows: slice) -> np.ndarray:
        found = rows_of(integers, rows).astype(np.float32)
        found *= spread[rows] if len(spread) > 1 else spread
        return found

    def whole() -> np.ndarray:
        return integers if isinstance(integers, np.ndarray) else integers.numpy()

    return GridTensor(reals, whole, steps, shape, name)


def hand_over_integers(graph: ir.Graph) -> None:
    """Puts integers and nodes that make floats of them in the place of constants on a grid.

    Args:
        graph: of opset 13 or more; its values stay.
    """
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if not isinstance(tensor, GridTensor) or tensor.size < _LARGE or value.is_graph_output():
            continue
        if (integers := tensor.int8()) is None:
            continue
        for use in list(value.uses()):
            if not _in_parts(use.node, use.idx, integers, tensor.steps):
                made = _floats(integers, tensor.steps, value.name or "")
                insert_before(use.node, made)
                use.node.replace_input_with(use.idx, made.outputs[0])
        del graph.initializers[value.name or ""]


def _floats(integers: np.ndarray, steps: np.ndarray, name: str) -> ir.Node:
    """A node that makes floats of integers."""
    scale = steps if len(steps) > 1 else steps.reshape(())
    constants = [
        dialect.constant(f"{name}/integers", integers),
        dialect.constant(f"{name}/steps", scale),
    ]
    made = ir.node("DequantizeLinear", constants, {"axis": 0}, name=f"{name}/floats")
    made.outputs[0].name = f"{name}/reals"
    return made


def _in_parts(node: ir.Node, index: int, integers: np.ndarray, steps: np.ndarray) -> bool:
    """Cuts a layer with large weights into one for each run of its output channels."""
    rows = max(1, _PART * len(integers) // integers.size)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if index != 1 or rows >= len(integers) or not _is_cut(node, bias, len(integers)):
        return False
    array = None if bias is None else dialect.array_of(bias).reshape(-1)
    nodes, parts = [], []
    name = node.outputs[0].name or ""
    for start in range(0, len(integers), rows):
        run = slice(start, start + rows)
        stem = f"{name}/{start}"
        made = _floats(integers[run], steps[run] if len(steps) > 1 else steps, stem)
        inputs = [node.inputs[0], made.outputs[0]]
        if array is not None:
            inputs.append(dialect.constant(f"{stem}/bias", array[run]))
        part = ir.node(node.op_type, inputs, dict(node.attributes), name=stem)
        part.outputs[0].name = f"{stem}/part"
        parts.append(part.outputs[0])
        nodes += [made, part]
    replace_node(node, *nodes, ir.node("Concat", parts, {"axis": 1}, name=f"{name}/parts"))
    return True


def _is_cut(node: ir.Node, bias: ir.Value | None, channels: int) -> bool:
    """True for a layer whose rows of weights are output channels, each with a bias or none."""
    rows = {"Conv": attribute(node, "group", 1) == 1, "Gemm": attribute(node, "transB", 0) == 1}
    if not is_op(node, *rows) or not rows[node.op_type]:
        return False
    if bias is None:
        return True
    tensor = bias.const_value
    return tensor is not None and shape_tuple(tensor) in {(channels,), (1, channels)}
