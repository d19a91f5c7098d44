"""AC-3: one activation per layer."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import PIECEWISE, PIPELINED, AccessModel, input_of, is_standard
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity


class ActivationChain(NodeRule):
    """An activation directly follows another one.

    What it does: Checks that the input of an activation does not come from an activation.

    Why it matters on the hardware: A layer's activation is one setting: a pipelined function, a
    piecewise-linear one, or disabled. A second one needs a pass of its own over the stored map.

    What to do: Merge the two (ReLU after ReLU, ReLU after Sigmoid do nothing), or put a 1x1
    depth-wise identity convolution between them.
    """

    id = "AC-3"
    name = "activation-chain"
    clause = "B, activations: pipelined function, piecewise-linear function or 'Disable'."
    severity = Severity.WARNING
    ops = (*PIPELINED, *PIECEWISE)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per activation."""
        source = input_of(node, 0)
        before = source.producer() if source is not None else None
        if before is not None and is_standard(before, *self.ops):
            yield self.at(model, node, f"{node.op_type} follows {before.op_type}")
