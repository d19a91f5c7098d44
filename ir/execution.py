"""Running any model of the pipeline in onnxruntime, with any of its values as result."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import drop_unread
from dlaconv.ir.lowering import lowered

if TYPE_CHECKING:
    import onnx

_LOG = logging.getLogger(__name__)
Arrays = dict[str, np.ndarray]
_LARGE = 1 << 12
"""Bytes from which on a constant is handed to onnxruntime as it lies in memory."""
_NUMPY_TYPES = (
    ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT8, ir.DataType.UINT8,
    ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT32, ir.DataType.INT64,
)  # fmt: skip


class Executor:
    """A model made ready to run; keeps the onnxruntime session between samples.

    Graph optimisation is off: with it onnxruntime removes one of two neighbouring quantisations
    and reorders float arithmetic, so results would no longer be those of the graph as written.
    """

    def __init__(
        self, model: ir.Model, fetch: Iterable[str] | None = None, *, optimise: bool = False
    ) -> None:
        """Prepares a model.

        Args:
            model: the model; it is not changed.
            fetch: names of the values to return, the graph outputs if None.
            optimise: lets onnxruntime optimise the graph; only for graphs whose arithmetic is
                exact in any order.

        Raises:
            ValueError: if onnxruntime does not accept the model.
        """
        import onnxruntime

        self.inputs = tuple(value.name or "" for value in model.graph.inputs)
        self.outputs = (
            tuple(fetch) if fetch is not None else tuple(v.name or "" for v in model.graph.outputs)
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # idle threads that wait actively cost more than they gain beside other work
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        copy = _prepared(model, self.outputs)
        self._weights = _taken_out(copy.graph)  # read by onnxruntime where they are
        try:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in self._weights.values()]
            options.add_external_initializers(list(self._weights), values)
            self._session = onnxruntime.InferenceSession(
                ir.to_proto(copy).SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime raises its own untyped exceptions
            raise ValueError(f"onnxruntime does not accept the model: {error}") from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one sample (shapes as the graph's inputs) and returns the fetched values."""
        used = {name: feeds[name] for name in self.inputs}
        results: Sequence[Any] = self._session.run(list(self.outputs), used)
        return {name: np.asarray(value) for name, value in zip(self.outputs, results, strict=True)}


def run(
    model: ir.Model, feeds: Mapping[str, np.ndarray], fetch: Iterable[str] | None = None
) -> Arrays:
    """Runs a model once; see `Executor`."""
    return Executor(model, fetch).run(feeds)


def executable_proto(model: ir.Model, outputs: Sequence[str] = ()) -> onnx.ModelProto:
    """The model as a protobuf whose graph outputs are ``outputs`` (its own ones if empty).

    Constants of the dialect are computed; the model itself is not changed.
    """
    proto: onnx.ModelProto = ir.to_proto(_prepared(model, outputs))
    return proto


def _prepared(model: ir.Model, outputs: Sequence[str]) -> ir.Model:
    """A copy that onnxruntime can run, without what the outputs do not need."""
    copy = lowered(model, keep=set(outputs))
    graph = copy.graph
    if outputs:
        values = {value.name: value for value in graph.inputs} | dict(graph.initializers)
        values |= {value.name: value for node in graph for value in node.outputs}
        if missing := [name for name in outputs if name not in values]:
            raise ValueError(f"the model has no value {', '.join(map(repr, missing))}")
        graph.outputs[:] = [values[name] for name in outputs]
    drop_unread(graph)
    dialect.install(copy)
    return copy


def _taken_out(graph: ir.Graph) -> Arrays:
    """Puts references in the place of large initializers; returns these by name.

    In a protobuf they would be copied three times before onnxruntime has them.
    """
    found: Arrays = {}
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < _LARGE or tensor.dtype not in _NUMPY_TYPES:
            continue
        if not value.uses():
            continue  # a graph output; onnxruntime finds only those that a node reads
        array = np.require(tensor.numpy(), tensor.dtype.numpy(), ["C", "A"])
        found[name] = array
        value.const_value = ir.ExternalTensor(
            "memory", 0, array.nbytes, tensor.dtype, shape=ir.Shape(array.shape), name=name
        )
    return found


def split_samples(samples: Mapping[str, np.ndarray]) -> Iterable[Arrays]:
    """Cuts stacked samples (first axis = sample) into feeds with a batch of one."""
    count = min((len(array) for array in samples.values()), default=0)
    for index in range(count):
        _LOG.info("sample %d of %d", index + 1, count)
        yield {name: array[index : index + 1] for name, array in samples.items()}
