"""Signs that the source takes of float noise."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

_NOISE = 1e-6
"""Of the largest value of a map: a float32 sum of many products is off by as much."""


def before_signs(reference: ir.Model, names: Collection[str]) -> dict[str, str]:
    """Names of what the source takes the sign of, by the names of the signs.

    Args:
        reference: the source at stage IMPORTED.
        names: values to look at; graph inputs, which are exact, are left out of what is found.
    """
    from dlaconv.ir import dialect

    return {
        node.outputs[0].name or "": node.inputs[0].name or ""
        for node in reference.graph
        if dialect.is_bipolar(node)
        and node.outputs[0].name in names
        and node.inputs[0] is not None
        and not node.inputs[0].is_graph_input()
    }


def settle_signs(wanted: np.ndarray, got: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """The source's signs, but the hardware's where the source's are those of float noise.

    Products of steps that are no powers of two do not add up to zero in float32 where the exact sum
    is zero, of which the sign is positive.

    Args:
        wanted: the source's values.
        got: the hardware's values.
        before: what the source takes the sign of, None for a map that holds no signs.
    """
    import numpy as np

    if before is None or before.shape != wanted.shape:
        return wanted
    size = np.abs(before)
    noise = (before < 0) & (size <= size.max(initial=0) * _NOISE) & (got > 0)
    return np.where(noise, got, wanted) if noise.any() else wanted
