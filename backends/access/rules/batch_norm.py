"""BN-1: batch norms that cannot be folded."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, input_of, is_standard
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic

_CARRIERS = ("Conv", "Gemm", "MatMul")


class StandaloneBatchNorm(NodeRule):
    """A batch norm does not directly follow a layer that can absorb it.

    What it does: Checks that a batch norm's input comes from a convolution, fully connected layer
    or matrix multiplication that nothing else reads. Files that dlaconv writes have none.

    Why it matters on the hardware: A batch norm is multiplied into the weights of the layer before
    it; there is no unit for it.

    What to do: Fold it with dlaconv. A batch norm that stands alone becomes a 1x1 depth-wise
    convolution.
    """

    id = "BN-1"
    name = "standalone-batch-norm"
    clause = "B, batch normalisation: follows a convolution or matrix multiplication."
    ops = ("BatchNormalization",)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per batch norm."""
        source = input_of(node, 0)
        producer = source.producer() if source is not None else None
        if source is None or not is_standard(producer, *_CARRIERS):
            what = "a graph input" if producer is None else producer.op_type
            yield self.at(model, node, f"it follows {what}, not {', '.join(_CARRIERS)}")
        elif len(source.uses()) > 1 or source.is_graph_output():
            yield self.at(model, node, f"{source.name!r} before it is used elsewhere, too")
