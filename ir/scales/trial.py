"""What a plan does to the network's output, on data.

One session serves every trial: the steps of the maps are inputs of its graph. The reference is the
source's network, without the roundings that it does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.calibration.effort import affordable, multiplications
from dlaconv.ir.execution import Arrays, Executor
from dlaconv.ir.graph import bypass, register_constants, replace_node
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.scales.cost import hardware_range
from dlaconv.ir.scales.groups import Grouping
from dlaconv.ir.scales.solver import Plan

_TRIALS = {0: 0, 1: 96, 2: 960}
_ON_DATA, _ON_RANDOM_INPUTS = {0: 0.0, 1: 2e11, 2: 4e12}, 2e10
"""Multiplications that all trials together may take; random inputs are not worth more."""
_FLOAT_SHARE = 0.2
"""Of the samples and multiplications of level 1, where the source is in floating point: then all
maps are tried together before one is, and calibration itself should take the longest."""
_FEWEST = 24
"""Trials of that level: fewer find little, and calibration is over before they are prepared."""


class OutputError:
    """Noise over signal of a network's outputs, the mean over samples.

    Each sample counts alike, however large its values are: what a network answers to one input does
    not depend on its answers to others. Only where there is less signal than in the median sample
    (a single number may be near zero, a ReLU may leave nothing), noise counts over that: else that
    sample would decide for all others.
    """

    def __init__(self, wanted: Sequence[Arrays]) -> None:
        """Takes the source's outputs, sample by sample."""
        self._wanted = wanted
        self._least: dict[str, float] = {}
        for name in wanted[0] if wanted else ():
            powers = [power for outputs in wanted if (power := _power(outputs[name]))]
            self._least[name] = float(np.median(powers)) if powers else 1.0

    def of(self, outputs: Iterable[Arrays]) -> float:
        """The error of another network's outputs for the same samples."""
        total = 0.0
        for got, wanted in zip(outputs, self._wanted, strict=True):
            for name, values in got.items():
                signal = max(_power(wanted[name]), self._least[name])
                total += _power(values - wanted[name]) / signal
        return total / len(self._wanted)


def _power(values: np.ndarray) -> float:
    values = values.astype(np.float64)
    return float(np.vdot(values, values))


def without_derived(model: ir.Model, context: Context) -> ir.Model:
    """A copy of a MAPPED model as its source computes it: no roundings but the source's own."""
    copy = model.clone()
    for node in list(copy.graph):
        name = node.outputs[0].name or ""
        if not dialect.is_quantize(node) or name not in context.derived:
            continue
        if name in context.clips:
            ends = [
                dialect.constant(f"{name}/{end}", np.asarray(limit, np.float32))
                for end, limit in zip(("low", "high"), context.clips[name], strict=True)
            ]
            clip = ir.node("Clip", [node.inputs[0], *ends], name=f"{node.name}/clip")
            register_constants(copy.graph, [clip])
            replace_node(node, clip)
        else:
            bypass(node)
    return copy


class Trial:
    """The source's network with the hardware's map steps as inputs.

    Attributes:
        left: how many trials are left.
    """

    def __init__(self, model: ir.Model, grouping: Grouping, context: Context) -> None:
        """Counts what can be tried; nothing is run before the first trial.

        Args:
            model: the MAPPED model.
            grouping: its maps.
            context: its inputs are what the network is tried on, as many as are affordable.
        """
        assert context.inputs is not None
        self._model, self._grouping, self._context = model, grouping, context
        level = context.optimise
        share = _FLOAT_SHARE if context.covers and level == 1 else 1.0
        self._data = affordable(model, context.inputs, share)
        work = len(self._data) * max(multiplications(model), 1)
        budget = share * _ON_DATA[level]
        if not context.calibration:
            budget = min(_ON_RANDOM_INPUTS, budget)
        self.left = int(min(_TRIALS[level], budget // max(work, 1)))
        if share < 1 and self.left < _FEWEST:
            self.left = 0
        self._quantised: Executor | None = None
        self._feeds: list[Arrays] = []
        self._error = OutputError([])

    def error(self, plan: Plan) -> float:
        """Noise over signal of the outputs, the mean over samples; see `OutputError`."""
        if self._quantised is None:
            self._quantised = self._prepare()
        self.left -= 1
        steps = {
            _step_input(variable.name): np.array(plan[group].step(item), np.float32)
            for group in self._grouping.groups
            for item in group.classes
            for variable in item.maps
        }
        outputs = self._quantised.run_each((feeds | steps for feeds in self._feeds), dict)
        return self._error.of(outputs)

    def _prepare(self) -> Executor:
        self._feeds = list(self._data)  # reading them again may mean decoding pictures
        count = len(self._feeds)
        reference = Executor(without_derived(self._model, self._context), samples=count)
        self._error = OutputError(list(reference.run_each(self._feeds, dict)))
        return Executor(self._parametrised(), samples=count)

    def _parametrised(self) -> ir.Model:
        copy = self._model.clone()
        nodes = {node.name: node for node in copy.graph if dialect.is_quantize(node)}
        for group in self._grouping.groups:
            for item in group.classes:
                low, high = hardware_range(item, self._context.target)
                for variable in item.maps:
                    old = nodes[variable.node.name]
                    x, result = old.inputs[0], old.outputs[0]
                    assert x is not None
                    zero = np.zeros((), np.float32)
                    fresh = dialect.quantize(
                        x, Quantisation(zero + 1, zero, low, high), name=f"trial/{old.name}"
                    )
                    step = ir.val(
                        _step_input(variable.name), dtype=ir.DataType.FLOAT, shape=ir.Shape(())
                    )
                    fresh.replace_input_with(1, step)
                    copy.graph.inputs.append(step)
                    copy.graph.insert_before(old, fresh)
                    zero_point = fresh.inputs[2]
                    assert zero_point is not None
                    copy.graph.register_initializer(zero_point)
                    result.replace_all_uses_with(fresh.outputs[0], replace_graph_outputs=True)
                    copy.graph.remove(old, safe=True)
                    result.name, fresh.outputs[0].name = f"{result.name}/old", result.name
        return copy


def _step_input(name: str) -> str:
    return f"step of {name}"
