"""Weights that are rounded one after another, each making up for those before it.

Rounding weights by e moves a layer's result by ``e x``, whose mean a bias can take and whose power
is ``e H e`` with H the covariance of what the layer reads. Values that neighbours share cancel if
their weights are rounded in opposite directions. So the weights of an output channel are rounded
in turn, those first that read the largest values, and each makes up for what those before it have
lost, such that ``e H e`` grows least:

    q_k = round(w_k + sum (w_j - q_j) R_jk / R_kk  over all j before k),   H = R R^T, R upper

(Frantar and Alistarh, 2022, after Hassibi and Stork's optimal brain surgeon; Chee et al., 2023,
without H's inverse). Steps stay as they are, so nothing changes but integers, most of them by one.
What layers read is rounded itself: that noise of step^2 / 12 lies on H's diagonal.
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
"""Weights of a channel whose losses the others hear of together."""


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
    # turned round, the factor of the Cholesky decomposition is upper: H = R R^T
    factor = np.linalg.cholesky(covariance[np.ix_(order[::-1], order[::-1])])[::-1, ::-1]
    shares = factor / np.diag(factor)
    real, size = np.ascontiguousarray(rows[:, order].T), len(order)
    kept = real != 0  # what is no weight of the source does not become one
    found, lost = np.empty(real.shape), np.empty(real.shape)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        wanted = real[start:stop] + shares[:start, start:stop].T @ lost[:start]
        for j in range(start, stop):
            here = wanted[j - start] + shares[start:j, j] @ lost[start:j]
            found[j] = np.clip(np.rint(here), *limits) * kept[j]
            lost[j] = real[j] - found[j]
    integers = np.empty(rows.shape, np.int8)
    integers[:, order] = found.T
    return integers
