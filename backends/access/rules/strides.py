"""CV-4, DW-4, PL-3: strides."""

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
from dlaconv.backends.access.rules.wording import by, one_of
from dlaconv.diagnostics import Diagnostic, Severity


class _Strides(WindowRule):
    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per window."""
        allowed, strides = self.limits(model, node).strides, window.strides(model, node)
        if not set(strides) <= set(allowed):
            yield self.at(model, node, f"stride {by(strides)}, each must be {one_of(allowed)}")
        elif len(set(strides)) > 1:
            yield self.at(
                model,
                node,
                f"stride {by(strides)} differs between height and width, of which the guide does "
                "not speak",
                severity=Severity.WARNING,
            )


class ConvStride(_Strides):
    """A convolution's stride is one that the hardware does not have.

    What it does: Checks the stride of both axes; different strides for height and width are a
    warning, since the guide does not speak of them.

    Why it matters on the hardware: The guide lists the steps by which a window can move; there is
    no parameter for others.

    What to do: Use stride 2 and pool afterwards, or a strided 1x1 convolution in a second step.
    """

    id = "CV-4"
    name = "conv-stride"
    clause = "B.2: stride 1 and 2."
    kinds = (CONV,)


class DepthwiseStride(_Strides):
    """A depth-wise convolution's stride is one that the hardware does not have.

    What it does: Checks the stride of both axes; different strides for height and width are a
    warning.

    Why it matters on the hardware: The guide lists the steps by which a window can move; there is
    no parameter for others.

    What to do: Use stride 2 and pool afterwards.
    """

    id = "DW-4"
    name = "depthwise-stride"
    clause = "B, depth-wise convolution: stride 1 and 2."
    kinds = (DEPTHWISE,)


class PoolStride(_Strides):
    """A pooling's stride is one that the hardware does not have.

    What it does: Checks the stride of both axes; different strides for height and width are a
    warning. Global pooling has no stride.

    Why it matters on the hardware: The guide lists the steps by which a window can move; there is
    no parameter for others.

    What to do: Split the pooling: 4x4 stride 4 is 2x2 stride 2 twice (exact for max pooling).
    """

    id = "PL-3"
    name = "pool-stride"
    clause = "B, pooling: stride 1 and 2."
    kinds = (MAX_POOL, AVERAGE_POOL)
