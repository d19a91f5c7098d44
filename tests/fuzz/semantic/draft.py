"""What semantic mutations work on, and the choices that many of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import onnx
from onnx import AttributeProto, helper


@dataclass
class Draft:
    """A network under change, with what is to lie beside its file.

    Attributes:
        model: the network.
        files: further files by name.
        links: symbolic links by name, with what they point to.
        pipes: names of pipes.
        must_refuse: True if a success would mean that a file was read that must not be.
    """

    model: onnx.ModelProto
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    pipes: list[str] = field(default_factory=list)
    must_refuse: bool = False

    @property
    def graph(self) -> onnx.GraphProto:
        return self.model.graph


Mutation = Callable[[Draft, Random], str]
"""Changes a draft; returns what it did, nothing if it found nothing to change."""

SMALL = (0, 1, 2, 3, 5, 7, 16, 32, 64)
INTEGERS = (
    *SMALL, -1, -2, -4, 127, 255, 2**15, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**62, 2**63 - 1,
    -(2**63),
)  # fmt: skip
FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 1e-13, 1e-38, 1e-45, 5e-39, 3.4e38, -3.4e38, 1e30, 1e10,
    float("inf"), float("-inf"), float("nan"), 2.0**-20, 2.0**-126, 2.0**-149, 2.0**127, 0.3,
)  # fmt: skip
WORDS = (
    "", "x", "NOTSET", "SAME_UPPER", "VALID", "ROUND", "half_even", "FLOOR", "nearest", "linear",
    "constant", "reflect", "wrap", "a\nb", "ä漢🙂", "\x1b[2J", "\x00", "x" * 5000, "../../../etc",
)  # fmt: skip


def value_names(graph: onnx.GraphProto) -> list[str]:
    """The names of all inputs, constants and results."""
    results = [name for node in graph.node for name in node.output]
    return [*(v.name for v in graph.input), *(t.name for t in graph.initializer), *results]


def pick(random: Random, items: Sequence[object]) -> int | None:
    """The index of one of the items, None if there is none."""
    return random.randrange(len(items)) if len(items) else None


def some_node(draft: Draft, random: Random, *op_types: str) -> onnx.NodeProto | None:
    """A node, of one of the types if any are given; None if there is none."""
    nodes = [node for node in draft.graph.node if not op_types or node.op_type in op_types]
    return random.choice(nodes) if nodes else None


def fresh(draft: Draft, stem: str) -> str:
    """A value name that the graph does not have."""
    taken = set(value_names(draft.graph))
    return next(name for n in range(10**6) if (name := f"{stem}{n or ''}") not in taken)


def attribute_of(name: str, value: Any) -> AttributeProto:
    """An attribute of any value, empty lists included, which are taken for integers."""
    if isinstance(value, list) and not value:
        return AttributeProto(name=name, type=AttributeProto.INTS)
    return helper.make_attribute(name, value)
