"""Inputs to try a network on when the user gives none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.calibration.dataset import Dataset, Stacked
from dlaconv.ir.execution import Arrays, Executor
from dlaconv.ir.graph import shape_of
from dlaconv.ir.pipeline import Reread

_KEPT_VALUES = 1 << 16
"""Values of one map that are kept per run, so memory does not grow with the map."""


class RandomInputs(Dataset):
    """Seeded inputs, drawn when the first of them is asked for."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        ranges: Mapping[str, tuple[float, float]],
        count: int,
        seed: int,
    ) -> None:
        """See `random_inputs_of`."""
        self.names = tuple(shapes)
        self._count = count
        self._draw = partial(random_inputs_of, dict(shapes), dict(ranges), count, seed)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Stacked samples by graph input."""
        return self._draw()

    def __len__(self) -> int:
        return self._count if self.names else 0

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`."""
        return Stacked(self.arrays).samples()


def random_inputs(
    model: ir.Model, count: int, seed: int, rereads: Mapping[str, Reread] | None = None
) -> RandomInputs:
    """Seeded inputs that use the range of each graph input's quantiser.

    Half of the samples are normal with a third of the range as deviation, half are uniform, both
    clipped to the range. Of several quantisers the widest counts; without one the range is
    [-1, 1].

    Args:
        model: static input shapes with a batch of one.
        count: number of samples.
        seed: seed of the generator.
        rereads: maps that were quantised from a graph input before legalisation, by name.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for value in model.graph.inputs:
        shape = shape_of(value)
        if shape is None:
            raise ValueError(f"the shape of input {value.name!r} is not static")
        shapes[value.name or ""] = shape
    moved: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        reread = (rereads or {}).get(node.outputs[0].name or "")
        if reread is not None and dialect.is_quantize(node):
            moved.setdefault(reread.source, []).append(node)
    ranges = {
        value.name or "": quantised_range(value, moved.get(value.name or "", [])) or (-1.0, 1.0)
        for value in model.graph.inputs
    }
    return RandomInputs(shapes, ranges, count, seed)


def random_inputs_of(
    shapes: Mapping[str, tuple[int, ...]],
    ranges: Mapping[str, tuple[float, float]],
    count: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Seeded inputs, normal and uniform in turn, for given shapes (batch of one) and ranges."""
    generator = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes.items():
        low, high = ranges[name]
        centre, reach = (high + low) / 2, (high - low) / 2
        samples = np.empty((count, *shape[1:]), np.float32)
        # every sample is drawn in both ways, one at a time: all together would fill fresh memory
        for index in range(count):
            normal = generator.normal(size=shape[1:]) / 3
            if index % 2 == 0:
                samples[index] = centre + reach * np.clip(normal, -1, 1)
        for index in range(count):
            uniform = generator.uniform(-1, 1, shape[1:])
            if index % 2:
                samples[index] = centre + reach * uniform
        found[name] = samples
    return found


def quantised_range(value: ir.Value, moved: Sequence[ir.Node] = ()) -> tuple[float, float] | None:
    """The range of a graph input's quantisers together, None without any.

    Args:
        value: the graph input.
        moved: quantisers that read it before legalisation.
    """
    queue = [value]
    for _ in range(8):
        if not queue:
            break
        nodes = [use.node for use in queue.pop(0).uses()]
        if ends := [found for node in nodes if (found := dialect.ends_of(node)) is not None]:
            ends += [dialect.quantisation_of(node).ends for node in moved]
            return min(low for low, _ in ends), max(high for _, high in ends)
        queue.extend(output for node in nodes for output in node.outputs)
    return None


def observed_values(
    model: ir.Model, data: Dataset, names: Sequence[str], seed: int = 0
) -> dict[str, np.ndarray]:
    """A random part of what each named value is on the samples, flat; bounded per value.

    Args:
        model: a model of any stage.
        data: samples of the graph inputs.
        names: values of the model.
        seed: seed of the choice.
    """
    names = list(dict.fromkeys(names))
    if not names:
        return {}
    generator = np.random.default_rng(seed)
    share = max(1, _KEPT_VALUES // max(1, len(data)))
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    executor = Executor(model, names)
    for feeds in data:
        for name, array in executor.run(feeds).items():
            flat = array.reshape(-1)
            if flat.size > share:
                flat = flat[generator.integers(0, flat.size, share)]
            kept[name].append(flat.copy())
    return {name: np.concatenate(parts) for name, parts in kept.items() if parts}
