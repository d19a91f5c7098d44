"""Running a network with some of its values replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from dlaconv.ir.execution import Arrays, Executor

_ASIDE = "org.dlaconv/replaced"


class Injector:
    """A network in which any of some values can be replaced, in one onnxruntime session.

    Each of the values goes through ``Where(flag, given, value)``; flag and given value are inputs.

    Attributes:
        names: the values.
        outputs: the graph outputs.
    """

    def __init__(self, model: ir.Model, names: Iterable[str]) -> None:
        """Prepares a network.

        Args:
            model: the network; it is not changed.
            names: results of its nodes, in floating point; others are left out.

        Raises:
            ValueError: if onnxruntime does not accept it.
        """
        wanted, copy = set(names), model.clone()
        graph = copy.graph
        self.outputs = tuple(value.name or "" for value in graph.outputs)
        returned = set(graph.outputs)
        graph.outputs.clear()
        places: dict[str, str] = {}
        self.names: list[str] = []
        self._stems: list[str] = []
        for node in list(graph):
            for value in node.outputs:
                name = value.name or ""
                if name not in wanted or value.dtype not in {None, ir.DataType.FLOAT}:
                    continue
                stem = f"{_ASIDE}/{len(self.names)}"
                flag = ir.val(f"{stem}/flag", dtype=ir.DataType.BOOL, shape=[])
                given = ir.val(f"{stem}/given", dtype=ir.DataType.FLOAT)
                choice = ir.node("Where", [flag, given, value], name=stem)
                choice.outputs[0].name = f"{stem}/chosen"
                choice.outputs[0].dtype = ir.DataType.FLOAT
                value.replace_all_uses_with(choice.outputs[0])
                choice.replace_input_with(2, value)
                graph.inputs.extend([flag, given])
                graph.insert_after(node, [choice])
                if value in returned:
                    places[name] = f"{stem}/chosen"
                self._stems.append(stem)
                self.names.append(name)
        self._results = [places.get(name, name) for name in self.outputs]
        self._executor = Executor(copy, list(dict.fromkeys([*self._results, *self.names])))

    def run(
        self, feeds: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]
    ) -> tuple[Arrays, Arrays]:
        """Runs one sample.

        Args:
            feeds: the graph inputs.
            given: what some of the values are replaced by.

        Returns:
            The graph outputs, and every replaceable value as it is computed of what is given.
        """
        chosen = dict(feeds)
        for name, stem in zip(self.names, self._stems, strict=True):
            chosen[f"{stem}/flag"] = np.array(name in given)
            chosen[f"{stem}/given"] = np.asarray(given.get(name, 0), np.float32)
        found = self._executor.run(chosen)
        outputs = {
            name: found[place] for name, place in zip(self.outputs, self._results, strict=True)
        }
        return outputs, {name: found[name] for name in self.names}
