"""Names: long, empty, equal, unprintable, and those that the converter itself gives."""

from __future__ import annotations

from random import Random

import onnx

from tests.fuzz.semantic.draft import WORDS, Draft, Mutation, some_node, value_names

_SUFFIXES = (
    "/quantize", "/out", ".1", ".2", "/folded", "/replaced", "/unrounded", "/weights", "/bias",
    "/weights_int", "/weights_real", "/real", "/int", "/shape", "/concat", "/concat/out", "/linear",
    "/parameter", ".weight", ".bias", "/nchw", "/in", "/step", "/zero_point", "@0_2_3_1", "/axes",
    "/rounded", "/identity", "/requantise", "/copy", "/moved", "/scale", "/offset",
)  # fmt: skip


def rename_value(graph: onnx.GraphProto, before: str, after: str) -> None:
    """Renames a value wherever it occurs."""
    for node in graph.node:
        node.input[:] = [after if name == before else name for name in node.input]
        node.output[:] = [after if name == before else name for name in node.output]
    infos = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for thing in infos:
        if thing.name == before:
            thing.name = after


def like_ours(draft: Draft, random: Random) -> str:
    """A value called as the converter would call what it makes of another one."""
    names = [name for name in value_names(draft.graph) if name]
    stems = [*names, *(node.name for node in draft.graph.node)]
    if not names:
        return ""
    before, after = random.choice(names), random.choice(stems) + random.choice(_SUFFIXES)
    rename_value(draft.graph, before, after)
    return f"{before!r} called {after!r}"


def odd(draft: Draft, random: Random) -> str:
    """A value with a name that is no good file name, terminal output or identifier."""
    names = [name for name in value_names(draft.graph) if name]
    if not names:
        return ""
    word = random.choice((*WORDS, "n" * 1_000_000, "%s%n{0}", "[red]x[/]", " ", '"', "'", "\\"))
    before = random.choice(names)
    rename_value(draft.graph, before, word)
    return f"{before!r} called {word[:20]!r}"


def equal(draft: Draft, random: Random) -> str:
    """Two values merge their names."""
    names = [name for name in value_names(draft.graph) if name]
    if len(names) < 2:
        return ""
    one, other = random.sample(names, 2)
    rename_value(draft.graph, one, other)
    return f"{one!r} called {other!r} too"


def node_names(draft: Draft, random: Random) -> str:
    """Nodes nameless, all of one name, or with the names of values."""
    how = random.choice(("none", "same", "odd", "value"))
    nodes = list(draft.graph.node)
    for node in nodes if how in {"none", "same"} else random.sample(nodes, min(len(nodes), 2)):
        if how == "none":
            node.name = ""
        elif how == "same":
            node.name = "node"
        elif how == "odd":
            node.name = random.choice((*WORDS, "N" * 1_000_000))
        else:
            node.name = random.choice(value_names(draft.graph) or ["x"])
    return how


def operator_names(draft: Draft, random: Random) -> str:
    node = some_node(draft, random)
    if node is None:
        return ""
    node.op_type = random.choice((*WORDS, "conv", "Conv ", "Relu\x00", "O" * 100_000))
    return f"{node.name[:20]!r} is a {node.op_type[:20]!r}"


MUTATIONS: tuple[Mutation, ...] = (
    like_ours, like_ours, like_ours, odd, odd, equal, node_names, operator_names,
)  # fmt: skip
