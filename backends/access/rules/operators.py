"""GR-3: the operators that the hardware has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, is_standard
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic

_REMEDIES = {
    "Mul": "a constant factor is a 1x1 depth-wise convolution; fold it into the layer before",
    "Sub": "negate the second operand's producer and use Add",
    "Sum": "write it as a chain of Add, two operands each",
    "Pad": "move the padding into the convolution that follows",
    "Clip": "use Relu, and choose the output scale so that the largest integer is the upper bound",
    "HardSigmoid": "x * HardSigmoid(x) is HardSwish; write it as one operator",
    "ConvTranspose": "a convolution makes the phases of its result as channels, which Reshape and "
    "Transpose put together; a conversion does it",
    "Slice": "a convolution with a one in each kernel picks the same; a conversion does it",
    "Resize": "whole factors in mode nearest are a 1x1 convolution, Reshape and Transpose; a "
    "conversion does it",
    "DepthToSpace": "write it as Reshape, Transpose and Reshape",
    "SpaceToDepth": "write it as Reshape, Transpose and Reshape",
    "Softmax": "end the network before it and run it on the host",
    "Identity": "remove it",
    "Dropout": "remove it: it does nothing at inference",
    "GlobalMaxPool": "use MaxPool with the kernels that the hardware has, several in a row",
    "ReduceMean": "over height and width it is GlobalAveragePool",
    "QuantizeLinear": "this is a QDQ file, not an ACCESS one; convert it first",
    "DequantizeLinear": "this is a QDQ file, not an ACCESS one; convert it first",
    "FusedConv": "this file was optimised for onnxruntime; export it without optimisation",
}


class UnsupportedOperator(NodeRule):
    """The network uses an operator, or a result of one, that the hardware does not have.

    What it does: Checks every node of the main graph against the target's list of operators;
    constants are no operators. Also checks that nothing reads a second result (MaxPool indices,
    batch statistics).

    Why it matters on the hardware: Every operator runs on a fixed unit of the accelerator; the
    compiler has no fallback to a processor.

    What to do: Replace the operator by supported ones, or end the network before it and run the
    rest on the host. ``dlaconv ops`` lists what is supported.
    """

    id = "GR-3"
    name = "unsupported-operator"
    clause = "B: the list of supported operations."

    def subjects(self, model: AccessModel) -> Iterable[ir.Node]:
        """Every node."""
        return model.nodes

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields a finding for an unknown operator or a second result that is used."""
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        if not is_standard(node, *model.target.ops):
            yield self.at(
                model,
                node,
                f"{name} is no operator of {model.target.name}",
                help=_REMEDIES.get(node.op_type, ""),
            )
            return
        for index, value in enumerate(node.outputs[1:], 2):
            if value.uses() or value.is_graph_output():
                yield self.at(
                    model,
                    node,
                    f"result {index} of {name} ({value.name!r}) is used, but the hardware makes "
                    "only the first",
                    help="compute what needs it on the host",
                )
