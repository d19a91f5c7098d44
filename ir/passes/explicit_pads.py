"""Writes the window of every convolution and pooling out, padding included."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    consumers,
    input_array,
    ints_attribute,
    is_op,
    is_optional_input_absent,
    rank_of,
    shape_of,
    unique_name,
)
from dlaconv.ir.passes.windows import POOLS, set_window, window_of
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass(tolerance=1e-6)
def explicit_pads(model: ir.Model, context: Context) -> None:
    """Replaces ``auto_pad`` and absent attributes with explicit ones, and a Pad with a Conv's pads.

    A zero that is padded before a symmetric quantisation is a zero after it, so the Pad may have
    such quantise nodes between itself and its convolutions.
    ``ceil_mode`` stays only where it changes the number of windows; onnxruntime averages with
    another kernel without it, so the last bit of a mean may differ.
    """
    for node in model.graph:
        if is_op(node, "Conv", *POOLS):
            _write_out(node)
    for node in model.graph:
        if is_op(node, "Pad"):
            _fold_pad(node, model.graph)


def _write_out(node: ir.Node) -> None:
    window = window_of(node)
    if window is None:
        return
    auto_pad = str(attribute(node, "auto_pad", "NOTSET"))
    same = auto_pad.startswith("SAME")
    if same:
        window = replace(window, pads=window.same_pads(upper=auto_pad == "SAME_UPPER"))
    elif auto_pad == "VALID":
        window = replace(window, pads=(0,) * len(window.pads))
    set_window(node, window)
    if same or not window.ceil_matters():
        node.attributes.pop("ceil_mode", None)


def _fold_pad(pad: ir.Node, graph: ir.Graph) -> None:
    pads = _spatial_zero_pads(pad)
    source = pad.inputs[0]
    if pads is None or source is None:
        return
    passed: list[ir.Node] = []
    convolutions: list[ir.Node] = []
    if not _collect(pad.outputs[0], passed, convolutions):
        return
    for convolution in convolutions:
        own = ints_attribute(convolution, "pads")
        total = [a + b for a, b in zip(own, pads, strict=True)]
        convolution.attributes["pads"] = ir.AttrInt64s("pads", total)
    for node in passed:
        value = node.outputs[0]
        value.name = unique_name(graph, f"{value.name}/unpadded")
        value.shape = source.shape
    pad.outputs[0].replace_all_uses_with(source)
    graph.remove(pad, safe=True)


def _spatial_zero_pads(pad: ir.Node) -> tuple[int, ...] | None:
    """The pads per spatial axis (beginnings, ends) of a Pad that a convolution can do."""
    rank = rank_of(pad.outputs[0])
    pads = input_array(pad, 1)
    if rank is None or rank < 3 or pads is None or attribute(pad, "mode", "constant") != "constant":
        return None
    if not is_optional_input_absent(pad, 2):
        fill = input_array(pad, 2)
        if fill is None or fill.any():
            return None
    axes = list(range(rank))
    if not is_optional_input_absent(pad, 3):
        chosen = input_array(pad, 3)
        if chosen is None:
            return None
        axes = [int(axis) % rank for axis in chosen]
    begins, ends = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        begins[axis], ends[axis] = int(pads[position]), int(pads[position + len(axes)])
    if begins[0] or begins[1] or ends[0] or ends[1] or min(*begins, *ends) < 0:
        return None
    return (*begins[2:], *ends[2:])


def _collect(value: ir.Value, passed: list[ir.Node], convolutions: list[ir.Node]) -> bool:
    """Follows a padded value to its convolutions; False if anything else reads it."""
    if value.is_graph_output():
        return False
    for node in consumers(value):
        if is_op(node, "Conv") and "pads" in node.attributes and node.inputs[0] is value:
            if len([source for source in node.inputs if source is value]) > 1:
                return False
            convolutions.append(node)
        elif dialect.is_quantize(node) and _keeps_zero(node):
            passed.append(node)
            if not _collect(node.outputs[0], passed, convolutions):
                return False
        else:
            return False
    return bool(convolutions)


def _keeps_zero(node: ir.Node) -> bool:
    quantisation = dialect.quantisation_of(node)
    shape = shape_of(node.outputs[0]) or ()
    step = quantisation.step
    constant_in_space = step.ndim < 3 or all(extent == 1 for extent in step.shape[2:])
    return (
        quantisation.symmetric
        and quantisation.qmin <= 0 <= quantisation.qmax
        and (step.size == 1 or (step.ndim == len(shape) and constant_in_space))
    )
