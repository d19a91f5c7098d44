"""Why the host turns what a network takes or returns, in the words of who feeds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlaconv.ir.layout_names import TO_NCHW, TO_NHWC

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.ir.target import Target

_RULE = "IO-3"
_IMAGE_RANK = 4
_NAMES: Mapping[tuple[int, ...], str] = {
    TO_NCHW: "turned from NHWC to NCHW",
    TO_NHWC: "turned from NCHW to NHWC",
}


def turned(model: ir.Model, reasons: Mapping[str, str], target: Target) -> dict[str, str]:
    """Reasons for nodes that rearrange graph inputs or outputs and have too few channels for that.

    The rule speaks of the channels of some map; what matters to whoever feeds the network is that
    the map is turned.

    Args:
        model: the LEGAL network, not cut.
        reasons: why nodes are the host's, by the name of their first output.
        target: the limits.
    """
    from dlaconv.ir.graph import is_op
    from dlaconv.ir.partition import REARRANGING, borders

    at_border, found = borders(model), {}
    for node in model.graph:
        name = node.outputs[0].name or ""
        broken = name in at_border and reasons.get(name, "").startswith(f"{_RULE}: ")
        if broken and is_op(node, *REARRANGING):
            found[name] = (
                f"the {_side(node)} is {_what(node)}, which the accelerator only does for "
                f"multiples of {target.channel_multiple} channels ({_RULE})"
            )
    return found


def _side(node: ir.Node) -> str:
    """Whether a node at the border rearranges an input or an output."""
    from dlaconv.ir import dialect
    from dlaconv.ir.graph import is_op, producer
    from dlaconv.ir.partition import REARRANGING

    before: ir.Node | None = node
    while before is not None and (is_op(before, *REARRANGING) or dialect.rounds(before)):
        source = before.inputs[0]
        before = producer(source) if source is not None else None
    return "input" if before is None else "output"


def _what(node: ir.Node) -> str:
    """What a rearrangement is called; one of a single channel is a Reshape."""
    from dlaconv.ir.graph import ints_attribute, is_op, shape_of

    source = node.inputs[0]
    before = (shape_of(source) if source is not None else None) or ()
    after = shape_of(node.outputs[0]) or ()
    perm: tuple[int, ...] = ()
    if is_op(node, "Transpose"):
        perm = ints_attribute(node, "perm")
    elif len(before) == len(after) == _IMAGE_RANK:
        n, *rest = before
        if after == (n, 1, *rest[:2]):
            perm = TO_NCHW
        elif before == (n, 1, *after[1:3]):
            perm = TO_NHWC
    return _NAMES.get(perm, "rearranged")
