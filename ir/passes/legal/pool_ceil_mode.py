"""PL-8: max pools that round the number of their windows up, or whose elements lie apart."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import shape
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.pool_windows import end_pads, indices_read, pool_window
from dlaconv.ir.pipeline import Context


@legalisation("MaxPool", rules=("PL-8",))
def pool_ceil_mode(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A max pool that rounds its size up gets padding at the end, and rounds down.

    Identity: The last window of ``ceil_mode`` reaches beyond the map, where nothing is. Padding
    that never wins a maximum is as good as nothing.

    Conditions: None for ``ceil_mode``. A dilated pool is none of small ones, except along an axis
    on which its window is one element. Averages are another matter: see average_pool_conv.

    Cost: None.
    """
    window = pool_window(node)
    if window is None:
        return None
    spread = any(
        dilation > 1 and kernel > 1
        for dilation, kernel in zip(window.dilations, window.kernel, strict=True)
    )
    if not attribute(node, "ceil_mode", 0) and set(window.dilations) == {1}:
        return None
    if spread:
        return Blocked("the hardware has no window whose elements lie apart (dilation)")
    if indices_read(node):
        return Blocked("the positions of the maxima are read, which the hardware does not compute")
    ends = end_pads(window) if attribute(node, "ceil_mode", 0) else window.pads[len(window.size) :]
    builder = Builder(node)
    pads = (*window.pads[: len(ends)], *ends)
    pooled = builder.max_pool(builder.x, window.kernel, window.strides, pads)
    if shape(pooled) != shape(node.outputs[0]):  # ONNX's inference before opset 22 allows it
        return Blocked("the last window would see nothing but padding")
    return builder.plan(f"padding {list(ends)} at the end instead of rounding up")
