"""Running any model of the pipeline in onnxruntime, with any of its values as result."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import ConversionError
from dlaconv.ir import dialect
from dlaconv.ir.blocks import (
    BlockTensor,
    copy_rows,
    processors,
    shape_tuple,
    streamed,
    tensor_of,
)
from dlaconv.ir.graph import drop_unread, is_op, shape_of
from dlaconv.ir.grid_tensors import hand_over_integers
from dlaconv.ir.lowering import lowered

if TYPE_CHECKING:
    import onnx

_LOG = logging.getLogger(__name__)
_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
Arrays = dict[str, np.ndarray]
R = TypeVar("R")
_MOST_AT_ONCE = 4
_ROOM = 1 << 28
"""Bytes that the results of samples that are run at once may take together."""
_LARGE = 1 << 12
"""Bytes from which on a constant is handed to onnxruntime as it lies in memory."""
_CACHE_LINE = 64
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
        self,
        model: ir.Model,
        fetch: Iterable[str] | None = None,
        *,
        optimise: bool = False,
        compact: bool = False,
        samples: int = 1,
    ) -> None:
        """Prepares a model.

        Args:
            model: the model; it is not changed.
            fetch: names of the values to return, the graph outputs if None.
            optimise: lets onnxruntime optimise the graph; only for graphs whose arithmetic is
                exact in any order.
            compact: keeps constants on a grid as integers, which takes a quarter of the memory and
                is ready sooner, but makes floats of them in every run.
            samples: how many `run_each` will get. Several are then run at once, with less for the
                processors to wait for than if all of them work on each operator.

        Raises:
            ValueError: if onnxruntime does not accept the model.
            MemoryError: if there is not enough memory for it.
        """
        import onnxruntime

        self.inputs = tuple(value.name or "" for value in model.graph.inputs)
        self._shapes = {value.name or "": value.shape for value in model.graph.inputs}
        self.outputs = (
            tuple(fetch) if fetch is not None else tuple(v.name or "" for v in model.graph.outputs)
        )
        self._at_once = 1
        if not self.outputs:  # onnxruntime takes no such model
            return
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # idle threads that wait actively cost more than they gain beside other work
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # of matrix products, which gain little
        options.add_session_config_entry("session.disable_prepacking", "1")
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        copy = _prepared(model, self.outputs)
        if compact:
            hand_over_integers(copy.graph)
        self._at_once = min(samples, _fitting(copy.graph), processors(), _MOST_AT_ONCE)
        if self._at_once > 1:
            options.intra_op_num_threads = processors() // self._at_once
            options.enable_mem_pattern = False  # of each of them it would keep a plan
        weights = _taken_out(copy.graph)
        kept = _prepared_by_onnxruntime(copy.graph, weights) if optimise else []
        # onnxruntime copies initializers, but uses inputs where they are
        self._fed: Arrays = {name: array for name, array in weights.items() if name not in kept}
        _make_inputs(copy.graph, self._fed)
        try:
            if kept:
                arrays = [weights[name] for name in kept]
                values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
                options.add_external_initializers(kept, values)
            self._session = onnxruntime.InferenceSession(
                ir.to_proto(copy).SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime raises its own untyped exceptions
            raise _failure("onnxruntime does not accept the model", error) from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one sample (shapes as the graph's inputs) and returns the fetched values.

        Raises:
            ConversionError: if a sample has another shape than the network declares.
            ValueError: if onnxruntime fails.
            MemoryError: if it fails for want of memory.
        """
        if not self.outputs:
            return {}
        self._require_shapes(feeds)
        used = {name: feeds[name] for name in self.inputs} | self._fed
        try:
            results: Sequence[Any] = self._session.run(list(self.outputs), used)
        except Exception as error:
            raise _failure("onnxruntime fails", error) from error
        return {name: np.asarray(value) for name, value in zip(self.outputs, results, strict=True)}

    def run_each(self, samples: Iterable[Arrays], use: Callable[[Arrays], R]) -> Iterator[R]:
        """What is made of the results of each sample, in order; several may be run at once.

        Args:
            samples: as for `run`; they are taken in this thread.
            use: makes something small of the results, perhaps in another thread.

        Raises:
            ConversionError, ValueError, MemoryError: as `run`.
        """
        yield from streamed(lambda feeds: use(self.run(feeds)), samples, self._at_once)

    def _require_shapes(self, feeds: Mapping[str, np.ndarray]) -> None:
        found = [
            _misfit(name, shape, feeds[name].shape)
            for name, shape in self._shapes.items()
            if shape is not None and not _fits(feeds[name].shape, shape)
        ]
        if found:
            raise ConversionError(found)


