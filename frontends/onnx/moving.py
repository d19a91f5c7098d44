"""Operators that move or compare quantised integers without computing with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.onnx.integers import (
    Grid,
    OnnxImport,
    Stored,
    made,
    moved,
    reals_of,
    refuse_arithmetic,
    store,
    take_place,
)
from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    insert_before,
    is_constant,
    is_optional_input_absent,
)

_MOVING = frozenset(
    {
        "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "ReduceMax",
        "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip
"""Operators whose results are integers of their first input; the order of these counts at most."""
_WATCHING = frozenset({"ArgMax", "ArgMin", "Shape", "Size"})
"""Operators that tell something of a tensor that is the same for integers and reals."""
OPERATORS = _MOVING | _WATCHING | {"Cast", "Clip", "Concat", "Pad", "Relu", "Resize"}


def move(node: ir.Node, state: OnnxImport) -> None:
    """Lets an operator of `OPERATORS` work on the reals of the integers that it reads."""
    read = [value for value in node.inputs if value in state.stored]
    stored = state.stored[read[0]] if read and read[0] is not None else None
    if stored is None:
        return
    if node.op_type in _WATCHING:
        node.replace_input_with(0, stored.real)
    elif node.op_type == "Cast":
        _cast(node, stored, state)
    elif not stored.grid.per_tensor and node.op_type != "Clip":
        state.refuse(
            node,
            "DLA118",
            "scale-shape",
            f"{node.op_type} moves integers that have a scale per channel",
            remedy="quantise maps per tensor",
        )
    elif node.op_type in _MOVING or (node.op_type == "Resize" and _is_nearest(node)):
        _on_reals(node, [stored.real, *node.inputs[1:]], stored, state)
    elif node.op_type in {"Clip", "Concat", "Pad"}:
        {"Clip": _clip, "Concat": _concat, "Pad": _pad}[node.op_type](node, stored, state)
    elif node.op_type == "Relu" and not stored.grid.zero_point.any():
        _on_reals(node, [stored.real], stored, state)
    elif read[0] is not None:
        refuse_arithmetic(node, read[0], state)


def _on_reals(
    node: ir.Node, inputs: Sequence[ir.Value | None], stored: Stored, state: OnnxImport
) -> None:
    """Puts the same operator on real values beside the one on integers."""
    new = ir.node(
        node.op_type,
        list(inputs),
        dict(node.attributes),
        name=node.name,
        num_outputs=len(node.outputs),
    )
    insert_before(node, new)
    indices = 1 if node.op_type == "MaxPool" else len(node.outputs)
    for index, (old, value) in enumerate(zip(node.outputs, new.outputs, strict=True)):
        value.name, old.name = old.name, f"{old.name}/integers"
        value.shape = old.shape
        if index >= indices:
            value.type = old.type
            old.replace_all_uses_with(value, replace_graph_outputs=True)
        else:
            value.dtype = ir.DataType.FLOAT
            state.stored[old] = moved(stored, value)
    state.replaced.append(node)


def _is_nearest(node: ir.Node) -> bool:
    return str(attribute(node, "mode", "nearest")) == "nearest"


def _cast(node: ir.Node, stored: Stored, state: OnnxImport) -> None:
    """The integers as numbers: worth 1 each."""
    if attribute(node, "to", 0) != ir.DataType.FLOAT:
        assert node.inputs[0] is not None
        refuse_arithmetic(node, node.inputs[0], state)
        return
    grid = Grid(np.ones((), np.float32), np.zeros((), np.int64), stored.grid.low, stored.grid.high)
    real = reals_of(node, 0, grid, state)
    if real is not None:
        take_place(node, real, state)


def _clip(node: ir.Node, stored: Stored, state: OnnxImport) -> None:
    """Ends of the integers: right behind a quantiser they say how many bits it has."""
    grid, ends = stored.grid, []
    for index, end in ((1, grid.low), (2, grid.high)):
        array = input_array(node, index)
        if array is None and not is_optional_input_absent(node, index):
            state.refuse(
                node,
                "DLA104",
                "dynamic-parameter",
                f"the end {index} of Clip is computed from the network's data",
                remedy="export the network in eval mode, with static quantisers",
            )
            return
        number = end if array is None else _integer(node, array, f"end {index}", state)
        if number is None:
            return
        ends.append(number)
    low, high = max(ends[0], grid.low), min(ends[1], grid.high)
    narrower = Grid(grid.scale, grid.zero_point, low, max(low, high))
    if stored.unrounded is not None and low <= high:
        node.outputs[0].dtype = stored.dtype
        store(node, stored.unrounded, narrower, state)
        return
    bounds = [dialect.constant(f"{node.name}/end", grid.real(end)) for end in (low, high)]
    if not grid.per_tensor:
        result = made(node, "Min", [made(node, "Max", [stored.real, bounds[0]]), bounds[1]])
    else:
        result = made(node, "Clip", [stored.real, *bounds])
    state.stored[node.outputs[0]] = Stored(result, narrower, stored.dtype)
    state.replaced.append(node)


def _concat(node: ir.Node, stored: Stored, state: OnnxImport) -> None:
    reals: list[ir.Value | None] = []
    for index, value in enumerate(node.inputs):
        other = state.stored.get(value) if value is not None else None
        known = is_constant(value) or (other is not None and other.grid.same_values(stored.grid))
        real = reals_of(node, index, stored.grid, state) if known else None
        if real is None:
            if value is not None:
                refuse_arithmetic(node, value, state)
            return
        reals.append(real)
    _on_reals(node, reals, stored, state)


def _pad(node: ir.Node, stored: Stored, state: OnnxImport) -> None:
    """The value that is padded is an integer, 0 unless given."""
    inputs = [stored.real, *node.inputs[1:]]
    if str(attribute(node, "mode", "constant")) == "constant":
        given = input_array(node, 2)
        if given is None and not is_optional_input_absent(node, 2):
            assert node.inputs[2] is not None
            refuse_arithmetic(node, node.inputs[2], state)
            return
        number = 0 if given is None else _integer(node, given, "value that is padded", state)
        if number is None:
            return
        real = stored.grid.real(number).reshape(())
        inputs += [None] * (3 - len(inputs))
        inputs[2] = dialect.constant(f"{node.name}/value", real)
    _on_reals(node, inputs, stored, state)


def _integer(node: ir.Node, array: np.ndarray, what: str, state: OnnxImport) -> int | None:
    """The one number of a constant beside integers; None if it is none, which is said."""
    if array.size == 1 and (array.dtype.kind in "iu" or array.dtype.name in {"int4", "uint4"}):
        return int(array.flat[0])
    state.refuse(
        node,
        "DLA117",
        "element-type",
        f"the {what} is a {array.dtype} tensor of shape {list(array.shape)}, not one integer",
        remedy="give it the type of the integers that it stands beside",
    )
    return None
