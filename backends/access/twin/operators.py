"""Operators that the twin has to write in another form than the file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel, is_standard
from dlaconv.backends.access.twin.nodes import made, number
from dlaconv.ir import dialect
from dlaconv.ir.graph import insert_after, insert_before, register_constants, shape_of


def axes_as_input(node: ir.Node) -> None:
    """Opset 13 and later: ReduceSum, Squeeze and Unsqueeze take their axes as an input."""
    axes = node.attributes.get("axes")
    if axes is None or not is_standard(node, "ReduceSum", "Squeeze", "Unsqueeze"):
        return
    constant = dialect.constant(f"{node.name}/axes", np.array(list(axes.as_ints()), np.int64))
    del node.attributes["axes"]
    node.resize_inputs(2)
    node.replace_input_with(1, constant)
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    register_constants(graph, [node])


def without_ceil_mode(node: ir.Node, original: ir.Node, view: AccessModel) -> None:
    """Writes the padding of a pool out that its ceil_mode stands for.

    Tools disagree on how many windows ceil_mode makes, and on whether an average counts what lies
    beyond the padding. It never does here; so padding that counts becomes a Pad.
    """
    if not is_standard(node, "MaxPool", "AveragePool") or not view.integer(node, "ceil_mode", 0):
        return
    windows = view.shape(original.outputs[0])
    if windows is None:
        raise ValueError(f"{original.name!r}: the shape of its result is not known")
    before, after = window.pads(view, original)
    sizes, strides = window.map_size(view, original), window.strides(view, original)
    kernel, dilations = window.kernel(view, original), window.dilations(view, original)
    reach = [
        (int(count or 0) - 1) * stride + (extent - 1) * dilation + 1
        for count, stride, extent, dilation in zip(
            windows[2:], strides, kernel, dilations, strict=True
        )
    ]
    excess = [
        max(0, far - begin - size - end)
        for far, begin, size, end in zip(reach, before, sizes, after, strict=True)
    ]
    del node.attributes["ceil_mode"]
    if is_standard(node, "AveragePool") and view.integer(node, "count_include_pad", 0):
        _pad(node, before, after)
        before, after = (0,) * len(before), (0,) * len(after)
        del node.attributes["count_include_pad"]
    ends = (end + more for end, more in zip(after, excess, strict=True))
    node.attributes["pads"] = ir.AttrInt64s("pads", [*before, *ends])


def _pad(node: ir.Node, before: window.Extents, after: window.Extents) -> None:
    """Puts zeros around the map that a node reads."""
    x = node.inputs[0]
    assert x is not None
    stem = node.name or node.outputs[0].name or ""
    begins, ends = (0, 0, *before), (0, 0, *after)
    amounts = dialect.constant(f"{stem}/pads", np.array([*begins, *ends], np.int64))
    sizes = shape_of(x)
    padded = None if sizes is None else [sum(s) for s in zip(begins, sizes, ends, strict=True)]
    shape = None if padded is None else ir.Shape(padded)
    pad = made("Pad", [x, amounts], f"{stem}/pad", shape)
    insert_before(node, pad)
    node.replace_input_with(0, pad.outputs[0])


def defined_at_zero(node: ir.Node, worth: float, low: float, high: float) -> ir.Value:
    """Makes a Div saturate by the sign of the dividend where the divisor is 0; 0 / 0 is 0.

    In float arithmetic the one would be infinite and the other no number.

    Args:
        node: the Div.
        worth: times this, the smallest dividend but 0 is past ``low`` and ``high``.
        low: smallest real value that the result's map can hold.
        high: largest real value that the result's map can hold.

    Returns:
        The result; it has yet to take the place of the node's own.
    """
    dividend, divisor = node.inputs
    quotient = node.outputs[0]
    assert dividend is not None
    assert divisor is not None
    stem = node.name or quotient.name or ""
    compared = [divisor, number(f"{stem}/zero", 0)]
    zero = made("Equal", compared, f"{stem}/by_zero", divisor.shape, ir.DataType.BOOL)
    by_zero = zero.outputs[0]
    safe = made(
        "Where", [by_zero, number(f"{stem}/one", 1), divisor], f"{stem}/safe", divisor.shape
    )
    insert_before(node, zero, safe)
    node.replace_input_with(1, safe.outputs[0])
    large = made("Mul", [dividend, number(f"{stem}/worth", worth)], f"{stem}/large", dividend.shape)
    ends = [number(f"{stem}/low", low), number(f"{stem}/high", high)]
    extreme = made("Clip", [large.outputs[0], *ends], f"{stem}/extreme", dividend.shape)
    choice = [by_zero, extreme.outputs[0], quotient]
    defined = made("Where", choice, f"{stem}/defined", quotient.shape)
    insert_after(quotient, large, extreme, defined)
    return defined.outputs[0]
