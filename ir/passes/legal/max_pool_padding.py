"""PL-5: max pools that are padded at the top or left."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.neutral_border import neutral_border
from dlaconv.ir.passes.legal.pool_windows import border_of, indices_read, plain_pool
from dlaconv.ir.pipeline import Context


@legalisation("MaxPool", rules=("PL-5",))
def max_pool_padding(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A max pool with padding at the top or left gets its padding from a convolution before it.

    Identity: A maximum does not change if values are added that are not larger than all others.
    Where nothing is negative these may be zeros, which a 1x1 identity convolution pads with. On
    other quantised maps the border is the smallest integer -wm: a map that holds m everywhere is
    joined to the channels, and a 1x1 convolution adds w times that map and the bias -wm.

    Conditions: Padding at the bottom and right goes along where that makes both ends equal, else it
    stays with the pool. In floating point the map must not be negative; the padded map must not be
    too large to be stored.

    Cost: One multiplication per element of the padded map; one per element and channel if it may
    be negative, or is smaller than depth-wise convolutions need.
    """
    window = plain_pool(node)
    if window is None or not any(window.pads[:2]):
        return None
    if indices_read(node):
        return Blocked("the positions of the maxima are read, which the hardware does not compute")
    builder = Builder(node)
    border = border_of(window)
    bordered = neutral_border(builder, context, builder.x, border)
    if isinstance(bordered, Blocked):
        return bordered
    ends = [max(pad - done, 0) for pad, done in zip(window.pads[2:], border[2:], strict=True)]
    builder.max_pool(bordered, window.kernel, window.strides, (0, 0, *ends))
    top, left = window.pads[:2]
    return builder.plan(f"padding of {top} at the top and {left} at the left by a convolution")
