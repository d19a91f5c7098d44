"""Building the engine's graph: plain ONNX operators on float tensors that hold integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.grid_tensors import grid_tensor
from dlaconv.ir.layers import Map


@dataclass(frozen=True, eq=False)
class Signal:
    """A map inside the engine.

    Attributes:
        value: a float32 tensor that holds the map's integers times ``parts``.
        low: smallest content of the tensor.
        high: largest content of the tensor.
        parts: contents per unit of the map; 2 for half units.
        exact: False if the tensor holds real numbers instead, and nothing is proven.
    """

    value: ir.Value
    low: int
    high: int
    parts: int = 1
    exact: bool = True

    @property
    def magnitude(self) -> int:
        """Largest absolute content."""
        return max(abs(self.low), abs(self.high))


class Builder:
    """Collects nodes, constants and inputs of one graph.

    Attributes:
        nodes: the nodes, in order.
        inputs: the graph inputs.
        layer: what the nodes are named after.
        folding: see `dlaconv.backends.access.engine.requantise.Ending`.
    """

    def __init__(self, *, folding: bool = True) -> None:
        self.folding = folding
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []
        self.layer = ""
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], ir.Value] = {}
        self._count = 0

    def input(self, name: str, shape: Sequence[int]) -> ir.Value:
        """A float32 graph input."""
        value = ir.val(name, dtype=ir.DataType.FLOAT, shape=tuple(shape))
        self.inputs.append(value)
        return value

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        **attributes: int | Sequence[int],
    ) -> ir.Value:
        """One standard operator; returns its output."""
        self._count += 1
        name = f"{self.layer}/{op_type}.{self._count}"
        node = ir.node(op_type, list(inputs), attributes, name=name)
        node.outputs[0].name = f"{name}/out"
        self.nodes.append(node)
        return node.outputs[0]

    def constant(self, array: np.ndarray | float, *, double: bool = False) -> ir.Value:
        """A constant of the graph's float type; small equal ones are shared."""
        return self.tensor(np.asarray(array, np.float64 if double else np.float32))

    def tensor(self, array: np.ndarray) -> ir.Value:
        """A constant of the array's own type."""
        if array.size > 64:
            return self._new_constant(array)
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._constants:
            self._constants[key] = self._new_constant(array)
        return self._constants[key]

    def weights(self, integers: np.ndarray, steps: np.ndarray | None = None) -> ir.Value:
        """Constant float32 weights: integers, or these times steps of their rows."""
        self._count += 1
        name = f"{self.layer}/weights.{self._count}"
        return dialect.constant(
            name, grid_tensor(integers, np.ones(1) if steps is None else steps, name)
        )

    def to_double(self, value: ir.Value) -> ir.Value:
        """A tensor as float64."""
        return self.op("Cast", value, to=int(ir.DataType.DOUBLE))

    def to_single(self, value: ir.Value) -> ir.Value:
        """A tensor as float32."""
        return self.op("Cast", value, to=int(ir.DataType.FLOAT))

    def publish(self, value: ir.Value, stored: Map) -> ir.Value:
        """Gives a value the name and shape of the map that it holds."""
        value.name = stored.name
        value.shape = ir.Shape(stored.shape)
        value.dtype = ir.DataType.FLOAT
        return value

    def model(self, outputs: Sequence[ir.Value]) -> ir.Model:
        """The finished model."""
        graph = ir.Graph(
            self.inputs,
            list(outputs),
            nodes=self.nodes,
            opset_imports={"": dialect.OPSET},
            name="simulation",
        )
        for node in self.nodes:
            for value in node.inputs:
                if value is not None and value.const_value is not None:
                    graph.initializers.setdefault(value.name or "", value)
        return ir.Model(graph, ir_version=dialect.IR_VERSION, producer_name="dlaconv")

    def _new_constant(self, array: np.ndarray) -> ir.Value:
        self._count += 1
        return dialect.constant(f"{self.layer}/constant.{self._count}", array)
