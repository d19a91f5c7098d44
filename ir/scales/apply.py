"""Puts a plan into the graph: from MAPPED to SCALED."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import ConversionError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    bypass,
    consumers,
    drop_unread,
    insert_before,
    is_op,
    producer,
    replace_node,
    shape_of,
)
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.scales.centred import centred_bias
from dlaconv.ir.scales.cost import clip_range, hardware_range
from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.groups import Grouping, MapVariable, StepClass
from dlaconv.ir.scales.policy import policy_of
from dlaconv.ir.scales.records import bias_record, map_record, weight_record
from dlaconv.ir.scales.solver import Plan
from dlaconv.ir.scales.thresholds import scale_threshold
from dlaconv.ir.scales.weight_overrides import weight_scaling
from dlaconv.ir.scales.weights import (
    LinearScaling,
    ScaledWeights,
    scale_gains,
    scale_row_gains,
)

_CENTRE = {
    Rounding.FLOOR: -0.5,
    Rounding.CEIL: 0.5,
}
"""Mean error of a directed rounding, in units; the nearest modes have none."""
_SMALLEST, _LARGEST = -126, 127
"""Powers of two that float32 holds in full precision: steps are stored in it."""
_SAME_STEP = 0.01
"""Two steps this close (relative) have the same half unit, which is what a bias can make up for."""


def apply_plan(model: ir.Model, grouping: Grouping, plan: Plan, context: Context) -> None:
    """Replaces every step by the plan's, and every weight and bias by its integers.

    Args:
        model: a MAPPED model; becomes SCALED.
        grouping: the groups of the model.
        plan: the steps.
        context: target, policy and convention; receives records and gammas.

    Raises:
        ConversionError: naming every step that float32 cannot hold.
    """
    _Applier(model, grouping, plan, context).apply()


class _Applier:
    def __init__(self, model: ir.Model, grouping: Grouping, plan: Plan, context: Context) -> None:
        self.model, self.grouping, self.plan, self.context = model, grouping, plan, context
        self.grid = WeightGrid(context.convention)
        self.policy = policy_of(context)
        self.problems: list[Diagnostic] = []

    def apply(self) -> None:
        for item in self.grouping.class_of.values():
            plan = self.plan[self.grouping.group_of[item]]
            if not _SMALLEST <= plan.hardware_exponent(item) <= _LARGEST:
                step = f"2^{plan.hardware_exponent(item)}"
                self._out_of_range(item.maps[0].node, f"the map needs a step of {step}")
        if not self.problems:
            for node in [node for node in self.model.graph if is_op(node, "Conv", "Gemm")]:
                self._scale_layer(node)
        if self.problems:
            raise ConversionError([*self.context.diagnostics, *self.problems])
        for value, item in self.grouping.class_of.items():
            gamma = self.plan[self.grouping.group_of[item]].gamma
            self.context.gammas[value.name or ""] = gamma
        for group in self.grouping.groups:
            for item in group.classes:
                for variable in item.maps:
                    self._map(variable, item)
        for node in self.model.graph:
            if dialect.is_bipolar(node):  # the host takes the sign
                bypass(node)
        drop_unread(self.model.graph)  # the source's weights and steps

    def _steps(self, item: StepClass) -> tuple[float, float]:
        """The hardware step and gamma of a step class."""
        plan = self.plan[self.grouping.group_of[item]]
        return 2.0 ** plan.hardware_exponent(item), plan.gamma

    def _map(self, variable: MapVariable, item: StepClass) -> None:
        node = variable.node
        limits = hardware_range(item, self.context.target)
        step, gamma = self._steps(item)
        record = map_record(variable, step, gamma, limits, self.context, self.model)
        self.context.records.append(record)
        x = node.inputs[0]
        assert x is not None
        quantisation = Quantisation(
            np.array(step, np.float32), np.zeros((), np.float32), limits[0], limits[1]
        )
        fresh = dialect.quantize(x, quantisation, name=node.name or "", output=record.name)
        replace_node(node, fresh)

    def _scale_layer(self, node: ir.Node) -> None:
        source, result = self._maps(node)
        step_in, gamma_in = self._steps(self.grouping.class_of[source])
        item = self.grouping.class_of[result.outputs[0]]
        step_out, gamma_out = self._steps(item)
        scaling = LinearScaling(step_in, step_out, gamma_in, gamma_out)
        bias = self._bias(node, result)
        target = self.context.target
        ours = node.name in self.context.gains
        threshold = node.name in self.context.thresholds
        if ours and not threshold:  # an identity, sum or average
            self._scale_gains(node, source, bias, scaling)
            return
        holder = producer(node.inputs[1])
        steps = None
        if holder is not None:
            values = dialect.array_of(holder.inputs[0])
            steps = _per_channel(dialect.step_of(holder), len(values))
        else:
            values = dialect.array_of(node.inputs[1])
        if threshold:
            assert bias is not None
            scaled = scale_threshold(values, steps, bias, scaling, target, self.grid)
        else:
            choose, target = weight_scaling(node, steps, self.context)
            scaled = choose(values, steps, bias, scaling, target, self.grid)
            if steps is None and self.context.centres:
                centred = centred_bias(node, values, bias, scaled, scaling, self.context)
                scaled = choose(values, steps, centred, scaling, target, self.grid)
                if centred is not bias:
                    real = np.zeros(len(values)) if bias is None else bias
                    self.context.uncentred[node.name or ""] = real
        self._replace_constants(node, scaled, scaling)
        if ours:
            return
        layer = provenance.location(node).layer
        asked = self.context.overrides.asked.get(f"{node.name}/weights")
        record = weight_record(node, layer, steps, scaled, target.weight_bits, asked)
        self.context.records.append(record)
        if scaled.bias is not None:
            self.context.records.append(bias_record(node, layer, scaled, scaling))

    def _scale_gains(
        self, node: ir.Node, source: ir.Value, bias: np.ndarray | None, scaling: LinearScaling
    ) -> None:
        """Chooses integers and step of a layer of ours; each operand has a gamma of its own."""
        holder = producer(node.inputs[1])
        assert holder is not None
        pattern = dialect.array_of(holder.inputs[0])
        steps = _per_channel(dialect.step_of(holder), len(pattern))
        joined = producer(source)
        free, target = replace(scaling, gamma_in=1.0), self.context.target
        if (source.name or "") in self.context.sums and joined is not None:
            gain = float(steps[0])
            gains = np.concatenate([self._gain_of(value, gain) for value in joined.inputs])
            scaled = scale_gains(pattern, gains, bias, free, target, self.grid)
        else:
            gains = steps / scaling.gamma_in
            scaled = scale_row_gains(pattern, gains, bias, free, target, self.grid)
            wanted = np.abs(gains) * scaling.gamma_out
            integers = np.abs(scaled.integers.astype(np.float64)).reshape(len(pattern), -1)
            met = integers.max(axis=1) * scaled.steps
            self.context.gain_errors[node.name or ""] = np.abs(met / wanted - 1)
        self._replace_constants(node, scaled, scaling)

    def _gain_of(self, value: ir.Value | None, gain: float) -> np.ndarray:
        assert value is not None
        _, gamma = self._steps(self.grouping.class_of[value])
        return np.full((shape_of(value) or (0, 0))[1], gain / gamma)

    def _maps(self, node: ir.Node) -> tuple[ir.Value, ir.Node]:
        """The stored map that a linear layer reads, and the quantiser of its result."""
        source = node.inputs[0]
        following = consumers(node.outputs[0])[0]
        if not dialect.is_quantize(following):
            following = consumers(following.outputs[0])[0]
        assert source is not None
        return source, following

    def _bias(self, node: ir.Node, result: ir.Node) -> np.ndarray | None:
        """The real bias, with what turns the hardware's rounding into the source's."""
        has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
        bias = dialect.array_of(node.inputs[2]).astype(np.float64) if has_bias else None
        source = dialect.quantisation_of(result)
        following = consumers(node.outputs[0])[0]
        if is_op(following, "LeakyRelu", "PRelu") or not self.policy.keeps_integers:
            return bias
        low, _ = clip_range(source)
        positive = is_op(following, "Relu") or low >= 0
        above = source.qmin >= 0 or (positive and low <= source.qmin)  # the zero point is added
        wanted = _centre(source.rounding, above)
        offset = wanted - _centre(self.context.rounding, positive)
        if not (offset or wanted) or not self._keeps_step(result, source):
            return bias
        self.context.compensated.add(result.outputs[0].name or "")
        if not offset:
            return bias
        if bias is None:
            bias = np.zeros((shape_of(node.outputs[0]) or (0, 0))[1])
        return bias + offset * source.scalar_step

    def _keeps_step(self, result: ir.Node, source: Quantisation) -> bool:
        step, gamma = self._steps(self.grouping.class_of[result.outputs[0]])
        return abs(step / gamma / source.scalar_step - 1) < _SAME_STEP

    def _out_of_range(self, node: ir.Node, what: str) -> None:
        self.problems.append(
            Diagnostic(
                "DLA209",
                "step-out-of-range",
                f"{what}; steps from 2^{_SMALLEST} to 2^{_LARGEST} can be stored",
                location=provenance.location(node, self.model),
                help="look for scales, weights or biases of the source that are far too small or "
                "too large",
            )
        )

    def _replace_constants(
        self, node: ir.Node, scaled: ScaledWeights, scaling: LinearScaling
    ) -> None:
        name = node.name or ""
        units = np.concatenate([scaled.steps, scaled.steps * scaling.step_in])
        outside = ~((units >= 2.0**_SMALLEST) & (units <= 2.0**_LARGEST))  # nan too
        if outside.any():
            worst = units[outside][0]
            self._out_of_range(node, f"a weight or bias needs a step of {worst:.3g}")
            return
        shape = (-1,) + (1,) * (scaled.integers.ndim - 1)
        weights = dialect.dequantize(
            dialect.constant(f"{name}/W_int", scaled.integers),
            scaled.steps.astype(np.float32).reshape(shape),
            name=f"{name}/weights",
            output=f"{name}/W",
        )
        insert_before(node, weights)
        inputs = [node.inputs[0], weights.outputs[0]]
        if scaled.bias is not None:
            bias = dialect.dequantize(
                dialect.constant(f"{name}/B_int", scaled.bias),
                (scaled.steps * scaling.step_in).astype(np.float32),
                name=f"{name}/bias",
                output=f"{name}/B",
            )
            insert_before(node, bias)
            inputs.append(bias.outputs[0])
        node.resize_inputs(len(inputs))
        for index, value in enumerate(inputs):
            node.replace_input_with(index, value)


def _centre(mode: Rounding, positive: bool) -> float:
    """Mean error of a rounding; towards zero is down, and away up, where nothing is negative."""
    if positive:
        mode = {Rounding.DOWN: Rounding.FLOOR, Rounding.UP: Rounding.CEIL}.get(mode, mode)
    return _CENTRE.get(mode, 0.0)


def _per_channel(step: np.ndarray, channels: int) -> np.ndarray:
    flat: np.ndarray = np.broadcast_to(step.astype(np.float64).reshape(-1), (channels,))
    return flat
