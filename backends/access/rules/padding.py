"""CV-5, DW-5, PL-4: how much padding."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import (
    AVERAGE_POOL,
    CONV,
    DEPTHWISE,
    MAX_POOL,
    WindowRule,
)
from dlaconv.backends.access.rules.wording import by, span, within
from dlaconv.diagnostics import Diagnostic, Severity


class _Padding(WindowRule):
    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields findings for implicit and for excessive padding."""
        limits = self.limits(model, node).padding
        if (word := window.auto_pad(node)) != "NOTSET":
            yield self.at(
                model,
                node,
                f"auto_pad is {word}, the padding must be explicit",
                help="write the pads attribute instead",
            )
        start, end = window.pads(model, node)
        if not all(within(pad, limits) for pad in (*start, *end)):
            yield self.at(
                model,
                node,
                f"padding {by(start)} before and {by(end)} after, each must be {span(limits)}",
            )
        else:
            yield from self.more(model, node, start, end)

    def more(
        self, model: AccessModel, node: ir.Node, start: window.Extents, end: window.Extents
    ) -> Iterator[Diagnostic]:
        """Yields findings about padding that is within the limits."""
        if start != end:
            yield self.at(
                model,
                node,
                f"padding {by(start)} before and {by(end)} after differ, of which the guide does "
                "not speak",
                severity=Severity.WARNING,
            )


class ConvPadding(_Padding):
    """A convolution's padding is more than the hardware adds, or not written out.

    What it does: Checks padding on all four sides, and that auto_pad is not used. Padding that
    differs between opposite sides is a warning.

    Why it matters on the hardware: The guide limits the zeros that the hardware adds at a border,
    and the compiler takes their number from the pads attribute.

    What to do: Write pads explicitly. For more padding use a smaller kernel.
    """

    id = "CV-5"
    name = "conv-padding"
    clause = "B.2: padding 0 to 3, value 0."
    kinds = (CONV,)


class DepthwisePadding(_Padding):
    """A depth-wise convolution's padding is more than the hardware adds, or not written out.

    What it does: Checks padding on all four sides, and that auto_pad is not used. Padding that
    differs between opposite sides is a warning.

    Why it matters on the hardware: The guide limits the zeros that the hardware adds at a border,
    and the compiler takes their number from the pads attribute.

    What to do: Write pads explicitly. For more padding use a smaller kernel.
    """

    id = "DW-5"
    name = "depthwise-padding"
    clause = "B, depth-wise convolution: padding 0 to 3."
    kinds = (DEPTHWISE,)


class PoolPadding(_Padding):
    """A pooling's padding is more than the hardware adds, or not written out.

    What it does: Checks padding on all four sides, that it is less than the kernel, and that
    auto_pad is not used. On which sides it may be is PL-5 and PL-6.

    Why it matters on the hardware: The guide limits what the hardware adds at a border; a window of
    nothing but padding has no value.

    What to do: Write pads explicitly, and pad less than the kernel.
    """

    id = "PL-4"
    name = "pool-padding"
    clause = "B, pooling: padding 0 to 3."
    kinds = (MAX_POOL, AVERAGE_POOL)

    def more(
        self, model: AccessModel, node: ir.Node, start: window.Extents, end: window.Extents
    ) -> Iterator[Diagnostic]:
        """Yields a finding if padding fills a whole window."""
        kernel = window.kernel(model, node)
        if any(pad >= extent for pads in (start, end) for pad, extent in zip(pads, kernel)):  # noqa: B905
            yield self.at(
                model,
                node,
                f"padding {by(start)} before and {by(end)} after is not less than the kernel "
                f"{by(kernel)}",
            )
