"""AT-6, AT-8: attribute names that a file should not use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity


class DeprecatedAttribute(NodeRule):
    """A node carries an attribute that the guide has withdrawn.

    What it does: Looks for the target's deprecated attribute names on every node.

    Why it matters on the hardware: One weight scale per layer was replaced by one per channel; a
    file with both leaves open which one the compiler takes.

    What to do: Remove the attribute; weight_ch_scales says all.
    """

    id = "AT-6"
    name = "deprecated-attribute"
    clause = "III.B.1: weight_scale and bias_scale are deprecated."

    def subjects(self, model: AccessModel) -> Iterable[ir.Node]:
        """Every node."""
        return model.nodes

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per node."""
        used = [name for name in model.target.deprecated_attributes if name in node.attributes]
        if used:
            yield self.at(model, node, f"{', '.join(used)} must not be used")


class DemoAttribute(NodeRule):
    """A node carries an attribute under the name of the guide's demo.

    What it does: Looks for the target's alias names on every node. dlaconv reads them as the
    attributes that they stand for, and never writes them.

    Why it matters on the hardware: The demo's code and the guide's list differ in names; only the
    list is normative.

    What to do: Rename weight_bit to weight_bitdepth, and activation_bit to input_bitdepth and
    output_bitdepth.
    """

    id = "AT-8"
    name = "demo-attribute"
    clause = "The demo adds weight_bit and activation_bit to every node; III.B names *_bitdepth."
    severity = Severity.WARNING

    def subjects(self, model: AccessModel) -> Iterable[ir.Node]:
        """Every node."""
        return model.nodes

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per node."""
        aliases = model.target.attribute_aliases
        used = [f"{name} stands for {aliases[name]}" for name in aliases if name in node.attributes]
        if used:
            yield self.at(model, node, "; ".join(used))
