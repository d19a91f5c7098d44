"""Removes layout changes inside the graph: maps end up as the operators on them need them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import onnx_ir as ir

from dlaconv.ir import provenance
from dlaconv.ir.graph import (
    ints_attribute,
    is_constant,
    is_op,
    rank_of,
    register_constants,
    shape_of,
)
from dlaconv.ir.layout_names import Turned
from dlaconv.ir.passes.columns import absorbs_layout, take_layout
from dlaconv.ir.passes.layout_ops import (
    Perm,
    compose,
    inverse,
    is_identity,
    layout_free,
    maps_of,
    transpose_parameters,
)
from dlaconv.ir.pipeline import Context, ir_pass

_BORDER = 0.5
"""Price of a Transpose at a graph input or output, in Transposes inside the graph."""


@ir_pass(tolerance=1e-5)
def channels_first(model: ir.Model, context: Context) -> None:
    """Replaces ``Transpose(f(Transpose(x)))`` with ``f(x)``, f in any layout, however long f is.

    Maps that are joined by operators that work in any layout (elementwise ones, quantise nodes,
    Concat, reductions) form a group with one layout. Convolutions and pools fix theirs to NCHW.
    Each group takes the layout that leaves the fewest Transposes inside the graph; so a
    channels-last network becomes NCHW with Transposes at its border at most. Constants,
    quantisation parameters, axes, and the weights of a fully connected layer behind a flattened
    map are permuted (sums over them change their order); the layout of graph inputs and outputs
    never changes.
    A map that changes its layout is called ``<name>/layout_0_3_1_2`` from then on.
    """
    if any(is_op(node, "Transpose") for node in model.graph):
        _Rewriter(model.graph, _Groups(model.graph)).run()


@dataclass
class _Group:
    """Maps of one layout.

    Attributes:
        perm: its layout, relative to the source's.
        fixed: maps that an operator makes or reads in the source's layout only.
        border: graph inputs and outputs among its maps.
        absorbing: nodes that can take some other layouts in.
        edges: Transpose nodes into (True) and out of (False) the group, as values.
    """

    perm: Perm
    fixed: int = 0
    border: int = 0
    absorbing: list[ir.Node] = field(default_factory=list)
    edges: list[tuple[bool, ir.Value, Perm]] = field(default_factory=list)


class _Groups:
    """Which map belongs to which group, and the layout chosen for each."""

    def __init__(self, graph: ir.Graph) -> None:
        self._parent: dict[ir.Value, ir.Value] = {}
        self._free = {node for node in graph if layout_free(node)}
        for node in graph:
            if node in self._free:
                maps = [node.inputs[index] for index in maps_of(node)]
                for value in (*maps, *node.outputs):
                    assert value is not None
                    self._join(node.outputs[0], value)
        self._groups: dict[ir.Value, _Group] = {}
        for node in graph:
            self._note(node)
        for value in (*graph.inputs, *graph.outputs):
            if (group := self._group(value)) is not None:
                group.border += 1
        # Inner groups first: one at the border would pay half to move its Transpose outwards that
        # an inner group can do without.
        order = sorted(self._groups.values(), key=lambda group: group.border > 0)
        for group in (*order, *order):  # again, since groups depend on each other
            self._choose(group)

    def free(self, node: ir.Node) -> bool:
        """True if the node works in any layout."""
        return node in self._free

    def perm(self, value: ir.Value) -> Perm:
        """The layout chosen for a map."""
        group = self._group(value)
        return group.perm if group is not None else ()

    def _root(self, value: ir.Value) -> ir.Value:
        root = value
        while (parent := self._parent.get(root, root)) is not root:
            root = parent
        while value is not root:  # shorten the path
            self._parent[value], value = root, self._parent.get(value, value)
        return root

    def _join(self, one: ir.Value, other: ir.Value) -> None:
        self._parent[self._root(other)] = self._root(one)

    def _group(self, value: ir.Value) -> _Group | None:
        rank = rank_of(value)
        if rank is None or is_constant(value):
            return None
        root = self._root(value)
        if root not in self._groups:
            self._groups[root] = _Group(tuple(range(rank)))
        return self._groups[root]

    def _note(self, node: ir.Node) -> None:
        perm = _perm(node)
        source = node.inputs[0] if node.inputs else None
        if perm is not None and source is not None:
            before, after = self._group(source), self._group(node.outputs[0])
            if before is not None and after is not None:
                before.edges.append((False, node.outputs[0], perm))
                after.edges.append((True, source, perm))
            return
        if node in self._free:
            return
        for index, value in enumerate(node.inputs):
            group = self._group(value) if value is not None else None
            if group is None:
                continue
            if index == 0 and is_op(node, "Reshape", "ReduceMean", "ReduceSum", "ReduceMax"):
                group.absorbing.append(node)
            else:
                group.fixed += 1
        for value in node.outputs:
            if (group := self._group(value)) is not None:
                group.fixed += 1

    def _choose(self, group: _Group) -> None:
        candidates = {group.perm: None, tuple(range(len(group.perm))): None}
        for inward, value, perm in group.edges[:16]:
            other = self.perm(value)
            layout = inverse(compose(inverse(other), perm)) if inward else compose(perm, other)
            candidates[layout] = None
        group.perm = min(candidates, key=lambda layout: (self._price(group, layout), layout))

    def _price(self, group: _Group, layout: Perm) -> float:
        price = 0.0
        for inward, value, perm in group.edges:
            other = layout if self._group(value) is group else self.perm(value)
            before, after = (other, layout) if inward else (layout, other)
            price += not is_identity(_between(before, perm, after))
        if not is_identity(layout):
            price += group.fixed + _BORDER * group.border
            price += sum(not _absorbs(node, layout) for node in group.absorbing)
        return price


def _perm(node: ir.Node) -> Perm | None:
    """The permutation of a Transpose between known shapes, None for any other node."""
    if not is_op(node, "Transpose") or node.inputs[0] is None or is_constant(node.inputs[0]):
        return None
    rank = rank_of(node.inputs[0])
    if rank is None or any(shape_of(v) is None for v in (node.inputs[0], node.outputs[0])):
        return None
    return ints_attribute(node, "perm") or tuple(reversed(range(rank)))


def _absorbs(node: ir.Node, layout: Perm) -> bool:
    source = node.inputs[0]
    shape = shape_of(source) if source is not None else None
    return shape is not None and absorbs_layout(node, layout, shape)


def _between(before: Perm, perm: Perm, after: Perm) -> Perm:
    """What is left of a Transpose when its input and output have other layouts."""
    return compose(compose(inverse(before), perm), after)


class _Rewriter:
    """Puts the chosen layouts into the graph, node by node."""

    def __init__(self, graph: ir.Graph, groups: _Groups) -> None:
        self.graph = graph
        self.groups = groups
        self.held: dict[ir.Value, tuple[ir.Value, Perm]] = {}
        self.names: dict[ir.Value, str] = {}
        self.made: dict[tuple[ir.Value, Perm], ir.Value] = {}
        self.dead: list[ir.Node] = []
        self._taken = {node.name or "" for node in graph}

    def run(self) -> None:
        for node in list(self.graph):
            perm = _perm(node)
            if perm is not None:
                self._transpose(node, perm)
            elif self.groups.free(node):
                self._free(node)
            else:
                self._fixed(node)
        for index, value in enumerate(list(self.graph.outputs)):
            self._output(index, value)
        for node in reversed(self.dead):
            self.graph.remove(node, safe=True)

    def _holder(self, value: ir.Value) -> tuple[ir.Value, Perm]:
        return self.held.get(value, (value, tuple(range(rank_of(value) or 0))))

    def _transpose(self, node: ir.Node, perm: Perm) -> None:
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        holder, before = self._holder(source)
        after = self.groups.perm(result)
        left = _between(before, perm, after)
        same = holder if is_identity(left) else self.made.get((holder, left))
        if same is not None:
            self.held[result] = (same, after)
            self.dead.append(node)
            return
        self.made[holder, left] = result
        node.replace_input_with(0, holder)
        node.attributes["perm"] = ir.AttrInt64s("perm", left)
        self._relabel(result, after)

    def _free(self, node: ir.Node) -> None:
        layout = self.groups.perm(node.outputs[0])
        for index in maps_of(node):
            value = node.inputs[index]
            assert value is not None
            node.replace_input_with(index, self._fetch(value, layout, node))
        if not is_identity(layout):
            transpose_parameters(node, layout)
        for value in node.outputs:
            self._relabel(value, layout)

    def _fixed(self, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            if value is None or value not in self.held:
                continue
            holder, layout = self.held[value]
            shape = shape_of(holder) or ()
            source_shape = tuple(shape[axis] for axis in inverse(layout))
            if (
                index == 0
                and not is_identity(layout)
                and absorbs_layout(node, layout, source_shape)
            ):
                node.replace_input_with(0, holder)
                take_layout(node, layout)
            else:
                identity = tuple(range(len(layout)))
                node.replace_input_with(index, self._fetch(value, identity, node))

    def _relabel(self, value: ir.Value, layout: Perm) -> None:
        """Notes that a value's node now makes it in another layout."""
        if is_identity(layout):
            return
        shape = shape_of(value)
        assert shape is not None
        self.held[value] = (value, layout)
        self.names[value] = value.name or ""
        value.name = Turned(value.name or "", layout).name
        value.shape = ir.Shape([shape[axis] for axis in layout])

    def _fetch(self, value: ir.Value, layout: Perm, reader: ir.Node | None) -> ir.Value:
        """A map in the wanted layout, by a Transpose in front of ``reader`` if need be."""
        holder, has = self._holder(value)
        if has == layout:
            return holder
        move = compose(inverse(has), layout)
        if (holder, move) in self.made:
            return self.made[holder, move]
        name = self.names.get(value, value.name or "")
        if is_identity(layout):
            if value is not holder:  # the Transpose that made it is gone
                self.names[value] = name
                value.name = f"{name}/dropped"
        else:
            name = Turned(name, layout).name
        free = self._free_name(f"{name}/transpose")
        node = ir.node("Transpose", [holder], {"perm": list(move)}, name=free)
        result = node.outputs[0]
        result.name, result.type = name, holder.type
        shape = shape_of(holder)
        result.shape = ir.Shape([shape[axis] for axis in move]) if shape is not None else None
        self._place(node, holder, reader)
        self.made[holder, move] = result
        return result

    def _free_name(self, stem: str) -> str:
        """A name that no node has; runtimes refuse two of one name."""
        numbered = (f"{stem}.{count}" for count in itertools.count(1))
        name = next(name for name in itertools.chain([stem], numbered) if name not in self._taken)
        self._taken.add(name)
        return name

    def _place(self, node: ir.Node, holder: ir.Value, reader: ir.Node | None) -> None:
        origin = reader or holder.producer()
        if origin is not None:
            provenance.inherit(node, origin)
        if reader is not None:
            self.graph.insert_before(reader, node)
        else:
            self.graph.append(node)
        register_constants(self.graph, [node])

    def _output(self, index: int, value: ir.Value) -> None:
        holder, layout = self._holder(value)
        if holder is value and is_identity(layout):
            return
        name = self.names.get(value, value.name or "")
        if not is_identity(layout):
            made = self._fetch(value, tuple(range(len(layout))), None)
            if made.name != name or made.is_graph_output():  # made for an equal value
                made = self._copy(made, name)
            self.graph.outputs[index] = made
            return
        value.name = f"{name}/dropped"
        if holder.producer() is None or holder.is_graph_output():
            holder = self._copy(holder, name)
        holder.name = name
        self.graph.outputs[index] = holder

    def _copy(self, value: ir.Value, name: str) -> ir.Value:
        """A value of its own for a graph output that equals another value."""
        copy = ir.node("Identity", [value], name=self._free_name(f"{name}/copy"))
        result = copy.outputs[0]
        result.name, result.shape, result.type = name, value.shape, value.type
        self._place(copy, value, None)
        return result
