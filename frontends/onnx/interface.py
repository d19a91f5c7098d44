"""Graph inputs and outputs of integers: they become real ones.

The rest of dlaconv talks of real values at the border of a network, and its report says which
integers the host feeds to the accelerator. So an int8 input that a file dequantises first becomes
the real value it stands for, quantised the same way; an output of integers becomes what they are
worth. Images of bytes that a file casts to float are worth 1 a unit.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.onnx.integers import RANGES, Grid, OnnxImport, Stored, axis_of, grid_of
from dlaconv.frontends.onnx.moving import OPERATORS
from dlaconv.frontends.onnx.qoperator import OPERANDS
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import attribute, insert_after, is_op, rank_of

_OURS = (
    ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8, ir.DataType.UINT8,
    ir.DataType.INT16, ir.DataType.UINT16,
)  # fmt: skip


def adopt_inputs(state: OnnxImport) -> None:
    """Replaces integer graph inputs by real ones; refuses those of other types."""
    for index, value in enumerate(list(state.model.graph.inputs)):
        if value.dtype in {None, ir.DataType.FLOAT} or value.const_value is not None:
            continue
        if value.dtype not in _OURS:
            _refuse_type(value, state)
            state.unknown.add(value)
            continue
        grid = _grid_behind(value, state)
        if grid is None:
            state.unknown.add(value)
            continue
        assert value.dtype is not None
        _replace_input(index, value, value.dtype, grid, state)


def _replace_input(
    index: int, value: ir.Value, kind: ir.DataType, grid: Grid, state: OnnxImport
) -> None:
    graph, name = state.model.graph, value.name or ""
    real = ir.val(name, ir.DataType.FLOAT, value.shape)
    value.name = f"{name}/integers"
    graph.inputs[index] = real
    new = dialect.quantize(real, grid.quantisation(), name=f"{name}/quantised")
    provenance.mark(new, name, "input")
    insert_after(real, new)
    state.stored[value] = Stored(new.outputs[0], grid, kind, real)
    ends = [float(grid.real(end).flat[0]) for end in (grid.low, grid.high)]
    state.interface.append(
        f"input {name!r} ({kind.name.lower()}) takes real values from {ends[0]:g} to {ends[1]:g}, "
        f"{float(grid.scale.flat[0]):g} a unit"
    )


def _grid_behind(value: ir.Value, state: OnnxImport) -> Grid | None:
    """What the first operator that knows says the integers of a graph input are worth."""
    queue, seen = [value], {value}
    while queue:
        current = queue.pop(0)
        for use in current.uses():
            node = use.node
            found: tuple[int, int, int | None] | None = None
            if node.op_type == "DequantizeLinear" and use.idx == 0:
                found = (1, 2, axis_of(node))
            elif is_op(node, "Cast") and attribute(node, "to", 0) == ir.DataType.FLOAT:
                ends = RANGES[value.dtype or ir.DataType.UINT8]
                return Grid(np.ones((), np.float32), np.zeros((), np.int64), *ends)
            elif (places := OPERANDS.get(node.op_type, {}).get(use.idx)) is not None:
                found = (*places, None)
            if found is not None:
                scale, zero, axis = found
                grid = grid_of(
                    node, scale, zero, state, kind=value.dtype, axis=axis, rank=rank_of(value)
                )
                return grid if grid is None else _per_tensor(node, grid, state)
            if is_op(node, *OPERATORS):
                fresh = [result for result in node.outputs if result not in seen]
                seen.update(fresh)
                queue.extend(fresh)
    if value.uses():
        _refuse_type(value, state)
    return None


def _per_tensor(node: ir.Node, grid: Grid, state: OnnxImport) -> Grid | None:
    if grid.per_tensor:
        return grid
    state.refuse(
        node,
        "DLA118",
        "scale-shape",
        "a graph input of integers has a scale per channel",
        remedy="quantise the input per tensor",
    )
    return None


def _refuse_type(value: ir.Value, state: OnnxImport) -> None:
    state.diagnostics.error(
        "DLA117",
        "element-type",
        f"graph input {value.name!r} holds {value.dtype} values that no operator gives a scale",
        location=provenance.location(None, state.model),
        help="export the network with float32 inputs",
    )


def real_outputs(state: OnnxImport) -> None:
    """Replaces graph outputs of integers by what they are worth."""
    graph = state.model.graph
    for index, value in enumerate(list(graph.outputs)):
        stored = state.stored.get(value)
        if stored is None:
            continue
        name = (value.name or "").removesuffix("/integers")
        copy = ir.node("Identity", [stored.real], name=f"{name}/real")
        maker = stored.real.producer() or value.producer()
        graph.append(provenance.inherit(copy, maker) if maker is not None else copy)
        copy.outputs[0].shape, copy.outputs[0].dtype = value.shape, ir.DataType.FLOAT
        if stored.real.name == name:
            stored.real.name = f"{name}/quantised"
        copy.outputs[0].name = name
        graph.outputs[index] = copy.outputs[0]
        state.interface.append(
            f"output {name!r} ({stored.dtype.name.lower()}) gives real values, "
            f"{float(stored.grid.scale.flat[0]):g} a unit"
        )


def note_interface(state: OnnxImport) -> None:
    """Tells what became of the integers at the border of the network."""
    if not state.interface:
        return
    state.diagnostics.note(
        "DLA123",
        "integer-interface",
        "; ".join(state.interface),
        location=provenance.location(None, state.model),
        help="feed real values to dlaconv (--calibrate, --input); what the host feeds to the "
        "accelerator is in the report's io part",
    )
