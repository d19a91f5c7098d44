"""Attributes of nodes: missing, doubled, of wrong type, of extreme value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

from tests.fuzz.semantic.draft import (
    FLOATS,
    INTEGERS,
    WORDS,
    Draft,
    Mutation,
    attribute_of,
    pick,
    some_node,
)

_KNOWN = (
    "kernel_shape", "pads", "strides", "dilations", "group", "axis", "axes", "perm", "alpha",
    "transB", "transA", "epsilon", "auto_pad", "ceil_mode", "keepdims", "signed", "narrow",
    "rounding_mode", "to", "mode", "allowzero", "shape", "value", "num_outputs", "training_mode",
    "count_include_pad", "output_type", "storage_order", "spatial", "broadcast", "consumed_inputs",
)  # fmt: skip
Change = Callable[[onnx.NodeProto, AttributeProto, Random], str]
"""Changes an attribute of a node; returns what it did."""


def _lengths(random: Random) -> int:
    return random.choice((0, 1, 2, 2, 3, 4, 4, 4, 8, 500))


def _value(random: Random) -> Any:
    kind = random.randrange(8)
    if kind == 0:
        return random.choice(INTEGERS)
    if kind == 1:
        return random.choice(FLOATS)
    if kind == 2:
        return random.choice((*WORDS, b"\xff\xfe", b"\xed\xa0\x80"))
    if kind in {3, 4}:
        return [random.choice(INTEGERS) for _ in range(_lengths(random))]
    if kind == 5:
        return [random.choice(FLOATS) for _ in range(_lengths(random))]
    if kind == 6:
        return [random.choice(WORDS) for _ in range(_lengths(random))]
    return numpy_helper.from_array(np.zeros(random.choice(((), (3,), (0,))), np.float32))


def _replace(node: onnx.NodeProto, made: AttributeProto) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != made.name]
    del node.attribute[:]
    node.attribute.extend([*kept, made])


def _on_attribute(*types: int) -> Callable[[Change], Mutation]:
    """Makes a mutation of what changes one attribute, of these types or of any."""

    def made(change: Change) -> Mutation:
        @functools.wraps(change)
        def mutation(draft: Draft, random: Random) -> str:
            found = [
                (node, attribute)
                for node in draft.graph.node
                for attribute in node.attribute
                if not types or attribute.type in types
            ]
            return change(*random.choice(found), random) if found else ""

        return mutation

    return made


@_on_attribute()
def replace(node: onnx.NodeProto, attribute: AttributeProto, random: Random) -> str:
    """An attribute that is there takes a value of any type."""
    name, value = attribute.name, _value(random)
    _replace(node, attribute_of(name, value))
    return f"{name} of {node.name!r}: {str(value)[:60]!r}"


@_on_attribute(AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT)
def extreme(node: onnx.NodeProto, attribute: AttributeProto, random: Random) -> str:
    """A number of an attribute becomes extreme; its type stays."""
    if attribute.type == AttributeProto.FLOAT:
        attribute.f = random.choice(FLOATS)
    elif attribute.type == AttributeProto.INT:
        attribute.i = random.choice(INTEGERS)
    elif (index := pick(random, attribute.ints)) is not None:
        attribute.ints[index] = random.choice(INTEGERS)
        if random.random() < 0.2:
            attribute.ints[:] = [random.choice(INTEGERS)] * len(attribute.ints)
    return f"{attribute.name} of {node.name!r} is extreme: {list(attribute.ints) or attribute.i}"


@_on_attribute(AttributeProto.INTS)
def lengths(node: onnx.NodeProto, attribute: AttributeProto, random: Random) -> str:
    """A list of numbers is too long, too short or empty."""
    values = list(attribute.ints) or [1]
    attribute.ints[:] = (values * 100)[: _lengths(random)]
    return f"{attribute.name} of {node.name!r} has {len(attribute.ints)} numbers"


@_on_attribute()
def remove(node: onnx.NodeProto, attribute: AttributeProto, random: Random) -> str:
    """An attribute is missing, or all of a node are."""
    if random.random() < 0.2:
        del node.attribute[:]
        return f"all of {node.name!r} removed"
    name = attribute.name
    node.attribute.remove(attribute)
    return f"{name} of {node.name!r} removed"


def add(draft: Draft, random: Random) -> str:
    """An attribute that the operator may know."""
    node = some_node(draft, random)
    if node is None:
        return ""
    name, value = random.choice((*_KNOWN, "", "unheard_of")), _value(random)
    _replace(node, attribute_of(name, value))
    return f"{name} = {str(value)[:60]!r} on {node.name!r}"


@_on_attribute()
def twice(node: onnx.NodeProto, attribute: AttributeProto, random: Random) -> str:
    """An attribute is there twice."""
    node.attribute.append(attribute)
    return f"{attribute.name} of {node.name!r} twice"


@_on_attribute()
def stated_type(node: onnx.NodeProto, attribute: AttributeProto, random: Random) -> str:
    """The type that an attribute states is not that of its value."""
    attribute.type = random.choice(range(15))
    if random.random() < 0.2:
        attribute.ref_attr_name = random.choice(("alpha", attribute.name, "ä"))
    return f"{attribute.name} of {node.name!r} states type {attribute.type}"


@_on_attribute()
def rename(node: onnx.NodeProto, attribute: AttributeProto, random: Random) -> str:
    """An attribute has the name of another one."""
    before, attribute.name = attribute.name, random.choice(_KNOWN)
    return f"{before} of {node.name!r} called {attribute.name}"


MUTATIONS: tuple[Mutation, ...] = (
    replace, replace, extreme, extreme, extreme, lengths, remove, remove, add, add, twice,
    stated_type, rename,
)  # fmt: skip
