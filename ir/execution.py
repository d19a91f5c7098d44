"""Running any model of the pipeline in onnxruntime, with any of its values as result."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.lowering import lowered

if TYPE_CHECKING:
    import onnx

_LOG = logging.getLogger(__name__)
Arrays = dict[str, np.ndarray]


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
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                executable_proto(model, self.outputs).SerializeToString(),
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
    import onnx

    copy = lowered(model, keep=set(outputs))
    dialect.install(copy)
    proto: onnx.ModelProto = ir.to_proto(copy)
    if outputs:
        known = {value.name: value for value in proto.graph.output}
        types = {value.name: value for value in proto.graph.value_info}
        types |= {value.name: value for value in proto.graph.input} | known
        del proto.graph.output[:]
        proto.graph.output.extend(
            types.get(name) or onnx.ValueInfoProto(name=name) for name in outputs
        )
    return proto


def split_samples(samples: Mapping[str, np.ndarray]) -> Iterable[Arrays]:
    """Cuts stacked samples (first axis = sample) into feeds with a batch of one."""
    count = min((len(array) for array in samples.values()), default=0)
    for index in range(count):
        _LOG.info("sample %d of %d", index + 1, count)
        yield {name: array[index : index + 1] for name, array in samples.items()}
