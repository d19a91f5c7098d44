"""PL-1: kernels of max pooling."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import MAX_POOL, WindowRule
from dlaconv.backends.access.rules.wording import by, one_of
from dlaconv.diagnostics import Diagnostic


class MaxPoolKernel(WindowRule):
    """A max pooling's kernel is one that the hardware does not have.

    What it does: Checks that the kernel is square and of one of the target's sizes.

    Why it matters on the hardware: The guide lists these windows and no others; the compiler has
    nothing to map another one to.

    What to do: Split it, which is exact: 4x4 stride 4 is 2x2 stride 2 twice, 5x5 stride 1 without
    padding is 3x3 stride 1 twice.
    """

    id = "PL-1"
    name = "max-pool-kernel"
    clause = "B, max pooling: kernels 2x2 and 3x3."
    kinds = (MAX_POOL,)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per pooling."""
        kernel, sizes = window.kernel(model, node), model.target.max_pool_kernels
        if len(set(kernel)) != 1 or kernel[0] not in sizes:
            allowed = one_of([f"{size}x{size}" for size in sizes])
            yield self.at(model, node, f"kernel {by(kernel)}, it must be {allowed}")
