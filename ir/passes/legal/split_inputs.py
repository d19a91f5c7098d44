"""CV-3: convolutions with many input channels, as sums of parts."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, is_op, producer, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.convolutions import CONSTANTS, bias_input
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.passes.windows import window_of
from dlaconv.ir.pipeline import Context


@legalisation("Conv", rules=("CV-3",), exact=False)
def split_inputs(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A convolution of many input channels becomes a sum of several.

    Identity: A sum over input channels is the sum of the sums over parts of them. The map is joined
    by a Concat of maps that are small enough, so the parts are there.

    Conditions: The weights are constants, without groups. No more than a ReLU or a rounding of one
    step stands between the Concat and the convolution. The hardware rounds each sum to 8 bits
    before it adds them, where the source rounds once: approximate.

    Cost: No multiplications; one addition per value and part.
    """
    window, x = window_of(node), node.inputs[0]
    shape = shape_of(x) if x is not None else None
    most = context.target.conv.channels[1]
    if window is None or shape is None or x is None or shape[1] <= most:
        return None
    if int(attribute(node, "group", 1)) != 1:
        return Blocked(f"its groups read a map of more than {most} channels")
    weights = weights_of(node)
    if weights is None:
        return Blocked(CONSTANTS)
    builder = Builder(node)
    parts = _parts(builder, x, most)
    if parts is None:
        return Blocked(f"its map of {shape[1]} channels is not joined from maps of at most {most}")
    total, start, bias = None, 0, bias_input(node)
    for part in parts:
        channels = (shape_of(part) or (0, 0))[1]
        columns = slice(start, start + channels)
        value = builder.conv(
            part,
            replace(weights, array=weights.array[:, columns]),
            bias,
            strides=window.strides,
            pads=window.pads,
            dilations=window.dilations,
        )
        total = value if total is None else builder.add(total, value)
        start, bias = start + channels, None
    return builder.plan(f"{shape[1]} input channels as a sum of {len(parts)} convolutions")


def _parts(builder: Builder, x: ir.Value, most: int) -> list[ir.Value] | None:
    """Maps of at most ``most`` channels that ``x`` is joined from, None if there are none."""
    passed: list[ir.Node] = []
    node = producer(x)
    while node is not None and (is_op(node, "Relu") or _rounds_evenly(node)):
        passed.insert(0, node)
        node = producer(node.inputs[0])
    if node is None or not is_op(node, "Concat") or int(attribute(node, "axis", 1)) != 1:
        return None
    groups: list[list[ir.Value]] = []
    room = 0
    for value in node.inputs:
        channels = (shape_of(value) or (0, 0))[1] if value is not None else 0
        if value is None or not 0 < channels <= most:
            return None
        if channels > room:
            groups.append([])
            room = most
        groups[-1].append(value)
        room -= channels
    parts = []
    for group in groups:
        part = group[0] if len(group) == 1 else builder.concat(group)
        for step in passed:
            if is_op(step, "Relu"):
                part = builder.relu(part)
            else:
                part = builder.quantised(part, dialect.quantisation_of(step))
        parts.append(part)
    return parts


def _rounds_evenly(node: ir.Node) -> bool:
    return dialect.is_quantize(node) and dialect.quantisation_of(node).per_tensor
