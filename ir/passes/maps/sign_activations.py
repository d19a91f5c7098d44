"""Computes signs with layers that saturate; the proof is in ``docs/scales.md``.

The hardware has no sign activation, but its maps saturate. The sign of ``s acc + b``, where acc is
a sum of integers, is that of ``2 (acc + floor(b/s)) + 1``, which is never zero. So

* the *threshold* layer computes ``k (2 acc + 2 floor(b/s) + 1)`` with weights 2kW, and a multiplier
  with which every such value leaves the range of the map, which holds -128 or 127 then;
* an identity layer makes -1 and +1 of these two.

A layer whose weights are too large to be doubled keeps them, and has the bias ``floor(b/s)``. Its
map saturates, which keeps the sign, and the threshold layer is an identity behind it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import insert_before, is_op, producer, remove, replace_node, take_over
from dlaconv.ir.passes.linear_ops import (
    Weights,
    bias_of,
    scaled,
    set_bias,
    set_weights,
    stem,
    weights_of,
)
from dlaconv.ir.passes.maps.requantise import identity_layer, layer_words
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding

_NEARLY = 2.0**-20
"""A threshold this near to an integer (relative) was one before float32 stored the bias."""
_TO_NEAREST = (1.0, 0.0)
_TO_SIGN = {
    Rounding.FLOOR: (1.0, 0.5),
    Rounding.CEIL: (1.0, -0.5),
    Rounding.DOWN: (1.5, 0.0),
}
"""Factor and offset that give m/128 the distance from both neighbours that a rounding asks for, so
that -128 becomes -1 and 127 becomes 1."""


@ir_pass(tolerance=None)
def sign_activations(model: ir.Model, context: Context) -> None:
    """Replaces each sign by a threshold layer and an identity, or leaves it to the host.

    A sign reads the unrounded result of a convolution or fully connected layer, or a stored map
    (`derive_maps` has seen to that), or is all that a graph input is read for: then the host feeds
    +1 and -1. The integers are the source's wherever those of the map before are.
    """
    for node in list(model.graph):
        if not dialect.is_bipolar(node):
            continue
        if node.inputs[0] in model.graph.inputs:
            _leave_to_host(node, context)
        else:
            _saturate(node, model, context)


def reads_unrounded(node: ir.Node) -> bool:
    """True for a sign of a value that needs no map of its own.

    That is the result of a layer with weights, or a graph input that nothing else reads.
    """
    x = node.inputs[0]
    if not dialect.is_bipolar(node) or x is None:
        return False
    if x.is_graph_input():
        returned = x.is_graph_output() or node.outputs[0].is_graph_output()
        return len(x.uses()) == 1 and not returned
    return is_op(producer(x), "Conv", "Gemm")


def _leave_to_host(node: ir.Node, context: Context) -> None:
    x, name = node.inputs[0], stem(node)
    assert x is not None
    step = dialect.step_of(node)
    sign = dialect.bipolar(x, step, name=f"{name}/fed", output=f"{x.name}/sign")
    fed = dialect.quantize(sign.outputs[0], _plus_minus_one(step, context), name=name)
    replace_node(node, sign, fed)
    context.signs.add(fed.outputs[0].name or "")
    _report(fed, "the host takes the sign: it feeds +1 and -1", context)


def _saturate(node: ir.Node, model: ir.Model, context: Context) -> None:
    value, name = node.inputs[0], stem(node)
    assert value is not None
    layer, doubled, exact = producer(value), False, True
    words: list[str] = []
    if layer is not None and is_op(layer, "Conv", "Gemm"):
        doubled, exact = _threshold(layer, context)
        value = _saturated(value, node, f"{name}/{'threshold' if doubled else 'sum'}", context)
    elif any(_name(before) in context.derived for before in _quantisers_before(value)):
        exact = False
        context.diagnostics.add(_sign_of_rounded(node, value, model))
    if not doubled:
        value = _identity(value, node, f"{name}/spread", words)
        spread = value.producer()
        assert spread is not None
        _threshold(spread, context)
        value = _saturated(value, node, f"{name}/threshold", context)
    step = dialect.step_of(node)
    factor, offset = _TO_SIGN.get(context.rounding, _TO_NEAREST)
    top = context.target.map_range[1] + 1
    unit = float(step.reshape(()))
    value = _identity(value, node, f"{name}/sign", words, factor * unit / top, offset * unit)
    context.gains |= {f"{name}/spread", f"{name}/sign"}
    result = dialect.quantize(value, _plus_minus_one(step, context), name=name)
    insert_before(node, result)
    take_over(node.outputs[0], result.outputs[0])
    remove(node)
    context.signs.add(result.outputs[0].name or "")
    after = "the layer saturates, and" if doubled else "its map saturates, and"
    layers = "layer makes" if len(words) == 1 else "layers make"
    detail = f"{after} {len(words)} {words[0]} identity {layers} +1 and -1 of it"
    _report(result, detail, context, exact=exact)


def _identity(
    x: ir.Value,
    before: ir.Node,
    name: str,
    words: list[str],
    gain: float = 1.0,
    offset: float = 0.0,
) -> ir.Value:
    nodes = identity_layer(x, name, step=gain, bias=offset)
    insert_before(before, *nodes)
    words.append(layer_words(nodes[-1]))
    return nodes[-1].outputs[0]


def _saturated(x: ir.Value, before: ir.Node, name: str, context: Context) -> ir.Value:
    """A map of ours in steps of one, of which only the sign counts."""
    bits = context.target.map_bits
    node = dialect.quantize(x, Quantisation.of(1.0, bits, rounding=context.rounding), name=name)
    insert_before(before, node)
    result = node.outputs[0]
    context.derived.add(result.name or "")
    context.signs.add(result.name or "")
    return result


def _plus_minus_one(step: np.ndarray, context: Context) -> Quantisation:
    zero = np.zeros((), np.float32)
    return Quantisation(step.reshape(()), zero, -1, 1, context.rounding)


def _threshold(layer: ir.Node, context: Context) -> tuple[bool, bool]:
    """Gives a layer weights and a bias of which only the sign of the result is kept.

    Results are in units of a map of step one.

    Returns:
        Whether the weights were doubled, so that no result is zero; and whether every sign is the
        source's.
    """
    context.thresholds.add(layer.name or "")
    weights = weights_of(layer)
    assert weights is not None
    bias = bias_of(layer, weights.channels)
    assert bias is not None
    before = _quantisers_before(layer.inputs[0])
    step = dialect.quantisation_of(before[0]).scalar_step
    if weights.steps is None:
        _scale_reals(layer, weights, bias, step, context)
        return False, False
    target = context.target
    top = target.map_range[1] + 1
    sums = _thresholds(weights, bias / (weights.steps * step), before, context)
    ends = int(weights.array.min(initial=0)), int(weights.array.max(initial=0))
    largest = max(1, -ends[0], ends[1])
    furthest = int(np.abs(2 * sums + 1).max(initial=1))
    room = min(target.weight_range[1] // (2 * largest), target.bias_range[1] // furthest)
    exact = all(_name(node) not in context.derived for node in before) and _one_step(before)
    if room >= 1:
        half = min(1 << (room.bit_length() - 1), top // 2)
        integers = (2 * half * weights.array.astype(np.int32)).astype(np.int8)
        _set(layer, integers, weights, top / half / step, half * (2 * sums + 1) * (top / half))
        return True, exact
    _set(layer, weights.array, weights, 1 / step, sums)
    fits = target.weight_range[0] <= ends[0] and ends[1] <= target.weight_range[1]
    return False, bool(exact and fits and np.abs(sums).max() <= target.bias_range[1])


def _set(
    layer: ir.Node, integers: np.ndarray, weights: Weights, step: float, bias: np.ndarray
) -> None:
    steps = np.full(weights.channels, step)
    set_weights(layer, replace(weights, array=integers, steps=steps))
    set_bias(layer, bias)


def _thresholds(
    weights: Weights, bias: np.ndarray, before: list[ir.Node], context: Context
) -> np.ndarray:
    """Float64 ``[O]``: the integers T for which ``sum + bias >= 0`` is ``sum + T >= 0``.

    A T beyond what the sum can reach decides as the nearest one within does.

    Args:
        weights: ``[O, ...]`` integers.
        bias: ``[O]`` in units of the sum.
        before: the quantisers of the layer's input.
        context: knows signs and the hardware's range.
    """
    bias = np.nan_to_num(bias)
    near = np.rint(bias)
    close = np.abs(bias - near) <= _NEARLY * np.maximum(1, np.abs(bias))
    whole = np.where(close, near, np.floor(bias))
    signs = all(_name(node) in context.signs for node in before)
    magnitude = 1 if signs else 2 * (context.target.map_range[1] + 1)
    rows = np.moveaxis(weights.array, weights.axis, 0).reshape(weights.channels, -1)
    reach = magnitude * np.abs(rows.astype(np.int64)).sum(axis=1)
    limited: np.ndarray = np.clip(whole, -reach - 1, reach)
    return limited


def _scale_reals(
    layer: ir.Node, weights: Weights, bias: np.ndarray, step: float, context: Context
) -> None:
    """Float weights: rows of one magnitude, so that all have one step when they are quantised."""
    rows = np.moveaxis(weights.array, weights.axis, 0).reshape(weights.channels, -1)
    largest = np.abs(rows).max(axis=1, initial=0).astype(np.float64)
    unit = largest / context.target.weight_range[1] * step
    dead = unit < np.finfo(np.float32).tiny
    unit = np.where(dead, 1.0, unit)
    fresh = scaled(weights, 1 / unit)
    assert fresh is not None
    set_weights(layer, fresh)
    decided = np.where(bias < 0, -1.0, 0.0)
    limit = 2.0 ** (context.target.bias_bits + context.target.map_bits)
    set_bias(layer, np.where(dead, decided, np.clip(np.nan_to_num(bias / unit), -limit, limit)))


def _quantisers_before(value: ir.Value | None) -> list[ir.Node]:
    """The quantisers of a stored map, through operators that move its integers."""
    queue, found = [value], []
    while queue:
        node = producer(queue.pop())
        if dialect.is_quantize(node):
            assert node is not None
            found.append(node)
        elif node is not None:
            queue += node.inputs if is_op(node, "Concat") else node.inputs[:1]
    return found


def _one_step(quantisers: list[ir.Node]) -> bool:
    steps = [dialect.quantisation_of(node).scalar_step for node in quantisers]
    return max(steps) <= min(steps) * (1 + _NEARLY)


def _name(quantiser: ir.Node) -> str:
    return quantiser.outputs[0].name or ""


def _sign_of_rounded(node: ir.Node, value: ir.Value, model: ir.Model) -> Diagnostic:
    return Diagnostic(
        "DLA208",
        "sign-of-rounded",
        f"the source takes the sign of {value.name!r}, which it does not quantise; the hardware "
        "takes it of the stored integers, so negative values that round to zero become +1",
        Severity.WARNING,
        provenance.location(node, model),
        help="quantise the value before its sign, or take the sign right behind a convolution or "
        "fully connected layer, which is exact",
    )


def _report(node: ir.Node, detail: str, context: Context, *, exact: bool = True) -> None:
    layer = provenance.location(node).layer
    context.rewrites.append(Rewrite("sign_activations", layer, detail, exact))
