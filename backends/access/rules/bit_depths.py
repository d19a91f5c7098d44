"""AT-7: bit depths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, is_standard
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic


class BitDepth(NodeRule):
    """A bit depth is one that the hardware does not have.

    What it does: Checks every attribute ending in _bitdepth: maps, weights and biases have one
    width each.

    Why it matters on the hardware: The guide allows one width for maps and weights and one for
    biases.

    What to do: Quantise to these widths. Integers of fewer bits fit; state the hardware's width for
    them.
    """

    id = "AT-7"
    name = "bit-depth"
    clause = "III.B: bit depth 'Integer in [8]', for the bias '[16]'."

    def subjects(self, model: AccessModel) -> Iterable[ir.Node]:
        """Every node of an operator that the target knows."""
        return (node for node in model.nodes if is_standard(node, *model.target.ops))

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per node."""
        target = model.target
        widths = {"weight_bitdepth": target.weight_bits, "bias_bitdepth": target.bias_bits}
        wrong = []
        for name in target.ops[node.op_type]:
            if not name.endswith("_bitdepth"):
                continue
            bits, width = model.number(node, name), widths.get(name, target.map_bits)
            if bits is not None and bits != width:
                wrong.append(f"{name} is {bits:g}, not {width}")
        if wrong:
            yield self.at(model, node, "; ".join(wrong))
