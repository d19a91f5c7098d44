"""What is tried on whole networks that the source leaves in floating point.

Equalisation (`dlaconv.ir.scales.equalise`), bias correction
(`dlaconv.ir.scales.bias_correction`) and weights that are rounded for the results' sake
(`dlaconv.ir.scales.weight_rounding`) help most networks and harm some. So each is applied to a
copy, which is scaled to the end, weights and biases included; it stays if the outputs of the copy
are nearer to the source's on calibration data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.calibration.channels import ChannelValues, channel_values
from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.calibration.effort import multiplications
from dlaconv.ir.calibration.moments import covariances
from dlaconv.ir.execution import Arrays, Executor
from dlaconv.ir.graph import is_op
from dlaconv.ir.pipeline import Context, Rewrite
from dlaconv.ir.scales.bias_correction import correct_biases
from dlaconv.ir.scales.equalise import equalise
from dlaconv.ir.scales.policy import policy_of
from dlaconv.ir.scales.trial import OutputError, without_derived
from dlaconv.ir.scales.weight_rounding import can_be_rounded, round_by_results

_WORK = {0: 0.0, 1: 1e10, 2: 2e11}
"""Multiplications of one run over the samples, by level."""
_SAMPLES = {0: 0, 1: 128, 2: 256}
_FEWEST = 16
"""Half of the samples say what channels are, the other half whether a change helps."""
_GAIN = 0.98
"""A change is kept if it brings the error below this share of what it was."""
_ROUNDED = 10 ** (-0.3 / 10)
"""The same for rounded weights: so many integers suit these data, even those that only judge them,
better than others."""


@dataclass
class Attempt:
    """A network that was scaled in one way.

    Attributes:
        model: at stage SCALED.
        context: what was found on the way.
        gammas: hardware value over real value of the graph inputs and outputs.
    """

    model: ir.Model
    context: Context
    gammas: Mapping[str, float]

    def outputs(self, samples: Sequence[Arrays]) -> Iterator[Arrays]:
        """The outputs for inputs, both in the source's terms."""
        names = [value.name or "" for value in self.model.graph.inputs]
        fed = (
            {name: feeds[name] * np.float32(self.gammas.get(name, 1.0)) for name in names}
            for feeds in samples
        )
        for results in Executor(self.model, samples=len(samples)).run_each(fed, dict):
            yield {name: got / self.gammas[name] for name, got in results.items()}

    def corrected(self, mapped: ir.Model, seen: Mapping[str, ChannelValues]) -> Attempt | None:
        """The same with corrected biases, None if there are none to correct."""
        other = Attempt(self.model.clone(), self.context.branch(), self.gammas)
        changed = correct_biases(other.model, mapped, other.context, seen)
        detail = f"biases of {changed} layers make up for the mean error of their roundings"
        other.context.rewrites.append(Rewrite("bias_correction", "", detail))
        return other if changed else None

    def rounded(self, mapped: ir.Model, seen: Iterable[tuple[str, np.ndarray]]) -> Attempt | None:
        """The same with weights that are rounded for the results' sake, None if none are."""
        other = Attempt(self.model.clone(), self.context.branch(), self.gammas)
        changed = round_by_results(other.model, mapped, other.context, seen)
        detail = f"weights of {changed} layers are rounded such that their errors cancel"
        other.context.rewrites.append(Rewrite("weight_rounding", "", detail))
        return other if changed else None


Scale = Callable[[ir.Model, Context], Attempt]


def tune(model: ir.Model, context: Context, scale: Scale) -> None:
    """Scales a model in the best of the ways that are tried.

    Args:
        model: a MAPPED model; becomes SCALED.
        context: gets what was found on the best way.
        scale: from MAPPED to SCALED, in place.
    """
    data = _affordable(model, context)
    if data is None:
        scale(model, context)
        return
    source = without_derived(model, context)
    inputs = _layer_inputs(source)
    made = {value.name or "" for node in source.graph for value in node.outputs}
    derived = made.intersection(_derived(model, context))  # the network's results are renamed
    seen = channel_values(source, data.part(0, 2), [*sorted(derived), *inputs.values()])
    kept = list(data.part(1, 2))
    reference = Executor(source, samples=len(kept))
    error = OutputError(list(reference.run_each(kept, dict)))
    best = _Best(error, kept)
    for mapped, branch in _variants(model, context, seen):
        ratios = {layer: _ratios(name, seen, context, branch) for layer, name in inputs.items()}
        tried = _Way(mapped, scale(mapped.clone(), branch), ratios)
        best.offer(tried, tried.attempt, _GAIN)
        best.offer(tried, tried.attempt.corrected(mapped, tried.read(inputs, seen)), _GAIN)
    way = best.way
    assert way is not None
    free = {node.name for node in way.mapped.graph if can_be_rounded(node, way.attempt.context)}
    layers = [node for node in source.graph if node.name in inputs.keys() & free]
    means = {layer: seen[name].values.mean(axis=1) for layer, name in inputs.items()}
    together = covariances(source, data.part(0, 2), layers, means)
    rounded = way.attempt.rounded(way.mapped, way.varying(together))
    if rounded is not None:
        centred = rounded.corrected(way.mapped, way.read(inputs, seen))
        best.offer(way, centred or rounded, _ROUNDED)
    assert best.attempt is not None
    model.graph = best.attempt.model.graph
    context.merge(best.attempt.context)


