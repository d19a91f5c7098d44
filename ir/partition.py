"""Cutting a network into parts that the hardware runs and parts that the host runs.

Every node has a side. Its level is the number of times the side changes on the longest way to it
from a graph input, host levels being even and accelerator levels odd; all nodes of one level are
one part. So parts run one after the other, and there are as few as any cut by sides can have.
Between parts go real values: a map that one accelerator part stores and another one reads is
quantised by the same quantiser in both, so its integers stay.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import consumers, drop_unread, insert_before, is_constant, is_op, producer
from dlaconv.ir.layers import MOVING
from dlaconv.ir.macs import total_macs
from dlaconv.ir.passes.legal.building import stored_quantisation

HOST, ACCELERATOR = "host", "accelerator"
FED_MARK = "/fed"
"""Ends the name of a map that a part quantises again as an earlier part did."""
ENDINGS = ("Softmax", "LogSoftmax", "ArgMax", "Sigmoid")
"""Operators that the host runs where they end a network and the source does not quantise them."""
REARRANGING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that keep every value; the host runs them at the border of a network where the
accelerator cannot."""
NO_WEIGHTS = "nothing is multiplied between two parts of the host, so moving maps costs more"


@dataclass(frozen=True)
class Part:
    """One part of a network.

    Attributes:
        side: `HOST` or `ACCELERATOR`.
        model: its nodes; inputs and outputs are named after the tensors of the whole network.
        macs: multiplications in it.
    """

    side: str
    model: ir.Model
    macs: int


def cut(
    model: ir.Model, host: Mapping[str, str], gains: Collection[str] = ()
) -> tuple[list[Part], dict[str, str]]:
    """Cuts a LEGAL model into parts, in the order in which they run.

    Args:
        model: the network; its quantise nodes may be copied to both sides of a seam.
        host: reasons by the name of the first output of each node that the host must run.
        gains: names of layers that only scale: a part of nothing else is not worth its maps.

    Returns:
        The parts, and ``host`` with the nodes that follow to the host: a part without
        multiplications is not worth moving its maps to the accelerator.
    """
    reasons = dict(host)
    if not reasons:
        return [Part(ACCELERATOR, model, total_macs(model.graph))], reasons
    _double_shared_quantisers(model, reasons)
    while True:
        levels = _levels(model, reasons)
        sums: dict[int, int] = {}
        for node, level in levels.items():
            if level % 2:
                counted = [] if node.name in gains else [node]
                sums[level] = sums.get(level, 0) + total_macs(counted)
        idle = {level for level, macs in sums.items() if not macs}
        if not idle or idle == set(sums):
            break
        for node, level in levels.items():
            if level in idle and not _is_quantiser(node):
                reasons[_name(node)] = NO_WEIGHTS
    parts = [
        Part(
            ACCELERATOR if level % 2 else HOST,
            _extracted(model, levels, level),
            total_macs(n for n, own in levels.items() if own == level),
        )
        for level in sorted(set(levels.values()))
    ]
    return [part for part in parts if part.model.graph.outputs], reasons


def endings(model: ir.Model) -> dict[str, str]:
    """The nodes that end a network on the host by default, with the reason.

    A node of `ENDINGS` whose result is not quantised, if only nodes of this kind and operators
    that move values follow. Nothing if no layer with weights would be left.
    """
    last: set[ir.Node] = set()
    for node in reversed(model.graph):
        readers = [reader for value in node.outputs for reader in consumers(value)]
        if is_op(node, *ENDINGS, *MOVING) and last.issuperset(readers):
            last.add(node)
    behind: set[ir.Node] = set()
    for node in model.graph:
        follows = any(producer(value) in behind for value in node.inputs)
        if node in last and (is_op(node, *ENDINGS) or follows):
            behind.add(node)
    if not total_macs(node for node in model.graph if node not in behind):
        return {}
    return {_name(node): f"{node.op_type} at the end of a network is the host's" for node in behind}


def borders(model: ir.Model) -> set[str]:
    """The nodes that rearrange graph inputs, and those that rearrange what becomes graph outputs.

    Nothing but such nodes and quantisers is between them and the border of the network.
    """
    fed = set(model.graph.inputs)
    found: set[ir.Node] = set()
    for node in model.graph:
        if _rearranges(node) and node.inputs[0] in fed:
            fed.update(node.outputs)
            found.add(node)
    last: set[ir.Node] = set()
    for node in reversed(model.graph):
        readers = [reader for value in node.outputs for reader in consumers(value)]
        if _rearranges(node) and last.issuperset(readers):
            last.add(node)
    return {_name(node) for node in found | last if not _is_quantiser(node)}


