"""Weights that are rounded one after another, each making up for those before it.

Rounding weights by e moves a layer's result by ``e x``, whose mean a bias can take and whose power
is ``e H e`` with H the covariance of what the layer reads. Values that neighbours share cancel if
their weights are rounded in opposite directions. So the weights of an output channel are rounded
in turn, those first that read the largest values, and what one of them loses is spread over those
that are still real, such that ``e H e`` grows least:

    w_k -= (w_j - q_j) U_jk / U_jj  for all k behind j,   H^-1 = U^T U

(Frantar and Alistarh, 2022, after Hassibi and Stork's optimal brain surgeon). Steps stay as they
are, so nothing changes but integers, most of them by one. What layers read is rounded itself: that
noise of step^2 / 12 lies on H's diagonal.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.blocks import in_parallel
from dlaconv.ir.graph import drop_unread, insert_before, producer
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.scales.bias_correction import quantiser_of, result_of

_BLOCK = 64
"""Weights of a channel that are rounded before the others hear of it."""


def round_by_results(
    model: ir.Model, source: ir.Model, context: Context, seen: Iterable[tuple[str, np.ndarray]]
) -> int:
    """Rounds weights anew, which the source leaves in floating point, for the results' sake.

    Layers whose weights the user has rounded stay as they are.

    Args:
        model: a SCALED model, changed in place.
        source: the MAPPED model that it was.
        context: what was found when it was scaled.
        seen: covariance of what a layer reads, ``[G, K, K]`` in the source's terms, by its name.

    Returns:
        Number of layers with other weights.
    """
    layers = {node.name: node for node in model.graph}
    before = {node.name: node for node in source.graph}
    changed = 0
    for name, covariance in seen:
        weights = weights_of(before[name])
        assert weights is not None
        changed += _round(layers[name], weights.array, covariance, context)
    drop_unread(model.graph)
    return changed


def can_be_rounded(node: ir.Node, context: Context) -> bool:
    """True for a layer of a MAPPED model whose weights are real, and rounded by us."""
    weights = weights_of(node)
    return (
        weights is not None
        and weights.steps is None
        and node.name not in context.gains | context.thresholds
        and f"{node.name}/weights" not in context.overrides.asked
    )


def _round(node: ir.Node, weights: np.ndarray, covariance: np.ndarray, context: Context) -> bool:
    holder, stored = producer(node.inputs[1]), node.inputs[0]
    assert holder is not None
    assert stored is not None
    old, steps = dialect.array_of(holder.inputs[0]), dialect.step_of(holder)
    into, out = (context.gammas[value.name or ""] for value in (stored, result_of(node)))
    unit = float(dialect.quantisation_of(quantiser_of(stored)).scalar_step) / into
    groups, size = covariance.shape[:2]
    noise = covariance + np.eye(size) * (unit**2 / 12)
    if not np.isfinite(noise).all():
        return False
    rows = weights.reshape(len(weights), -1) / (
        steps.astype(np.float64).reshape(-1, 1) * (into / out)
    )
    rows = rows.reshape(groups, -1, size)
    fresh = np.empty(rows.shape, np.int8)

    def of_group(group: int) -> None:
        fresh[group] = rounded(rows[group], noise[group], context.target.weight_range)

    in_parallel(of_group, range(groups))
    integers = fresh.reshape(old.shape)
    if (integers == old).all():
        return False
    replacement = dialect.dequantize(
        dialect.constant(f"{node.name}/W_int", integers),
        steps,
        name=holder.name or "",
        output=holder.outputs[0].name or "",
    )
    insert_before(node, replacement)
    node.replace_input_with(1, replacement.outputs[0])
    return True


def rounded(rows: np.ndarray, covariance: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """Integers of real weights in units of their steps.

    Args:
        rows: float64 ``[O, K]``.
        covariance: float64 ``[K, K]``, positive definite.
        limits: smallest and largest integer.

    Returns:
        int8 ``[O, K]``.
    """
    order = np.argsort(-np.diag(covariance), kind="stable")
    inverse = np.linalg.inv(covariance[np.ix_(order, order)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    left, size = np.ascontiguousarray(rows[:, order].T), len(order)
    kept = left != 0  # what is no weight of the source does not become one
    found = np.empty(left.shape)
    for start in range(0, size, _BLOCK):
        block = slice(start, min(start + _BLOCK, size))
        lost = np.empty((block.stop - start, left.shape[1]))
        for j in range(start, block.stop):
            found[j] = np.clip(np.rint(left[j]), *limits) * kept[j]
            lost[j - start] = (left[j] - found[j]) / upper[j, j]
            left[j + 1 : block.stop] -= np.outer(upper[j, j + 1 : block.stop], lost[j - start])
        left[block.stop :] -= upper[block, block.stop :].T @ lost
    integers = np.empty(rows.shape, np.int8)
    integers[:, order] = found.T
    return integers