@dataclass(frozen=True)
class _Way:
    """A variant of the network, scaled.

    Attributes:
        mapped: the variant.
        attempt: what it became.
        ratios: what the input of each layer was multiplied by, ``[C]``, by name of the layer; None
            for those that were not.
    """

    mapped: ir.Model
    attempt: Attempt
    ratios: Mapping[str, np.ndarray | None]

    def read(
        self, inputs: Mapping[str, str], seen: Mapping[str, ChannelValues]
    ) -> dict[str, ChannelValues]:
        """What each layer reads, from what the values of the network were."""
        return {
            layer: seen[name] if (ratio := self.ratios[layer]) is None else seen[name].times(ratio)
            for layer, name in inputs.items()
        }

    def varying(
        self, covariances: Iterable[tuple[str, np.ndarray]]
    ) -> Iterator[tuple[str, np.ndarray]]:
        """How what each layer reads varies together, from how the network's values did."""
        for layer, found in covariances:
            if (ratio := self.ratios[layer]) is not None:
                groups, size = found.shape[:2]
                factors = np.repeat(ratio, groups * size // len(ratio)).reshape(groups, size)
                found *= factors[:, :, None]
                found *= factors[:, None, :]
            yield layer, found


class _Best:
    """The attempt whose outputs are nearest to the source's."""

    def __init__(self, error: OutputError, samples: Sequence[Arrays]) -> None:
        self._error, self._samples = error, samples
        self._least = np.inf
        self.way: _Way | None = None
        self.attempt: Attempt | None = None

    def offer(self, way: _Way, attempt: Attempt | None, gain: float) -> None:
        """Takes an attempt if it brings the error below a share of the best one's."""
        if attempt is None:
            return
        found = self._error.of(attempt.outputs(self._samples))
        if self.attempt is None or found < self._least * gain:
            self.way, self.attempt, self._least = way, attempt, found


def _variants(
    model: ir.Model, context: Context, seen: Mapping[str, ChannelValues]
) -> Iterator[tuple[ir.Model, Context]]:
    """MAPPED models to scale, each with a context that says how long to search."""
    equal, changed = model.clone(), context.branch()
    levels = range(1, context.optimise + 1)
    mapped = [(model, context)]
    if equalise(equal, changed, seen):
        mapped.append((equal, changed))
    for variant, found in mapped:
        for level in levels:
            branch = found.branch()
            branch.optimise = level
            yield variant, branch


def _ratios(
    name: str, seen: Mapping[str, ChannelValues], context: Context, branch: Context
) -> np.ndarray | None:
    """What the channels of a map were multiplied by in a variant of the network, ``[C]``."""
    ratio = branch.channel_ratios.get(name)
    if ratio is None or name in context.channel_ratios:
        return None
    found: np.ndarray = np.broadcast_to(ratio.reshape(-1), len(seen[name].largest))
    return found


def _affordable(model: ir.Model, context: Context) -> Dataset | None:
    """The samples on which whole networks are compared, None if that is not worth the time."""
    if context.calibration is None or not context.covers or not policy_of(context).keeps_integers:
        return None
    level = context.optimise
    affordable = int(_WORK[level] // max(multiplications(model), 1))
    data = context.calibration.first(min(_SAMPLES[level], affordable))
    return data if len(data) >= _FEWEST else None


def _derived(model: ir.Model, context: Context) -> list[str]:
    """Names of the unrounded values of maps that the source does not quantise."""
    quantisers = [node for node in model.graph if dialect.is_quantize(node)]
    return [
        node.inputs[0].name or ""
        for node in quantisers
        if node.inputs[0] is not None and node.outputs[0].name in context.derived
    ]


def _layer_inputs(source: ir.Model) -> dict[str, str]:
    """The value that each linear layer reads, by name of the layer."""
    return {
        node.name or "": node.inputs[0].name or ""
        for node in source.graph
        if is_op(node, "Conv", "Gemm") and node.inputs[0] is not None
    }
