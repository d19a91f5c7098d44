"""Which maps must be scaled together.

Let gamma be the hardware value of a map over its real value. Operands and result of Add, and
input and output of AveragePool, GlobalAveragePool and ReduceSum share gamma (a *group*). Maps on
both sides of an operator that has one scale (MaxPool, ReLU, Concat, Transpose, Reshape) share
gamma and step (a *step class*). Conv and FC absorb any ratio in their weight scales and separate
groups. Gamma is one at Tanh, Sigmoid, HardSwish, Div and MatMul of two maps, and, with
``--io pin``, at graph inputs and outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import consumers, is_op
from dlaconv.ir.layers import PIPELINED, SAME_SCALE
from dlaconv.ir.quantisation import Quantisation

_SHARE_GAMMA = ("Add", "AveragePool", "GlobalAveragePool", "ReduceSum")
_PINNED = ("Tanh", "Sigmoid", "HardSwish", "Div", "MatMul")


@dataclass(frozen=True, eq=False)
class MapVariable:
    """A stored map whose step is to be chosen.

    Attributes:
        node: its quantise node.
        source: what the source does there.
        derived: True if the source does not quantise it.
    """

    node: ir.Node
    source: Quantisation
    derived: bool

    @property
    def name(self) -> str:
        """The map's name."""
        return self.node.outputs[0].name or ""

    @property
    def unrounded(self) -> str:
        """Name of the value that is rounded."""
        source = self.node.inputs[0]
        return (source.name or "") if source is not None else ""


@dataclass(eq=False)
class StepClass:
    """Maps that share one step.

    Attributes:
        maps: the maps, producers first.
        unsigned: True if the hardware stores them unsigned.
    """

    maps: list[MapVariable] = field(default_factory=list)
    unsigned: bool = False


@dataclass(eq=False)
class Group:
    """Step classes that share one gamma.

    Attributes:
        classes: the step classes.
        pinned: True if gamma is one.
    """

    classes: list[StepClass] = field(default_factory=list)
    pinned: bool = False

    @property
    def maps(self) -> list[MapVariable]:
        """Every map of the group."""
        return [variable for item in self.classes for variable in item.maps]


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups of a LEGAL model.

    Attributes:
        groups: every group, in the order of the graph.
        class_of: the step class of every stored value.
        group_of: the group of every step class.
    """

    groups: list[Group]
    class_of: dict[ir.Value, StepClass]
    group_of: dict[StepClass, Group]


class _Sets:
    """Disjoint sets of values (union-find with path halving)."""

    def __init__(self) -> None:
        self._parent: dict[ir.Value, ir.Value] = {}

    def find(self, value: ir.Value) -> ir.Value:
        parent = self._parent.setdefault(value, value)
        while parent is not value:
            grandparent = self._parent[parent]
            self._parent[value] = grandparent
            value, parent = grandparent, self._parent[grandparent]
        return value

    def join(self, *values: ir.Value) -> None:
        first = self.find(values[0])
        for value in values[1:]:
            other = self.find(value)
            if other is not first:
                self._parent[other] = first


def group_maps(model: ir.Model, *, pin_io: bool, signed_maps: bool, derived: set[str]) -> Grouping:
    """Finds the groups of a LEGAL model.

    Args:
        model: every stored map has one quantise node.
        pin_io: gamma is one at graph inputs and outputs.
        signed_maps: the hardware has no unsigned maps.
        derived: names of maps that the source does not quantise.
    """
    steps, gammas = _Sets(), _Sets()
    variables: list[MapVariable] = []
    stored: set[ir.Value] = set()
    pinned: list[ir.Value] = []
    for node in model.graph:
        result = node.outputs[0]
        if dialect.is_quantize(node):
            quantisation = dialect.quantisation_of(node)
            variables.append(MapVariable(node, quantisation, (result.name or "") in derived))
            stored.add(result)
            steps.find(result)
            if pin_io and node.inputs[0] is not None and node.inputs[0].is_graph_input():
                pinned.append(result)
            continue
        maps = [value for value in node.inputs if value in stored]
        if not maps:
            continue
        target = _stored_result(node)
        if target is None:  # moves integers: its result is stored as it is
            stored.add(result)
            target = result
        if is_op(node, *SAME_SCALE) or is_op(node, "HardSwish"):
            steps.join(*maps, target)
            gammas.join(*maps, target)
        elif is_op(node, *_SHARE_GAMMA):
            gammas.join(*maps, target)
        if is_op(node, *_PINNED):
            pinned += [*maps, target]
    if pin_io:
        pinned += [value for value in model.graph.outputs if value in stored]
    return _collect(variables, stored, steps, gammas, pinned, signed_maps)


def _stored_result(node: ir.Node) -> ir.Value | None:
    """The map in which a layer's rounded result ends, None if the node does not round."""
    value = node.outputs[0]
    for _ in range(2):
        nodes = consumers(value)
        if len(nodes) != 1:
            return None
        if dialect.is_quantize(nodes[0]):
            return nodes[0].outputs[0]
        if not is_op(nodes[0], *PIPELINED) or is_op(node, *SAME_SCALE):
            return None
        value = nodes[0].outputs[0]
    return None


def _collect(
    variables: list[MapVariable],
    stored: set[ir.Value],
    steps: _Sets,
    gammas: _Sets,
    pinned: list[ir.Value],
    signed_maps: bool,
) -> Grouping:
    for value in stored:  # maps with one step have one gamma
        gammas.join(value, steps.find(value))
    classes: dict[ir.Value, StepClass] = {}
    groups: dict[ir.Value, Group] = {}
    group_of: dict[StepClass, Group] = {}
    for variable in variables:
        value = variable.node.outputs[0]
        step_root, gamma_root = steps.find(value), gammas.find(value)
        if step_root not in classes:
            item = classes[step_root] = StepClass()
            group = groups.setdefault(gamma_root, Group())
            group.classes.append(item)
            group_of[item] = group
        classes[step_root].maps.append(variable)
    for value in pinned:
        groups[gammas.find(value)].pinned = True
    for item in classes.values():
        item.unsigned = not signed_maps and all(
            variable.source.qmin >= 0 and variable.source.symmetric for variable in item.maps
        )
    class_of = {value: classes[steps.find(value)] for value in stored}
    return Grouping(list(groups.values()), class_of, group_of)