def _rearranges(node: ir.Node) -> bool:
    return is_op(node, *REARRANGING) or _is_quantiser(node)


def _name(node: ir.Node) -> str:
    return node.outputs[0].name or ""


def _is_quantiser(node: ir.Node) -> bool:
    return dialect.is_quantize(node) or dialect.is_bipolar(node)


def _is_fixed(node: ir.Node) -> bool:
    """True for what is computed from constants only, which every part has for itself."""
    return all(value is None or is_constant(value) for value in node.inputs)


def _double_shared_quantisers(model: ir.Model, host: Mapping[str, str]) -> None:
    """Gives each side its own copy of a quantiser that both read behind the host."""
    for node in list(model.graph):
        source = producer(node.inputs[0]) if node.inputs else None
        if not _is_quantiser(node) or _is_fixed(node):
            continue
        if source is not None and _name(source) not in host:
            continue
        mine = [use for use in node.outputs[0].uses() if _name(use.node) in host]
        if not mine or len(mine) == len(node.outputs[0].uses()):
            continue
        copy = ir.node(
            node.op_type,
            list(node.inputs),
            dict(node.attributes.items()),
            domain=node.domain,
            name=f"{node.name}/host",
        )
        provenance.inherit(copy, node)
        old, new = node.outputs[0], copy.outputs[0]
        new.name, new.shape, new.type = f"{old.name}/host", old.shape, old.type
        insert_before(node, copy)
        for use in mine:
            use.node.replace_input_with(use.idx, new)


def _levels(model: ir.Model, host: Mapping[str, str]) -> dict[ir.Node, int]:
    """The level of each node that depends on a graph input."""
    levels: dict[ir.Node, int] = {}
    sides: dict[ir.Node, bool] = {}
    for node in model.graph:
        if _is_fixed(node):
            continue
        sources = [source for value in node.inputs if (source := producer(value)) in levels]
        on_host = _name(node) in host
        if _is_quantiser(node):
            behind = bool(sources) and not sides[sources[0]]
            on_host = not behind and _all_on_host(node, host)
        sides[node] = on_host
        level = 0 if on_host else 1
        for source in sources:
            assert source is not None
            change = sides[source] is not on_host
            level = max(level, levels[source] + change)
        levels[node] = level
    return levels


def _all_on_host(node: ir.Node, host: Mapping[str, str]) -> bool:
    """True if nothing on the accelerator reads the result, through further quantisers or not."""
    readers = consumers(node.outputs[0])
    return all(
        _all_on_host(reader, host) if _is_quantiser(reader) else _name(reader) in host
        for reader in readers
    )


def _extracted(model: ir.Model, levels: Mapping[ir.Node, int], level: int) -> ir.Model:
    """A copy of the nodes of one level, with seams as graph inputs and outputs."""
    outside: dict[str, ir.Value] = {}
    results: list[str] = []
    for node, own in levels.items():
        for value in node.outputs:
            readers = [levels.get(reader) for reader in consumers(value)]
            if own != level and level in readers:
                outside[value.name or ""] = value
            if own == level and (
                value.is_graph_output() or any(reader != level for reader in readers)
            ):
                results.append(value.name or "")
    copy = model.clone()
    graph = copy.graph
    values = {value.name or "": value for node in graph for value in node.outputs}
    inputs = list(graph.inputs)
    first = next(iter(graph))
    for name, source in outside.items():
        old = values[name]
        new = ir.val(name, dtype=old.dtype or ir.DataType.FLOAT, shape=old.shape)
        quantisation = stored_quantisation(source) if level % 2 else None
        old.name = f"{name}/outside"
        inputs.append(new)
        if quantisation is None:
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            continue
        again = dialect.quantize(
            new, quantisation, name=f"{name}{FED_MARK}/quantize", output=f"{name}{FED_MARK}"
        )
        old.replace_all_uses_with(again.outputs[0], replace_graph_outputs=True)
        maker = source.producer()
        assert maker is not None  # a seam is no graph input
        provenance.inherit(again, maker)
        insert_before(first, again)
        first = next(iter(graph))
    graph.inputs[:] = inputs
    graph.outputs[:] = [values[name] for name in results]
    drop_unread(graph)
    graph.inputs[:] = [value for value in inputs if value.uses()]
    return copy
