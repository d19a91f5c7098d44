"""One pass over calibration data for every map whose range must be known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.calibration.cumulative import MOST_BINS, all_counted, fine_bins
from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.calibration.histogram import BINS, Histogram, stride
from dlaconv.ir.execution import Executor, hold_weights

_VALUES = 1 << 16
"""Values of a map that are kept."""
_COUNTED, _LEAST, _MOST = 1 << 19, 1 << 12, 1 << 15
"""Values of a map that are counted in its histogram; of one sample, as many as these two say."""
_FIELDS = {
    "ends": (np.float64, 3), "zeros": (np.int64, 1), "counts": (np.int64, BINS),
    "seen": (np.int64, 1), "sizes": (np.int64, 1), "fine_sizes": (np.int64, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Observation:
    """What was seen of one map.

    Attributes:
        histogram: of all values.
        values: some of them, flat, from every sample.
    """

    histogram: Histogram
    values: np.ndarray


class Store(Protocol):
    """Keeps arrays from one conversion to the next."""

    def get(self, key: str) -> Mapping[str, np.ndarray] | None:
        """What was put under a key, None if nothing was."""

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps arrays under a key."""


def observe(
    model: ir.Model,
    data: Dataset,
    names: Sequence[str],
    store: Store | None = None,
    *,
    fine: bool = False,
) -> dict[str, Observation]:
    """Runs a model on data and gathers what its values are; a few samples at a time in memory.

    Args:
        model: a model of any stage.
        data: samples of its inputs.
        names: values of the model.
        store: has what was seen before by the same model on the same data.
        fine: runs it a second time, to count all values as `Histogram.fine` has them.
    """
    names = list(dict.fromkeys(names))
    key = ""
    if store is not None:
        key = f"{_key(model, data, names)}{'-fine' if fine else ''}"
        known = _unpacked(store.get(key), names)
        if known is not None:
            return known
    histograms = {name: Histogram() for name in names}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    counted = min(max(_COUNTED // max(1, len(data)), _LEAST), _MOST)
    share = max(1, _VALUES // max(1, len(data)))
    hold_weights(model)
    executor = Executor(model, names, optimise=not _rounds(model), samples=len(data))
    for seen in executor.run_each(data, lambda results: _seen(results, counted, share, fine)):
        for name, one in seen.items():
            histograms[name].merge(one.histogram)
            kept[name].append(one.values)
    if fine:
        _count_all(executor, data, histograms)
    found = {name: Observation(histograms[name], _joined(kept[name])) for name in names}
    if store is not None:
        store.put(key, _packed(found))
    return found


def _count_all(executor: Executor, data: Dataset, histograms: Mapping[str, Histogram]) -> None:
    """Goes through all samples again, since the ends of the bins are known only now."""
    wanted = {name: fine_bins(histogram) for name, histogram in histograms.items()}
    for counted in executor.run_each(data, lambda results: all_counted(results, wanted)):
        for name, counts in counted.items():
            known = histograms[name].fine
            histograms[name].fine = counts if known is None else known + counts


def _seen(
    results: Mapping[str, np.ndarray], counted: int, share: int, fine: bool
) -> dict[str, Observation]:
    """What is seen of each map on one sample: of its values so many are counted, and kept."""
    found = {}
    for name, array in results.items():
        histogram, flat = Histogram(), array.reshape(-1)
        histogram.add(flat, counted)
        if fine and flat.size:
            histogram.least = float(np.abs(flat).min())
        values = flat[:: stride(flat.size, share)].copy() if flat.size else flat
        found[name] = Observation(histogram, values)
    return found


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _rounds(model: ir.Model) -> bool:
    """True if a value is rounded somewhere, which onnxruntime's optimiser may move."""
    return any(dialect.rounds(node) for node in model.graph)


def _key(model: ir.Model, data: Dataset, names: Sequence[str]) -> str:
    """A hash of everything that an observation depends on."""
    text = f"{model_digest(model)} {data.digest()} {sorted(names)} {BINS} {_COUNTED} {_VALUES}"
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def model_digest(model: ir.Model) -> str:
    """A hash of a model's graph and weights."""
    digest = hashlib.blake2b(digest_size=20)
    for value in model.graph.inputs:
        digest.update(f"{value.name} {value.shape}\n".encode())
    for node in model.graph:
        ends = [value.name if value is not None else "" for value in (*node.inputs, *node.outputs)]
        digest.update(f"{node.domain} {node.op_type} {node.overload} {ends}\n".encode())
        for name, attribute in sorted(node.attributes.items()):
            digest.update(f"{name} {attribute.type}\n".encode())
            if attribute.type is ir.AttributeType.TENSOR:
                digest.update(attribute.as_tensor().tobytes())
            else:
                digest.update(repr(attribute.value).encode())
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            digest.update(f"{name} {value.const_value.shape}\n".encode())
            digest.update(np.ascontiguousarray(value.const_value.numpy()).view(np.uint8).data)
    return digest.hexdigest()


def _packed(found: Mapping[str, Observation]) -> dict[str, np.ndarray]:
    seen = [item.histogram for item in found.values()]
    return {
        "names": np.frombuffer("\n".join(found).encode(), np.uint8),
        "ends": np.array([[item.low, item.high, item.limit] for item in seen], np.float64),
        "zeros": np.array([[item.zeros] for item in seen], np.int64),
        "counts": np.array([item.counts for item in seen], np.int64),
        "seen": np.array([[item.seen] for item in seen], np.int64),
        "sizes": np.array([[item.values.size] for item in found.values()], np.int64),
        "fine_sizes": np.array([[len(_fine(item))] for item in seen], np.int64),
        "fine": np.concatenate([np.zeros(0, np.int64), *map(_fine, seen)]),
        "values": _joined([item.values for item in found.values()]),
    }


def _fine(histogram: Histogram) -> np.ndarray:
    return np.zeros(0, np.int64) if histogram.fine is None else histogram.fine


def _unpacked(
    arrays: Mapping[str, np.ndarray] | None, names: Sequence[str]
) -> dict[str, Observation] | None:
    """What `_packed` has packed; None if it is not that, or of other values."""
    if arrays is None or not arrays.keys() >= {*_FIELDS, "names", "values", "fine"}:
        return None
    if arrays["names"].dtype != np.uint8:
        return None
    if arrays["names"].tobytes() != "\n".join(names).encode():
        return None
    for field, (dtype, width) in _FIELDS.items():
        if arrays[field].dtype != dtype or arrays[field].shape != (len(names), width):
            return None
    kept = _split(arrays["values"].astype(np.float32), arrays["sizes"])
    fine = _split(arrays["fine"].astype(np.int64), arrays["fine_sizes"])
    if kept is None or fine is None or arrays["fine_sizes"].max(initial=0) > MOST_BINS:
        return None
    found: dict[str, Observation] = {}
    for index, (name, values) in enumerate(zip(names, kept, strict=True)):
        histogram = Histogram()
        histogram.low, histogram.high, histogram.limit = map(float, arrays["ends"][index])
        histogram.zeros = int(arrays["zeros"][index, 0])
        histogram.seen = int(arrays["seen"][index, 0])
        histogram.counts = arrays["counts"][index]
        histogram.fine = fine[index] if fine[index].size else None
        if not histogram.is_possible():
            return None
        found[name] = Observation(histogram, values)
    return found


def _split(array: np.ndarray, sizes: np.ndarray) -> list[np.ndarray] | None:
    """Parts of an array, of so many elements each; None if it has more or fewer."""
    sizes = sizes.reshape(-1)
    if array.ndim != 1 or sizes.min(initial=0) < 0 or sizes.sum() != array.size:
        return None
    return np.split(array, np.cumsum(sizes)[:-1])
