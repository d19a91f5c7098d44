"""AT-1 to AT-5: the private attributes that each operator carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, input_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity

_TYPES = {
    "float": ir.AttributeType.FLOAT,
    "int": ir.AttributeType.INT,
    "floats": ir.AttributeType.FLOATS,
}
_BIAS_BITS = "bias_bitdepth"


class _Attributes(NodeRule):
    ops: ClassVar[tuple[str, ...]]

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding each for missing, mistyped and superfluous attributes."""
        wanted = dict(model.target.ops.get(node.op_type, {}))
        if _BIAS_BITS in wanted and input_of(node, 2) is None:
            del wanted[_BIAS_BITS]
            if model.attribute(node, _BIAS_BITS) is not None:
                yield self.at(
                    model,
                    node,
                    f"{_BIAS_BITS} without a bias",
                    help=f"remove {_BIAS_BITS}, or add the bias",
                )
        found = {name: model.attribute(node, name) for name in wanted}
        missing = [name for name, attribute in found.items() if attribute is None]
        if missing:
            yield self.at(model, node, f"{node.op_type} lacks {', '.join(missing)}")
        mistyped = [
            f"{name} is {attribute.type.name}, not {_TYPES[wanted[name]].name}"
            for name, attribute in found.items()
            if attribute is not None and attribute.type is not _TYPES[wanted[name]]
        ]
        if mistyped:
            yield self.at(model, node, "; ".join(mistyped), help="write it with the right type")


class LinearAttributes(_Attributes):
    """A convolution or fully connected layer lacks private attributes.

    What it does: Checks that all attributes of the target's list are there with their types, and
    bias_bitdepth exactly if there is a bias.

    Why it matters on the hardware: The compiler derives the requantisation of the layer from them;
    standard ONNX has no place for the numbers.

    What to do: Write the attributes; ``dlaconv ops`` lists them for each operator.
    """

    id = "AT-1"
    name = "missing-linear-attributes"
    clause = (
        "III.B.1: input_scale, input_bitdepth, weight_bitdepth, weight_ch_scales, bias_bitdepth, "
        "output_scale, output_bitdepth."
    )
    ops = ("Conv", "Gemm")


class PoolAttributes(_Attributes):
    """A pooling lacks private attributes.

    What it does: Checks that all attributes of the target's list are there with their types.

    Why it matters on the hardware: The compiler needs the scale on both sides, even though max
    pooling cannot change it.

    What to do: Write the attributes; ``dlaconv ops`` lists them for each operator.
    """

    id = "AT-2"
    name = "missing-pool-attributes"
    clause = "III.B.2: input_scale, input_bitdepth, output_scale, output_bitdepth."
    ops = ("MaxPool", "AveragePool", "GlobalAveragePool")


class MatMulAttributes(_Attributes):
    """A MatMul lacks private attributes.

    What it does: Checks that all attributes of the target's list are there with their types.

    Why it matters on the hardware: A product of two maps has the product of their scales; both must
    be stated.

    What to do: Write the attributes; ``dlaconv ops`` lists them for each operator.
    """

    id = "AT-3"
    name = "missing-matmul-attributes"
    clause = "III.B.3: A_scale, A_bitdepth, B_scale, B_bitdepth, output_scale, output_bitdepth."
    ops = ("MatMul",)


class ElementwiseAttributes(_Attributes):
    """An Add, Div or ReduceSum lacks private attributes.

    What it does: Checks that all attributes of the target's list are there with their types.

    Why it matters on the hardware: These operators choose the scale of their result; that of their
    operands comes from the producers.

    What to do: Write the attributes; ``dlaconv ops`` lists them for each operator.
    """

    id = "AT-4"
    name = "missing-elementwise-attributes"
    clause = "III.B.4: output_scale, output_bitdepth."
    ops = ("Add", "Div", "ReduceSum")


class OtherAttributes(_Attributes):
    """An activation, Concat, Transpose or Reshape lacks private attributes.

    What it does: Checks all other operators for the attributes of the target's list.

    Why it matters on the hardware: The guide lists none for these operators, but its demo and field
    files annotate every node; without them a compiler has to guess that the scale stays.

    What to do: Write the attributes; ``dlaconv ops`` lists them for each operator.
    """

    id = "AT-5"
    name = "missing-other-attributes"
    clause = "Silent; the demo annotates every node."
    severity = Severity.WARNING

    def subjects(self, model: AccessModel) -> Iterable[ir.Node]:
        """Every operator of the target that no other rule of the family looks at."""
        families = (LinearAttributes, PoolAttributes, MatMulAttributes, ElementwiseAttributes)
        taken = {op for family in families for op in family.ops}
        return model.nodes_of(*(op for op in model.target.ops if op not in taken))
