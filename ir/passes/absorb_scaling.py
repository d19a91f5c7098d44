"""Multiplications by one positive number move through quantise nodes until they cancel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import bypass, input_array, is_op, replace_node, sole_consumer, unique_name
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass

_FLOAT32_ERROR = 2.0**-21
_LONGEST_RUN = 16


@dataclass
class _Run:
    """Scalings and per-tensor quantisations one behind the other, each the only reader."""

    nodes: list[ir.Node] = field(default_factory=list)
    factors: dict[ir.Node, float] = field(default_factory=dict)

    @property
    def factor(self) -> float:
        """The product of all scalings."""
        return float(np.prod(list(self.factors.values()), dtype=np.float64))


@ir_pass(tolerance=None)
def absorb_scaling(model: ir.Model, context: Context) -> None:
    """``x / s -> step 1 -> step t -> * s`` becomes ``x -> step s -> step s*t``.

    ``round(x / s)`` on steps of 1 and ``round(x)`` on steps of s are the same integers; a source
    divides by a scale first where float32 could not tell ties otherwise (QONNX Trunc). Hardware
    computes on the integers themselves, so it can; running the result in float32 may differ at
    ties. Done only where the scalings of a run cancel, so nothing is left of them.
    """
    for node in list(model.graph):
        if node.graph is None or factor_of(node) is None:
            continue
        run = _run_from(node)
        if abs(run.factor - 1) <= _FLOAT32_ERROR and len(run.factors) < len(run.nodes):
            _absorb(run)
            layer = provenance.location(node, model).layer
            detail = "scaling moved into the steps of the quantisations behind it"
            context.rewrites.append(Rewrite("absorb_scaling", layer, detail))


def factor_of(node: ir.Node) -> float | None:
    """The positive number that a node multiplies by, None for every other node."""
    if not is_op(node, "Mul", "Div"):
        return None
    for index in (1, 0) if node.op_type == "Mul" else (1,):
        array = input_array(node, index)
        if array is None or array.size != 1 or node.inputs[1 - index] is None:
            continue
        value = float(array.reshape(()))
        if not (np.isfinite(value) and value > 0):
            return None
        return value if node.op_type == "Mul" else 1 / value
    return None


def _run_from(first: ir.Node) -> _Run:
    """The run that starts at a scaling, cut behind the last point where the scalings cancel."""
    run, best = _Run(), _Run()
    node: ir.Node | None = first
    while node is not None and len(run.nodes) < _LONGEST_RUN:
        factor = factor_of(node)
        if factor is not None:
            run.factors[node] = factor
        elif not (dialect.is_quantize(node) and dialect.quantisation_of(node).per_tensor):
            break
        run.nodes.append(node)
        cancels = len(run.factors) > 1 and abs(run.factor - 1) <= _FLOAT32_ERROR
        if factor is not None and cancels:
            best = _Run(list(run.nodes), dict(run.factors))
        node = sole_consumer(node.outputs[0])
    return best


def _absorb(run: _Run) -> None:
    for index, node in enumerate(run.nodes):
        if node in run.factors:
            continue
        later = [run.factors[other] for other in run.nodes[index:] if other in run.factors]
        quantisation = dialect.quantisation_of(node)
        factor = float(np.prod(later, dtype=np.float64))
        step = np.float32(quantisation.scalar_step * factor)
        source = node.inputs[0]
        assert source is not None
        new = dialect.quantize(
            source, quantisation.with_step(np.asarray(step)), name=node.name or "quantise"
        )
        replace_node(node, new)
        if abs(factor - 1) > _FLOAT32_ERROR:  # another value: it must not keep the source's name
            result, graph = new.outputs[0], new.graph
            assert isinstance(graph, ir.Graph)
            if not result.is_graph_output():
                result.name = unique_name(graph, f"{result.name}/rescaled")
    for node in run.factors:
        put_number_last(node)
        _bypass(node)


def put_number_last(node: ir.Node) -> None:
    """Swaps the operands of a multiplication if the number is the first."""
    if input_array(node, 1) is None:
        first, second = node.inputs
        node.replace_input_with(0, second)
        node.replace_input_with(1, first)


def _bypass(node: ir.Node) -> None:
    """Removes a scaling; a quantise node right before it takes over its result's name."""
    source, result = node.inputs[0], node.outputs[0]
    maker = source.producer() if source is not None else None
    if source is None or maker is None or not dialect.is_quantize(maker):
        bypass(node)
        return
    name = result.name
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    assert isinstance(node.graph, ir.Graph)
    node.graph.remove(node, safe=True)
    source.name = name
