"""CV-1, DW-2, PL-2: kernel extents."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import AVERAGE_POOL, CONV, DEPTHWISE, WindowRule
from dlaconv.backends.access.rules.wording import by, span, within
from dlaconv.diagnostics import Diagnostic, Severity


class _KernelSize(WindowRule):
    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        limits = self.limits(model, node).kernel
        kernel = window.kernel(model, node)
        if not all(within(extent, limits) for extent in kernel):
            yield self.at(model, node, f"kernel {by(kernel)}, each side must be {span(limits)}")


class ConvKernelSize(_KernelSize):
    """A convolution's kernel is larger than the hardware's window.

    What it does: Checks height and width of the kernel, each on its own; even sizes and unequal
    sides are fine.

    Why it matters on the hardware: The guide limits the window of the convolution unit; there is no
    operator for a larger one.

    What to do: Use smaller kernels, several in a row.
    """

    id = "CV-1"
    name = "conv-kernel-size"
    clause = "B.2: filter 1x1 to 7x7, height and width may differ."
    kinds = (CONV,)


class DepthwiseKernelSize(_KernelSize):
    """A depth-wise convolution's kernel is larger than the hardware's window.

    What it does: Checks height and width of the kernel, each on its own.

    Why it matters on the hardware: The guide limits the window of the convolution unit; there is no
    operator for a larger one.

    What to do: Use smaller kernels, several in a row.
    """

    id = "DW-2"
    name = "depthwise-kernel-size"
    clause = "B, depth-wise convolution: filter 1x1 to 7x7."
    kinds = (DEPTHWISE,)


class AveragePoolKernel(_KernelSize):
    """An average pooling's kernel is one that the hardware does not have.

    What it does: Checks height and width of the kernel, each on its own; for global pooling that is
    the size of the map. A kernel with unequal sides is a warning.

    Why it matters on the hardware: The guide limits the window that is summed and divided at once,
    and lists square windows only.

    What to do: Split the pooling into a cascade whose kernels multiply to the size: 8x8 as 4x4 and
    2x2, 14x14 as 7x7 and 2x2. The average is the same, each stage rounds once.
    """

    id = "PL-2"
    name = "average-pool-kernel"
    clause = "B, average pooling: kernels 2x2 to 7x7."
    kinds = (AVERAGE_POOL,)

    def subjects(self, model: AccessModel) -> Iterator[ir.Node]:
        """Average poolings, global ones too."""
        yield from super().subjects(model)
        yield from model.nodes_of("GlobalAveragePool")

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per pooling."""
        kernel = window.kernel(model, node)
        yield from super().check_node(model, node)
        legal = all(within(extent, self.limits(model, node).kernel) for extent in kernel)
        if legal and len(set(kernel)) > 1:
            yield self.at(
                model, node, f"kernel {by(kernel)} is not square", severity=Severity.WARNING
            )
