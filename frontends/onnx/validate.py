"""Whether the graph of a parsed model makes sense, before anything is built from it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from dlaconv.diagnostics import Diagnostic, listed
from dlaconv.frontends.onnx import problems

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")
_STRING, _GRAPH, _STRINGS, _GRAPHS, _SPARSE = 3, 5, 8, 10, 11
_MESSAGES = {4: "t", _GRAPH: "g", _SPARSE: "sparse_tensor", 13: "tp"}
"""Fields of the attributes that hold one message, by the type that they state."""
_MOST_NODES = 1_000_000
_DEEPEST = 100
_AGAIN = "export the network again"


def versions(model: onnx.ModelProto, file: str) -> Iterator[Diagnostic]:
    """Yields what is wrong with the versions that the model declares."""
    import onnx

    newest_ir, newest = int(onnx.IR_VERSION), onnx.defs.onnx_opset_version()
    upgrade = f"pip install -U onnx (installed: {onnx.__version__}), or export for an older version"
    if not 3 <= model.ir_version <= newest_ir:
        yield problems.unknown_version(
            file, f"ONNX IR version {model.ir_version}; known are 3 to {newest_ir}", upgrade
        )
    opsets = [entry.version for entry in model.opset_import if entry.domain in _STANDARD]
    if not opsets:
        yield problems.unknown_version(
            file,
            "the model imports no opset of ai.onnx",
            "export the network again with an explicit opset version, such as 18",
        )
    elif len(set(opsets)) > 1:
        yield problems.unknown_version(
            file, f"the model imports several opsets of ai.onnx: {opsets}", "keep one of them"
        )
    elif not 1 <= opsets[0] <= newest:
        yield problems.unknown_version(
            file, f"ONNX opset {opsets[0]}; known are 1 to {newest}", upgrade
        )


def graph(model: onnx.ModelProto, file: str, private: Collection[str] = ()) -> list[Diagnostic]:
    """What is wrong with the graph and the functions of a model, all of it.

    Args:
        model: the model as parsed.
        file: its path, for the messages.
        private: attributes that standard operators may carry although ONNX does not know them.
    """
    if len(model.graph.node) == 0 and len(model.graph.output) == 0:
        return [problems.not_onnx(file, "the file holds no graph")]
    checker = _Checker(file, {entry.domain: entry.version for entry in model.opset_import}, model)
    checker.private = frozenset(private)
    checker.expansion(model)
    if checker.found:  # thousands of functions need not be looked into
        return checker.found
    checker.graph(model.graph, ChainMap())
    checker.outputs(model.graph)
    for function in model.functions:
        checker.function(function)
    return checker.found


class _Checker:
    def __init__(self, file: str, opsets: dict[str, int], model: onnx.ModelProto) -> None:
        import onnx

        self.file = file
        self.found: list[Diagnostic] = []
        self.private: frozenset[str] = frozenset()
        self._functions = {(entry.domain, entry.name) for entry in model.functions}
        self._ir_version = model.ir_version
        self._context = self._checker_context(opsets)
        self._has_schema = onnx.defs.has
        self._check = onnx.checker.check_node
        self._error = onnx.checker.ValidationError

    def _checker_context(self, opsets: dict[str, int]) -> onnx.checker.C.CheckerContext:
        import onnx

        context = onnx.checker.C.CheckerContext()
        context.ir_version = self._ir_version
        context.opset_imports = {
            "" if domain in _STANDARD else domain: version for domain, version in opsets.items()
        }
        return context

    def graph(self, graph: onnx.GraphProto, outer: ChainMap[str, bool]) -> None:
        scope = outer.new_child()
        given = [entry.name for entry in graph.input]
        constants = [entry.name for entry in graph.initializer]
        constants += [entry.values.name for entry in graph.sparse_initializer]
        self._unique(given, "graph input")
        self._unique(constants, "initializer")
        if graph.sparse_initializer:
            self._add("sparse initializers are not read", "export dense weights")
        scope.update(dict.fromkeys([*given, *constants], True))
        self._nodes(graph.node, scope)
        for entry in graph.output:
            if entry.name not in scope:
                self._add(f"the graph output {entry.name!r} is made by no node", "export it again")
        self._unique([entry.name for entry in graph.output], "graph output")

    def outputs(self, graph: onnx.GraphProto) -> None:
        if not graph.output:
            self._add("the graph has no output, so it computes nothing", _AGAIN)

    def function(self, function: onnx.FunctionProto) -> None:
        opsets = {entry.domain: entry.version for entry in function.opset_import}
        outside, self._context = self._context, self._checker_context(opsets)
        scope: ChainMap[str, bool] = ChainMap(dict.fromkeys(function.input, True))
        self._nodes(function.node, scope, in_function=True)
        for name in function.output:
            if name not in scope:
                self._add(
                    f"the output {name!r} of function {function.name!r} is made by no node",
                    "export it again",
                )
        self._context = outside

    def _nodes(
        self,
        nodes: Sequence[onnx.NodeProto],
        scope: ChainMap[str, bool],
        *,
        in_function: bool = False,
    ) -> None:
        for node in nodes:
            for name in node.output:
                if name and name in scope.maps[0]:
                    self._add(f"the value {name!r} is made twice", "rename one of the two", node)
                elif name:
                    scope[name] = True
        for node in nodes:
            if not any(node.output):
                self._add("the node has no result", _AGAIN, node)
            for name in node.input:
                if name and name not in scope:
                    self._add(
                        f"input {name!r} is no input, weight or result of any node",
                        "export the network again; a part of the graph is missing",
                        node,
                    )
            self._attributes(node, scope, in_function=in_function)
            self._schema(node)
        if cycle := _cycle(nodes):
            names = listed([repr(_name(node)) for node in cycle])
            self._add(
                f"the graph has a cycle through {names}",
                "the accelerator runs feed-forward networks; unroll the recurrence",
                cycle[0],
            )

    def _attributes(
        self, node: onnx.NodeProto, scope: ChainMap[str, bool], *, in_function: bool
    ) -> None:
        names = [attribute.name for attribute in node.attribute]
        if len(set(names)) != len(names):
            self._add("an attribute is given twice", _AGAIN, node)
        for attribute in node.attribute:
            if attribute.ref_attr_name and not in_function:
                self._add(
                    f"attribute {attribute.name!r} refers to a function's attribute",
                    _AGAIN,
                    node,
                )
            field = _MESSAGES.get(attribute.type)
            if field and not (attribute.HasField(field) or attribute.ref_attr_name):
                self._add(f"attribute {attribute.name!r} has no value", _AGAIN, node)
            if not _is_text(attribute):
                self._add(f"attribute {attribute.name!r} is no UTF-8 text", _AGAIN, node)
            if attribute.type == _GRAPH:
                self.graph(attribute.g, scope)
            for subgraph in attribute.graphs if attribute.type == _GRAPHS else ():
                self.graph(subgraph, scope)
            if attribute.type == _SPARSE:
                self._add("sparse constants are not read", "export dense weights", node)

    def _schema(self, node: onnx.NodeProto) -> None:
        if node.domain not in _STANDARD or (node.domain, node.op_type) in self._functions:
            return
        if not self._has_schema(node.op_type, ""):
            return  # an operator of somebody's own: for the frontend to judge
        if any(attribute.type in {_GRAPH, _GRAPHS} for attribute in node.attribute):
            return  # its graphs read outer values, which the check does not know
        if any(attribute.name in self.private for attribute in node.attribute):
            node = self._without_private(node)
        try:
            self._check(node, self._context)
        except self._error as error:
            why = str(error).strip().partition("\n")[0]
            self._add(why, "the node breaks ONNX's own rules; export the network again", node)

    def _without_private(self, node: onnx.NodeProto) -> onnx.NodeProto:
        kept = [attribute for attribute in node.attribute if attribute.name not in self.private]
        copy = type(node)()
        copy.CopyFrom(node)
        del copy.attribute[:]
        copy.attribute.extend(kept)
        return copy

    def expansion(self, model: onnx.ModelProto) -> None:
        """Refuses functions that call themselves or unfold into more nodes than sense makes."""
        bodies = {(entry.domain, entry.name): entry.node for entry in model.functions}
        sizes: dict[tuple[str, str], int] = {}
        depths: dict[tuple[str, str], int] = {}
        for key in _callees_first(bodies):
            if key is None:
                self._add("a function calls itself", "inline the functions before the export")
                return
            callees = [(node.domain, node.op_type) for node in bodies[key]]
            sizes[key] = sum(sizes.get(callee, 1) for callee in callees)
            depths[key] = 1 + max((depths.get(callee, 0) for callee in callees), default=0)
        total = sum(sizes.get((node.domain, node.op_type), 1) for node in model.graph.node)
        total += sum(sizes.values())  # those that nobody calls are unfolded as well
        if (depth := max(depths.values(), default=0)) > _DEEPEST:
            self.found.append(
                problems.too_large(
                    self.file, f"functions {depth} deep in each other (at most {_DEEPEST})"
                )
            )
        if total > _MOST_NODES:
            self.found.append(
                problems.too_large(
                    self.file, f"{total} nodes when its functions are unfolded (at most 1000000)"
                )
            )

    def _unique(self, names: Iterable[str], kind: str) -> None:
        seen: set[str] = set()
        for name in names:
            if not name:
                self._add(f"a {kind} has no name", _AGAIN)
            elif name in seen:
                self._add(f"two values are called {name!r} ({kind})", "rename one of the two")
            seen.add(name)

    def _add(self, why: str, remedy: str, node: onnx.NodeProto | None = None) -> None:
        layer, op = (_name(node), node.op_type) if node is not None else ("", "")
        self.found.append(problems.invalid_graph(self.file, why, remedy, layer=layer, op=op))


def _name(node: onnx.NodeProto) -> str:
    return node.name or next((name for name in node.output if name), node.op_type)


def _is_text(attribute: onnx.AttributeProto) -> bool:
    strings = [attribute.s] if attribute.type == _STRING else []
    try:
        for value in [*strings, *(attribute.strings if attribute.type == _STRINGS else ())]:
            value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, those of its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.type == _GRAPH else list(attribute.graphs)
        for graph in graphs:
            for inner in graph.node:
                yield from _reads(inner)


def _cycle(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes of one cycle, in order of flow; empty if there is none (Kahn's algorithm)."""
    made_by = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    sources = [{made_by[name] for name in _reads(node) if name in made_by} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, wanted in enumerate(sources):
        for source in wanted:
            readers[source].append(index)
    waiting = [len(wanted) for wanted in sources]
    ready = [index for index, count in enumerate(waiting) if count == 0]
    done = 0
    while ready:
        done += 1
        for reader in readers[ready.pop()]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if done == len(nodes):
        return []
    index = next(index for index, count in enumerate(waiting) if count)
    path: list[int] = []
    seen: dict[int, int] = {}
    while index not in seen:  # every node left over has a source that is left over
        seen[index] = len(path)
        path.append(index)
        index = next(source for source in sources[index] if waiting[source])
    return [nodes[index] for index in reversed(path[seen[index] :])]


def _callees_first(
    bodies: dict[tuple[str, str], Sequence[onnx.NodeProto]],
) -> Iterator[tuple[str, str] | None]:
    """The functions, each behind those that it calls; None in place of a recursion."""
    import graphlib

    calls = {
        key: {(node.domain, node.op_type) for node in body} & bodies.keys()
        for key, body in bodies.items()
    }
    try:
        yield from graphlib.TopologicalSorter(calls).static_order()
    except graphlib.CycleError:
        yield None
