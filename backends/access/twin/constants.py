"""Weights and biases of the twin: integers behind a DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, input_of
from dlaconv.backends.access.twin.nodes import made
from dlaconv.ir import dialect
from dlaconv.ir.graph import insert_before


def integer_constants(node: ir.Node, original: ir.Node, view: AccessModel) -> None:
    """Gives a Conv or Gemm its constants as the integers that they stand for.

    Weights are decoded when the twin is saved, a block at a time.

    Args:
        node: the node in the twin.
        original: the node in the file.
        view: the file.

    Raises:
        ValueError: if the file does not tell the integers.
    """
    decoded = view.decode_weights(original)
    if decoded is None or not decoded.usable.all():
        raise ValueError(f"{original.name!r}: weights without usable weight_ch_scales")
    stem = node.name or node.outputs[0].name or ""
    integers = decoded.tensor(f"{stem}/weights/integers", view.target.weight_range)
    weights = dialect.constant(integers.name or "", integers)
    zeros = dialect.constant(f"{stem}/weights/zero_point", np.zeros(len(decoded.steps), np.int8))
    _give(node, 1, f"{stem}/weights", weights, decoded.steps, zeros)
    if node.op_type == "Gemm":
        node.attributes["transB"] = ir.AttrInt64("transB", 1)
    if input_of(original, 2) is None:
        return
    found, step_in = view.decode_bias(original), view.map_step(input_of(original, 0))
    if found is None or step_in is None:
        raise ValueError(f"{original.name!r}: a bias whose step is unknown")
    array = np.clip(found.integers, *view.target.bias_range).astype(np.int32)
    bias = dialect.constant(f"{stem}/bias/integers", array)
    _give(node, 2, f"{stem}/bias", bias, decoded.steps * step_in)


def _give(
    node: ir.Node,
    index: int,
    name: str,
    integers: ir.Value,
    steps: np.ndarray,
    *zero_point: ir.Value,
) -> None:
    """Puts a DequantizeLinear per output channel in the place of a constant."""
    step = dialect.constant(f"{name}/step", steps.astype(np.float32))
    inputs = [integers, step, *zero_point]  # an int32 needs no zero point
    holder = made("DequantizeLinear", inputs, name, integers.shape, output=name, axis=0)
    insert_before(node, holder)
    node.replace_input_with(index, holder.outputs[0])
