"""Which maps must be scaled together.

Let gamma be the hardware value of a map over its real value. Operands and result of Add, and
input and output of AveragePool, GlobalAveragePool and ReduceSum share gamma (a *group*). Maps on
both sides of an operator that has one scale (MaxPool, ReLU, Concat, Transpose, Reshape) share
gamma and step (a *step class*). Conv and FC absorb any ratio in their weight scales and separate
groups; a Concat that only feeds a weighted sum (`dlaconv.ir.scales.linearise`) ties the hardware
steps of its operands, not their gammas. Gamma is one at Tanh, Sigmoid, HardSwish, Div and MatMul of
two maps, and, with ``--io pin``, at graph inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.graph import consumers, is_op
from dlaconv.ir.layers import PIPELINED, SAME_SCALE
from dlaconv.ir.quantisation import Quantisation

SHARE_GAMMA = ("Add", "AveragePool", "GlobalAveragePool", "ReduceSum")
"""Operators whose maps share gamma, though not their step."""
_PINNED = ("Tanh", "Sigmoid", "HardSwish", "Div", "MatMul")


@dataclass(frozen=True, eq=False)
class MapVariable:
    """A stored map whose step is to be chosen.

    Attributes:
        node: its quantise node.
        source: what the source does there.
        derived: True if the source does not quantise it.
        loose: True if its range need not be covered whole: calibration data says what is used, or
            the range is a bound.
        sign: True if it holds signs, or is saturated on the way to one: its values do not say
            what step it needs.
        clip: least and largest value where it saturates instead of a clip of the source.
        held: True if the user says what it must hold: its step is never finer than the natural one.
        exact: True if the user says what its step is.
        kept: True if its step is a power of two that the source's hardware has, and stays.
    """

    node: ir.Node
    source: Quantisation
    derived: bool
    loose: bool = False
    sign: bool = False
    clip: tuple[float, float] | None = None
    held: bool = False
    exact: bool = False
    kept: bool = False

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

    @property
    def natural(self) -> bool:
        """True if no policy may change the natural steps: all maps are signs."""
        return all(variable.sign for variable in self.maps)


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups of a MAPPED model.

    Attributes:
        groups: every group, in the order of the graph.
        class_of: the step class of every stored value.
        group_of: the group of every step class.
        ties: pairs of step classes, of different groups, with one hardware step.
    """

    groups: list[Group]
    class_of: dict[ir.Value, StepClass]
    group_of: dict[StepClass, Group]
    ties: list[tuple[StepClass, StepClass]]


@dataclass(frozen=True)
class Constraints:
    """What decides the groups besides the graph.

    Attributes:
        pin_io: gamma is one at graph inputs and outputs.
        signed_maps: the hardware has no unsigned maps.
        derived: names of maps that the source does not quantise.
        bounded: those of them whose range is an interval bound.
        positive: those of them that are never negative.
        calibrated: the user gave data.
        sums: names of Concat results that only a weighted sum reads.
        signs: names of maps that hold signs, or are saturated on the way to one.
        clips: least and largest value of maps that saturate where the source clips, by name.
        held: maps whose range the user gives, by name; true if it is a step.
        fixed_point: the source computes in fixed point.
        cut: nodes that would share gamma and are to be looked at as if they did not.
    """

    pin_io: bool
    signed_maps: bool
    derived: Collection[str] = ()
    bounded: Collection[str] = ()
    positive: Collection[str] = ()
    calibrated: bool = False
    sums: Collection[str] = ()
    signs: Collection[str] = ()
    clips: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    held: Mapping[str, bool] = field(default_factory=dict)
    fixed_point: bool = False
    cut: Collection[ir.Node] = ()


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


class _Relations:
    """What a walk over the graph has found so far."""

    def __init__(self) -> None:
        self.steps, self.gammas = _Sets(), _Sets()
        self.variables: list[MapVariable] = []
        self.stored: dict[ir.Value, ir.Value] = {}  # to itself, or to the map that was moved
        self.pinned: list[ir.Value] = []
        self.ties: list[tuple[ir.Value, ir.Value]] = []

    def add_variable(self, node: ir.Node, constraints: Constraints) -> None:
        result, source = node.outputs[0], node.inputs[0]
        derived = (result.name or "") in constraints.derived
        held = (result.name or "") in constraints.held
        loose = constraints.calibrated or (result.name or "") in constraints.bounded
        sign = (result.name or "") in constraints.signs
        quantisation = dialect.quantisation_of(node)
        self.variables.append(
            MapVariable(
                node,
                quantisation,
                derived,
                loose and not held,
                sign,
                constraints.clips.get(result.name or ""),
                held,
                constraints.held.get(result.name or "", False),
                constraints.fixed_point and not derived and _is_power_of_two(quantisation),
            )
        )
        self.stored[result] = result
        if constraints.pin_io and source is not None and source.is_graph_input():
            self.pinned.append(result)

    def collect(self, constraints: Constraints) -> Grouping:
        for variable in self.variables:  # maps with one step have one gamma
            value = variable.node.outputs[0]
            self.gammas.join(value, self.steps.find(value))
        classes: dict[ir.Value, StepClass] = {}
        groups: dict[ir.Value, Group] = {}
        group_of: dict[StepClass, Group] = {}
        for variable in self.variables:
            value = variable.node.outputs[0]
            root = self.steps.find(value)
            if root not in classes:
                item = classes[root] = StepClass()
                group = groups.setdefault(self.gammas.find(value), Group())
                group.classes.append(item)
                group_of[item] = group
            classes[root].maps.append(variable)
        class_of = {value: classes[self.steps.find(self._origin(value))] for value in self.stored}
        for value in self.pinned:
            group_of[class_of[value]].pinned = True
        for item in classes.values():
            item.unsigned = not constraints.signed_maps and all(
                variable.name in constraints.positive
                or (variable.source.qmin >= 0 and variable.source.symmetric)
                for variable in item.maps
            )
        ties = [(class_of[one], class_of[other]) for one, other in self.ties]
        return Grouping(list(groups.values()), class_of, group_of, ties)

    def _origin(self, value: ir.Value) -> ir.Value:
        while (moved := self.stored[value]) is not value:
            value = moved
        return value


def _is_power_of_two(quantisation: Quantisation) -> bool:
    if not (quantisation.per_tensor and quantisation.symmetric):
        return False
    return PowerOfTwo.exactly(quantisation.scalar_step) is not None


def group_maps(model: ir.Model, constraints: Constraints) -> Grouping:
    """Finds the groups of a MAPPED model.

    Args:
        model: every stored map has one quantise node.
        constraints: what else decides.
    """
    found = _Relations()
    for node in model.graph:
        result = node.outputs[0]
        if dialect.is_quantize(node):
            found.add_variable(node, constraints)
            continue
        maps = [value for value in node.inputs if value in found.stored]
        if not maps:
            continue
        target = stored_result(node)
        if target is None:  # moves integers: its result is stored as it is
            found.stored[result] = maps[0]
            target = result
        if result.name in constraints.sums:
            found.ties.append((maps[0], maps[1]))
        elif is_op(node, *SAME_SCALE) or is_op(node, "HardSwish"):
            found.steps.join(*maps, target)
            found.gammas.join(*maps, target)
        elif is_op(node, *SHARE_GAMMA) and node not in constraints.cut:
            found.gammas.join(*maps, target)
        if is_op(node, *_PINNED):
            found.pinned += [*maps, target]
    if constraints.pin_io:
        found.pinned += [value for value in model.graph.outputs if value in found.stored]
    return found.collect(constraints)


def stored_result(node: ir.Node) -> ir.Value | None:
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
