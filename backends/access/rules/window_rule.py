"""`WindowRule`: rules on convolutions and poolings, by kind of window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.ir.target import KernelLimits

CONV, DEPTHWISE, MAX_POOL, AVERAGE_POOL = "conv", "depthwise", "max_pool", "average_pool"


class WindowRule(NodeRule):
    """A rule on some kinds of window, each with limits of its own in the target.

    Attributes:
        kinds: what the rule looks at.
    """

    kinds: ClassVar[tuple[str, ...]]

    def subjects(self, model: AccessModel) -> Iterator[ir.Node]:
        """The nodes of the rule's kinds."""
        nodes: dict[str, Iterable[ir.Node]] = {
            CONV: model.standard_convolutions,
            DEPTHWISE: model.depthwise_convolutions,
            MAX_POOL: model.nodes_of("MaxPool"),
            AVERAGE_POOL: model.nodes_of("AveragePool"),
        }
        for kind in self.kinds:
            yield from nodes[kind]

    def limits(self, model: AccessModel, node: ir.Node) -> KernelLimits:
        """What the target allows for a node's kind of window."""
        target = model.target
        if node.op_type == "Conv":
            return target.depthwise if model.is_depthwise(node) else target.conv
        return target.max_pool if node.op_type == "MaxPool" else target.average_pool
