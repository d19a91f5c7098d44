"""FC-2: the form of fully connected layers."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Malformed
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic

_FORM = {"alpha": 1, "beta": 1, "transA": 0, "transB": 1}
_ONNX_DEFAULTS = {"alpha": 1, "beta": 1, "transA": 0, "transB": 0}


class GemmForm(NodeRule):
    """A Gemm is no plain fully connected layer.

    What it does: Checks that alpha = beta = 1, transA = 0 and transB = 1.

    Why it matters on the hardware: The weights of output channel c are row c of the matrix, as
    weight_ch_scales has one entry per row; there is no multiplication by alpha or beta.

    What to do: Transpose the weights, and multiply alpha and beta into weights and bias.
    """

    id = "FC-2"
    name = "gemm-form"
    clause = "Silent; the form in which PyTorch exports a fully connected layer."
    ops = ("Gemm",)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per Gemm."""
        wrong = []
        for name, wanted in _FORM.items():
            value = model.number(node, name)
            if value is None and name in node.attributes:
                raise Malformed(f"{name} is no number")
            value = _ONNX_DEFAULTS[name] if value is None else value
            if value != wanted:
                wrong.append(f"{name} is {value:g}, not {wanted}")
        if wrong:
            yield self.at(model, node, "; ".join(wrong))
