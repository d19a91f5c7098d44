"""What the handlers of a frontend have in common: one function per operator of the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlaconv.diagnostics import Diagnostics

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass
class Import:
    """A model on its way to stage IMPORTED.

    Attributes:
        model: changed in place.
        diagnostics: takes what cannot be imported; handlers go on after adding to it.
    """

    model: ir.Model
    diagnostics: Diagnostics = field(default_factory=Diagnostics)

    def refuse(
        self,
        node: ir.Node,
        rule: str,
        name: str,
        message: str,
        *,
        remedy: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        """Adds an error at a node.

        Args:
            node: the node that cannot be imported.
            rule: id of the diagnostic.
            name: name of the diagnostic.
            message: what is wrong, with the numbers.
            remedy: what the user can do about it.
            notes: why it matters.
        """
        from dlaconv.ir import provenance

        self.diagnostics.error(
            rule,
            name,
            message,
            location=provenance.location(node, self.model),
            help=remedy,
            notes=notes,
        )


Handler = Callable[["ir.Node", Import], None]
"""Replaces a node of the source in place, or adds a diagnostic and leaves it alone."""
