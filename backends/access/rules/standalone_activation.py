"""AC-1: activations that have no operator to ride on."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import (
    PIECEWISE,
    PIPELINED,
    AccessModel,
    input_of,
    is_standard,
)
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity

CARRIERS = ("Conv", "Gemm", "MatMul", "Add", "Div", "ReduceSum", "BatchNormalization")
"""Operators on whose way out an activation is applied."""


class StandaloneActivation(NodeRule):
    """A ReLU, LeakyReLU or PReLU does not directly follow an operator that can apply it.

    What it does: Checks that the activation's input comes from a convolution, fully connected
    layer, matrix multiplication or element-wise operator (or the batch norm folded into one), and
    that nothing else reads that result. An activation after an activation is AC-3.

    Why it matters on the hardware: These activations are pipelined behind the accumulator and cost
    nothing there; on a stored map they need a pass of their own, which field users saw fail.

    What to do: Move the activation directly behind its layer (max pooling and ReLU may be swapped),
    or add a 1x1 depth-wise identity convolution to carry it.
    """

    id = "AC-1"
    name = "standalone-activation"
    clause = "B, activations: pipelined ReLU, PReLU, LeakyReLU."
    severity = Severity.WARNING
    ops = PIPELINED

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per activation."""
        source = input_of(node, 0)
        producer = source.producer() if source is not None else None
        if source is None or is_standard(producer, *PIPELINED, *PIECEWISE):
            return
        if not is_standard(producer, *CARRIERS):
            what = "a graph input" if producer is None else producer.op_type
            yield self.at(model, node, f"{node.op_type} follows {what}, which cannot apply it")
        elif len(source.uses()) > 1 or source.is_graph_output():
            yield self.at(
                model,
                node,
                f"{node.op_type} is not the only reader of {source.name!r}, so the map before it "
                "is stored, too",
            )