def _fits(shape: tuple[int, ...], declared: ir.Shape) -> bool:
    return len(shape) == len(declared) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(declared, shape, strict=True)
    )


def _misfit(name: str, declared: ir.Shape, shape: tuple[int, ...]) -> Diagnostic:
    return Diagnostic(
        "DLA310",
        "contradicting-shapes",
        f"graph input {name!r} takes {declared}, a sample of it has the shape {list(shape)}",
        help=f"a sample has a batch of one: --set-shape {name}={','.join(map(str, shape))}",
    )


def _fitting(graph: ir.Graph) -> int:
    """Of how many samples there is room for the results; one where their size is not known."""
    shapes = [shape_of(value) for value in graph.outputs]
    values = sum(math.prod(shape) if shape is not None else _ROOM for shape in shapes)
    return max(1, _ROOM // max(1, 4 * values))


def _failure(what: str, error: Exception) -> Exception:
    """What an exception of onnxruntime means; only its text tells."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return MemoryError(text)
    return ValueError(f"{what}: {text}")


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
    large = {
        name: value.const_value
        for name, value in graph.initializers.items()
        # onnxruntime finds only those that a node reads
        if value.const_value is not None and value.uses() and _can_be_taken(value.const_value)
    }
    for name, tensor in large.items():
        graph.initializers[name].const_value = ir.ExternalTensor(
            "memory", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(shape_tuple(tensor)), name=name
        )
    return {name: _array_of(tensor) for name, tensor in large.items()}


def _can_be_taken(tensor: ir.TensorProtocol) -> bool:
    return tensor.nbytes >= _LARGE and tensor.dtype in _NUMPY_TYPES


def _array_of(tensor: ir.TensorProtocol) -> np.ndarray:
    """The values as onnxruntime wants them: those of a mapped file may lie at any address."""
    array = tensor.numpy()
    if array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative:
        return array
    fresh = np.empty(array.shape, tensor.dtype.numpy())
    copy_rows(np.atleast_1d(array), np.atleast_1d(fresh))
    return fresh


def hold_weights(model: ir.Model) -> None:
    """Brings large constants into memory, where every `Executor` uses them as they lie.

    Those of a mapped file seldom begin at an address that suits numbers, and would be copied each
    time; those that are computed would be computed each time.

    Args:
        model: keeps its values.
    """
    values = [
        value
        for value in model.graph.initializers.values()
        if value.const_value is not None and _can_be_taken(value.const_value)
    ]
    tensors = [tensor_of(value) for value in values]
    places = np.cumsum([0, *(-(-tensor.nbytes // _CACHE_LINE) * _CACHE_LINE for tensor in tensors)])
    memory = np.empty(places[-1], np.uint8)  # in one piece the system gives it in large pages

    for value, tensor, begin in zip(values, tensors, places[:-1], strict=True):
        flat = memory[begin : begin + tensor.nbytes].view(tensor.dtype.numpy())
        array = flat.reshape(shape_tuple(tensor))
        copy_rows(tensor if isinstance(tensor, BlockTensor) else tensor.numpy(), array)
        value.const_value = ir.Tensor(array, tensor.dtype, name=tensor.name)


def _prepared_by_onnxruntime(graph: ir.Graph, names: Iterable[str]) -> list[str]:
    """The constants that it lays out anew for its kernels, which pays where they are used often."""
    return [
        name
        for name in names
        if not all(_uses_once(use.node) for use in graph.initializers[name].uses())
    ]


def _uses_once(node: ir.Node) -> bool:
    """True for a layer that, for one sample, multiplies each weight once or a few times."""
    if is_op(node, "Conv"):
        shape = shape_of(node.outputs[0])
        return shape is not None and math.prod(shape[2:]) == 1
    return is_op(node, "Gemm", "MatMul")


def _make_inputs(graph: ir.Graph, names: Iterable[str]) -> None:
    for name in names:
        value = graph.initializers.pop(name)
        value.const_value = None
        if not value.is_graph_input():
            graph.inputs.append(value)


def split_samples(samples: Mapping[str, np.ndarray]) -> Iterable[Arrays]:
    """Cuts stacked samples (first axis = sample) into feeds with a batch of one."""
    count = min((len(array) for array in samples.values()), default=0)
    for index in range(count):
        _LOG.info("sample %d of %d", index + 1, count)
        yield {name: array[index : index + 1] for name, array in samples.items()}
